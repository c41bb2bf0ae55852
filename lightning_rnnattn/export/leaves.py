"""Nested state as a flat list of tensors with names, which is all that a graph can take and give."""

from collections.abc import Iterator
from typing import Any

from torch import Tensor


def leaves(state: Any, name: str = "") -> dict[str, Tensor]:
    """The tensors in nested tuples, by the path to each, in order.

    Args:
        state: a tensor, None, or a tuple of such; a NamedTuple gives its names.
        name: the path to ``state`` itself.

    Example:
        >>> list(leaves(Memory(key=torch.zeros(1), value=torch.zeros(1), mask=None), "memory"))
        ['memory.key', 'memory.value']
    """
    if state is None:
        return {}
    if isinstance(state, Tensor):
        return {name: state}
    names = getattr(state, "_fields", range(len(state)))
    found: dict[str, Tensor] = {}
    for key, part in zip(names, state, strict=True):
        found |= leaves(part, f"{name}.{key}" if name else str(key))
    return found


def rebuild(like: Any, tensors: Iterator[Tensor]) -> Any:
    """The state whose `leaves` these are.

    Args:
        like: a state of the same form.
        tensors: as many as it has, in order.
    """
    if like is None:
        return None
    if isinstance(like, Tensor):
        return next(tensors)
    parts = [rebuild(part, tensors) for part in like]
    return type(like)(*parts) if hasattr(like, "_fields") else tuple(parts)
