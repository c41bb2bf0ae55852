"""A data module that remembers how it was made, in plain values."""

import functools
import inspect
from collections.abc import Callable
from typing import Any

import lightning.pytorch as L
from lightning.pytorch.utilities import rank_zero_warn

from lightning_rnnattn.errors import UserError
from lightning_rnnattn.spec import class_path, spec

_READ = {
    "fit": ("train_dataloader", "val_dataloader"),
    "validate": ("val_dataloader",),
    "test": ("test_dataloader",),
    "predict": ("predict_dataloader",),
}


class RecordedDataModule(L.LightningDataModule):
    """A data module whose arguments are in every checkpoint as LightningCLI writes them, whoever makes it.

    Lightning's own ``save_hyperparameters()`` pickles objects such as a tokenizer specification when the module is made
    in Python, and such a checkpoint does not load with ``weights_only=True``. Here ``datamodule_hyper_parameters`` is
    always ``{"_class_path", "_instantiator", **arguments}`` of primitives, of the outermost class: a subclass with an
    ``__init__`` of its own is rebuilt with the arguments of that.
    """

    @property
    def place(self) -> dict[str, int]:
        """This process among those that share the data; in a mesh, those that hold other parameters share none."""
        if self.trainer is None:
            return {"rank": 0, "world_size": 1}
        share = getattr(self.trainer.strategy, "distributed_sampler_kwargs", None)
        if share is None:
            return {"rank": self.trainer.global_rank, "world_size": self.trainer.world_size}
        return {"rank": share["rank"], "world_size": share["num_replicas"]}

    @property
    def run(self) -> str:
        """What the trainer is doing with the data: ``fit``, ``validate``, ``test`` or ``predict``; else nothing."""
        running = self.trainer.state.fn if self.trainer is not None else None
        return "" if running is None else str(running.value)

    def prepare_data(self) -> None:
        """Read what the run will read, so that what is wrong with it is said before loggers open a folder for the run.

        Where there are several processes, one of them does; the others find in the cache what it has encoded.
        """
        for loader in _READ.get(self.run, ()):
            getattr(self, loader)()

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "__init__" in vars(cls):
            cls.__init__ = _recording(cls.__init__)  # type: ignore[method-assign]


def _recording(init: Callable[..., None]) -> Callable[..., None]:
    @functools.wraps(init)
    def recorded(self: RecordedDataModule, *args: Any, **kwargs: Any) -> None:
        init(self, *args, **kwargs)
        if type(self).__init__ is recorded:  # not that of a base class
            bound = inspect.signature(init).bind(self, *args, **kwargs)
            bound.apply_defaults()
            _, *names = bound.arguments
            arguments: dict[str, Any] = {}
            for name in names:
                kind, value = bound.signature.parameters[name].kind, bound.arguments[name]
                if kind is inspect.Parameter.VAR_POSITIONAL:  # which the parent has names for
                    arguments |= zip(_parent_names(type(self)), value, strict=False)
                else:
                    arguments |= value if kind is inspect.Parameter.VAR_KEYWORD else {name: value}
            record: dict[str, Any] = {
                "_class_path": class_path(type(self)),
                "_instantiator": "lightning.pytorch.cli.instantiate_module",
            }
            for name, value in arguments.items():
                try:
                    record[name] = spec(value, name)
                except UserError as error:
                    rank_zero_warn(f"the data module's argument {name!r} is not in the checkpoint: {error}")
            self.save_hyperparameters(record)

    return recorded


def _parent_names(cls: type) -> list[str]:
    """The arguments, in order, of the ``__init__`` that the class's own overrides."""
    _, parent, *_ = [vars(base)["__init__"] for base in cls.__mro__ if "__init__" in vars(base)]
    _, *names = inspect.signature(parent).parameters
    return names
