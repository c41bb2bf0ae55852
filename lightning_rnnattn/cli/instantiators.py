"""How the data module and the model are built from the configuration: what one knows, the other need not be told."""

import inspect
from collections.abc import Mapping
from functools import partial
from pkgutil import resolve_name
from typing import Any

import torch
from lightning.pytorch import LightningDataModule, LightningModule
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI, _InstantiatorFn

from lightning_rnnattn.errors import UserError
from lightning_rnnattn.modules.checkpoint import misfit
from lightning_rnnattn.modules.checkpointed import Vocabulary


class DataInstantiator:
    """Builds the data module, and hands it the checkpoint's vocabularies.

    They are set before anything is read, so that the ids in the data mean what they meant when the weights were
    trained. A data module without an attribute of that name that can be set is left alone.
    """

    def __init__(self, cli: LightningCLI, vocabularies: Mapping[str, Vocabulary]) -> None:
        self._build = _InstantiatorFn(cli, "data")
        self.vocabularies = vocabularies
        self.built: Any = None

    def __call__(
        self, class_type: type[LightningDataModule], *, applied_instantiation_links: Any, **kwargs: Any
    ) -> Any:
        """Builds it."""
        self.built = self._build(class_type, applied_instantiation_links=applied_instantiation_links, **kwargs)
        for name, vocabulary in self.vocabularies.items():
            if getattr(getattr(class_type, name, None), "fset", None):
                setattr(self.built, name, vocabulary)
        return self.built


class ModelInstantiator:
    """Builds the model, and asks the data module for every required argument that nobody gave.

    `vocab_size` is the usual one: where the model's `__init__` requires it and no YAML or flag gives it, the data
    module's `vocab_size` is taken. Any other name works alike (a classifier's `num_labels`), with nothing to register:
    the model requires an argument, the data module has an attribute of that name. A value given by hand must agree with
    the data module's. The values travel in the checkpoint's hyper-parameters.

    Args:
        cli: whose configuration is built.
        data: what has built, or will build, the data module.
        expected: the shapes of the weights that are going to be loaded, where some are.
    """

    def __init__(self, cli: LightningCLI, data: DataInstantiator, expected: Mapping[str, torch.Size] | None) -> None:
        self._build = _InstantiatorFn(cli, "model")
        self._cli: Any = cli
        self.data = data
        self.expected = expected

    def __call__(self, class_type: type[LightningModule], *, applied_instantiation_links: Any, **kwargs: Any) -> Any:
        """Builds it; a model that is an argument of another has its own already.

        Raises:
            UserError: an argument is missing, or contradicts the data, or the weights do not fit.
        """
        if class_type is not resolve_name(self._cli.config[self._cli.command].model.class_path):
            return class_type(**kwargs)
        required = {name: value for name, value in kwargs.items() if _requires(class_type, name)}
        asked = {name: self._ask(class_type, name, given) for name, given in required.items()}
        # Lightning records the values of links in the hyper-parameters: these are links in all but name.
        links = {f"model.init_args.{name}": value for name, value in asked.items()} | applied_instantiation_links
        build = partial(self._build, class_type, applied_instantiation_links=links, **(kwargs | asked))
        if self.expected is not None and (wrong := misfit(build, self.expected)):
            raise UserError(f"the checkpoint does not fit the model: {wrong}")
        return build()

    def _ask(self, class_type: type[LightningModule], name: str, given: Any) -> Any:
        source = type(self.data.built).__name__
        known = getattr(self.data.built, name, None)
        if given is None and known is None:
            raise UserError(f"model.{name} is missing: {class_type.__name__} requires it, and {source} has no {name!r}")
        if None not in (given, known) and given != known:
            raise UserError(f"model.{name} is {given}, but {source} has {name} = {known}; leave it out to take that")
        return known if given is None else given


def optional_model_arguments(parser: LightningArgumentParser) -> None:
    """Lets the parser accept a model without its required arguments: `ModelInstantiator` has the last word on them."""
    model: Any = next(action for action in parser._actions if action.dest == "model")
    model.sub_add_kwargs["linked_targets"] = _EveryName()


class _EveryName(frozenset[str]):
    """Targets of links, which jsonargparse does not require: it has every name, and nothing to iterate over."""

    def __contains__(self, name: object) -> bool:
        return True


def _requires(class_type: type[LightningModule], name: str) -> bool:
    """Whether an argument has no default; of a class and its parents, the first whose `__init__` names it decides."""
    for base in class_type.__mro__:
        parameter = inspect.signature(vars(base)["__init__"]).parameters.get(name) if "__init__" in vars(base) else None
        if parameter is not None and parameter.kind is not parameter.VAR_KEYWORD:
            return parameter.default is parameter.empty
    return False
