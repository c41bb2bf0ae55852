"""Short messages for wrong input: what is wrong, and the nearest right name."""

import errno
import re
from collections.abc import Iterable
from difflib import get_close_matches

from lightning_rnnattn.errors import UserError

_OF_THE_SYSTEM = {
    getattr(errno, name) for name in ("ENOENT", "EACCES", "EPERM", "EROFS", "ENOSPC", "EDQUOT", "ENOTDIR", "EISDIR")
}
"""Errors of files that are no fault of the program."""


def nearest(name: str, names: Iterable[str]) -> str:
    """A question that names what was probably meant, or nothing where nothing is near."""
    close = get_close_matches(name, list(names), n=1, cutoff=0.5)
    return f"; did you mean {close[0]}?" if close else ""


def user_error(error: BaseException) -> UserError | None:
    """What a user did wrong, or None where the program is at fault.

    Args:
        error: what was raised. jsonargparse wraps what goes wrong while it builds objects, so its causes are searched;
            not its context, since a bug in the handling of a mistake is still a bug.
    """
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, UserError):
            return cause
        if type(cause).__name__ == "MisconfigurationException":  # Lightning's; importing it would take seconds
            return UserError(str(cause))
        if (said := str(cause).strip()).startswith("`val_check_interval`"):  # a ValueError of Lightning's
            return UserError(f"trainer.{said.replace('`', '')}")
        if said.startswith("Early stopping conditioned on metric"):  # a RuntimeError of Lightning's
            return UserError(f"trainer.callbacks: {said.splitlines()[0]}")
        if isinstance(cause, OSError) and cause.errno in _OF_THE_SYSTEM and cause.filename is not None:
            return UserError(f"{cause.filename}: {cause.strerror}")
        if re.match("Storage size calculation overflowed|Trying to create tensor with negative dimension", str(cause)):
            return UserError(f"a size of the model is out of range: {cause}")
        if _is_out_of_memory(cause):
            wanted = re.search(r"[Tt]ried to allocate ([\d.]+ \w+)|you tried to allocate (\d+ bytes)", str(cause))
            how_much = f" (for {wanted[1] or wanted[2]} more)" if wanted else ""
            return UserError(
                f"out of memory{how_much}: lower data.batch_size (or data.max_tokens, data.seq_len), for which"
                " trainer.accumulate_grad_batches makes up, or the sizes of the model"
            )
        cause = cause.__cause__
    if str(error).startswith("Error(s) in loading state_dict"):
        first = str(error).partition("\n")[2].strip().partition("\n")[0]
        return UserError(f"the checkpoint does not fit the model: {first}")
    return None


def _is_out_of_memory(error: BaseException) -> bool:
    named = type(error).__name__ == "OutOfMemoryError" or isinstance(error, MemoryError)
    return named or "DefaultCPUAllocator: can't allocate memory" in str(error)


def subclass_names(base: type) -> set[str]:
    """The names of all classes that derive from one, of those imported so far."""
    children: list[type] = base.__subclasses__()
    return {child.__name__ for child in children}.union(*map(subclass_names, children))
