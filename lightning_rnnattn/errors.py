"""The error that a user, not a developer, is meant to read, and checks that raise it."""

import math
from collections.abc import Mapping


class UserError(ValueError):
    """Input that cannot be used: a file, a setting, a checkpoint.

    The message is one line that says what is wrong, where (``file:line`` or the YAML key) and the way out. The command
    line prints it without a traceback and exits with code 2.
    """


def require_probability(**shares: float) -> None:
    """Checks arguments that are probabilities below 1, by name: of dropping something, or a share to give away.

    Raises:
        UserError: if one does not lie in [0, 1).
    """
    for name, share in shares.items():
        if not 0.0 <= share < 1.0:
            raise UserError(f"{name}={share} is not a probability in [0, 1)")


def require_positive(owner: object, **sizes: int) -> None:
    """Checks arguments that are sizes or numbers of something, by name.

    Args:
        owner: whose arguments they are, for the message.
        sizes: the arguments.

    Raises:
        UserError: if one is below 1.
    """
    for name, size in sizes.items():
        if size < 1:
            raise UserError(f"{name}={size}: {type(owner).__name__} needs at least 1")


def require_at_least_one(prefix: str, **numbers: int | None) -> None:
    """Checks settings that are numbers of something, by name; None passes.

    Args:
        prefix: what stands before the names in the message, as ``data.`` does.
        numbers: the settings.

    Raises:
        UserError: if one is below 1.
    """
    _require(prefix, numbers, 1, math.inf, "at least 1")


def require_share(prefix: str, **shares: float | None) -> None:
    """Checks settings that are shares, likewise.

    Raises:
        UserError: if one does not lie in [0, 1).
    """
    _require(prefix, shares, 0, 1, "at least 0 and below 1")


def require_seed(prefix: str, **seeds: int | None) -> None:
    """Checks settings that are seeds, likewise.

    Raises:
        UserError: if one does not lie in [0, 2³²), as NumPy's must.
    """
    _require(prefix, seeds, 0, 2**32, "at least 0 and below 2³²")


def _require(prefix: str, numbers: Mapping[str, float | None], low: float, high: float, what: str) -> None:
    for name, number in numbers.items():
        if number is not None and not low <= number < high:
            raise UserError(f"{prefix}{name} is {number}: it must be {what}")
