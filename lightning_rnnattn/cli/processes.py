"""The end of a process: what it leaves behind, and the exit code that says how it ended."""

import gc
import os
import re
import signal

import torch.distributed

INTERRUPTED = 128 + signal.SIGINT
"""Exit code after Ctrl-C, as shells have it."""

PARENT = "LIGHTNING_RNNATTN_PARENT"
"""Environment variable: the first process of a run, which Lightning's launcher lets start the others."""

AGAIN = 75
"""Exit code of a run that SIGTERM ended after it had saved its state: the same command goes on (``EX_TEMPFAIL``)."""


def leave_process_group() -> None:
    """Ends the process group while the interpreter lives; nothing where there is none.

    The threads of gloo hold the tensors of finished collectives a little longer than the caller. If one lets go while
    Python is shutting down, the process dies of "terminate called without an active exception" after a successful run.
    The group joins its threads when its last reference is gone, so call this when models and trainers are.
    """
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        gc.collect()  # they refer to each other, and to the group
        torch.distributed.destroy_process_group()
        gc.collect()


def speak_for_others() -> None:
    """Lets the processes that this one starts know that its exit code is that of the run."""
    if not _is_started_by_lightning():
        os.environ[PARENT] = str(os.getpid())


def _is_started_by_lightning() -> bool:
    return os.environ.get("LOCAL_RANK", "0") != "0" and os.environ.get(PARENT) == str(os.getppid())


def exit_code(stop: SystemExit) -> int | str | None:
    """The exit code of a run that was stopped: `AGAIN` after SIGTERM, `INTERRUPTED` after Ctrl-C.

    Args:
        stop: what Lightning raised; its own codes are 0 and 1.
    """
    if type(stop).__name__ == "SIGTERMException":
        # Lightning's launcher, in the first process, would kill that one for any code of another it started.
        return 0 if _is_started_by_lightning() else AGAIN
    if isinstance(stop.__context__, KeyboardInterrupt):
        return INTERRUPTED
    return stop.code


def lost_process(error: RuntimeError) -> bool:
    """Whether an error of a collective says that another process is gone."""
    return bool(
        re.search(r"gloo.*(Connection (closed|reset) by peer|Broken pipe)|NCCL.*remote process", str(error), re.S)
    )
