"""Choices with options of their own, as a YAML file names them."""

import dataclasses
from typing import Any

from lightning_rnnattn.spec import Described, class_path, spec


class Options(Described):
    """A frozen dataclass that is given to a data module: its class is the choice, its fields are the options."""

    def to_dict(self) -> dict[str, Any]:
        """The choice as YAML has it: ``{"class_path": ..., "init_args": {...}}``, primitives only."""
        names = [field.name for field in dataclasses.fields(self)]  # type: ignore[arg-type]  # subclasses are
        return {
            "class_path": class_path(type(self)),
            "init_args": {name: spec(getattr(self, name), name) for name in names},
        }
