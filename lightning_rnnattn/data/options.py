"""Choices with options of their own, as a YAML file names them."""

from lightning_rnnattn.spec import Described


class Options(Described):
    """A frozen dataclass that is given to a data module: its class is the choice, its fields are the options."""
