"""The end of a process: what it leaves behind, and the exit code that says how it ended."""

import gc
import os
import re
import signal
import sys
import time
from collections.abc import Sequence
from subprocess import Popen
from threading import Thread
from typing import Any, NoReturn

import torch.distributed
from lightning.pytorch import Callback, LightningModule, Trainer

INTERRUPTED = 128 + signal.SIGINT
"""Exit code after Ctrl-C, as shells have it."""

PARENT = "LIGHTNING_RNNATTN_PARENT"
"""Environment variable: the first process of a run, which Lightning's launcher lets start the others."""

AGAIN = 75
"""Exit code of a run that the same command goes on with (``EX_TEMPFAIL``): SIGTERM ended it after it had saved its
state, or it lost a process that was killed, or of which nothing is known."""

_PATIENCE = 5.0
"""Seconds in which processes that lose each other should have ended."""

_GO_ON = "go on from its last checkpoint with the same command and --ckpt_path last"


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
    if os.environ.get("LOCAL_RANK", "0") == "0" or os.environ.get(PARENT) != str(os.getppid()):
        os.environ[PARENT] = str(os.getpid())


def _is_started_by_lightning() -> bool:
    return os.environ.get(PARENT) != str(os.getpid())


def exit_code(stop: SystemExit) -> int | str | None:
    """The exit code of a run that was stopped: `AGAIN` after SIGTERM, `INTERRUPTED` after Ctrl-C.

    Args:
        stop: what Lightning raised; its own codes are 0 and 1.
    """
    if type(stop).__name__ == "SIGTERMException":
        # The first process, which may still be saving, would end for any other code.
        return 0 if _is_started_by_lightning() else AGAIN
    if isinstance(stop.__context__, KeyboardInterrupt):
        return INTERRUPTED
    return stop.code


class StartedProcesses(Callback):
    """Ends the run, on the first process of a machine, when one that Lightning's launcher started has ended.

    Lightning's own observer kills the first process, whatever it is doing and whatever the reason was. Here it has some
    seconds to find out for itself, in a collective as a rule, and its exit code says what became of the others.
    """

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Watch the processes in the place of Lightning's observer."""
        launcher: Any = trainer.strategy.launcher
        if watched := getattr(launcher, "procs", None):
            launcher.procs = list(watched)
            watched.clear()  # the observer's: it has nothing left to see
            Thread(target=self._watch, args=(launcher.procs,), daemon=True).start()

    def _watch(self, processes: Sequence[Popen[bytes]]) -> None:
        while not any(process.poll() for process in processes):
            time.sleep(1)
        time.sleep(_PATIENCE)
        end_without_others(processes)


def end_without_others(started: Sequence[Popen[bytes]]) -> NoReturn:
    """Ends this process, which has lost another one of its run, with a line that says what can be done.

    Nothing that waits for the others may be called: the group is broken.

    Args:
        started: the processes that this one has started, if any. Where one of them ended by an error of its own, the
            exit code is that one's, since the same command would end so again; else it is `AGAIN`.
    """
    codes = _codes(started)
    if failed := [code for code in codes if code > 0]:
        line = f"another process of this run has ended with code {failed[0]}; what it wrote says why"
    elif codes:
        line = f"another process of this run was killed by signal {-codes[0]}; {_GO_ON}"
    elif _is_started_by_lightning():  # the first process, if that is not the one, says what can be done
        line = "another process of this run has ended"
    else:
        line = f"another process of this run has ended; unless it wrote what is wrong, {_GO_ON}"
    sys.stderr.write(f"error: {line}\n")
    sys.stderr.flush()
    os._exit(failed[0] if failed else AGAIN)


def _codes(processes: Sequence[Popen[bytes]]) -> list[int]:
    """How processes ended that did so for a reason of their own; those that are left are killed."""

    def ended() -> list[int]:
        return [process.returncode for process in processes if process.poll() not in (None, 0, AGAIN)]

    stop = time.monotonic() + _PATIENCE
    while not (codes := ended()) and time.monotonic() < stop and any(process.poll() is None for process in processes):
        time.sleep(0.05)
    for process in processes:
        process.kill()
    return codes


def lost_process(error: RuntimeError) -> bool:
    """Whether an error of a collective says that another process is gone."""
    return bool(
        re.search(r"gloo.*(Connection (closed|reset) by peer|Broken pipe)|NCCL.*remote process", str(error), re.S)
    )
