import doctest
import importlib
import inspect
import pkgutil
from functools import partial

import pytest
import torch

import lightning_rnnattn
from lightning_rnnattn.modules import SequenceModule
from lightning_rnnattn.ops import lengths_mask

MODULES = [
    module.name
    for module in pkgutil.walk_packages(lightning_rnnattn.__path__, "lightning_rnnattn.")
    if not module.name.endswith("__main__")
]


@pytest.mark.parametrize("name", MODULES)
def test_examples_in_docstrings_run(name):
    if name.endswith("triton_kernels"):
        pytest.importorskip("triton")
    module = importlib.import_module(name)
    names = {name: getattr(lightning_rnnattn, name) for name in lightning_rnnattn.__all__}
    known = {**names, "torch": torch, "partial": partial, "lengths_mask": lengths_mask, **vars(module)}
    assert doctest.testmod(module, extraglobs=known).failed == 0


def test_public_names_are_all_there():
    for name in lightning_rnnattn.__all__:
        assert getattr(lightning_rnnattn, name) is not None
    with pytest.raises(AttributeError, match="NoSuchName"):
        lightning_rnnattn.NoSuchName  # noqa: B018


def test_only_modules_have_partials_as_defaults():
    """They record theirs. Of a class within them a checkpoint may have the name alone, and then options are lost."""
    classes = [cls for name in lightning_rnnattn.__all__ if isinstance(cls := getattr(lightning_rnnattn, name), type)]
    parts = [cls for cls in classes if not issubclass(cls, (SequenceModule, Exception))]
    assert len(parts) > 50
    for cls in parts:
        for parameter in inspect.signature(cls).parameters.values():
            assert not isinstance(parameter.default, partial), (cls, parameter)
