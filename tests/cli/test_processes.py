"""How real commands end, alone and as several processes."""

import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from lightning_rnnattn.cli.processes import AGAIN, INTERRUPTED, lost_process

SBATCH = Path(__file__).parents[2] / "recipes/multi_gpu/job.sbatch"
PROGRAM = [sys.executable, "-m", "lightning_rnnattn"]
FIT = """\
    fit --model LanguageModel --model.input.embedding_size 4 --model.rnn.hidden_size 8 --model.optimizer SGD
    --model.optimizer.lr 0.1 --data TextDataModule --data.train_files text.txt --data.val_fraction 0.2 --data.seq_len 8
    --trainer.accelerator cpu --trainer.enable_progress_bar false --trainer.enable_model_summary false""".split()  # noqa: SIM905
STRIKE = """\
import os
from lightning.pytorch import Callback
from lightning_rnnattn.errors import UserError


class Strike(Callback):
    def __init__(self, how: int = 9, rank: int = 0, step: int = 3):
        self.how, self.rank, self.step = how, rank, step

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if trainer.global_step == self.step and trainer.global_rank == self.rank and trainer.ckpt_path is None:
            os.kill(os.getpid(), self.how)


class Fail(Callback):
    def __init__(self, error: str, rank: int = 0):
        self.error, self.rank = {"user": UserError, "bug": RuntimeError}[error], rank

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if trainer.global_step == 3 and trainer.global_rank == self.rank:
            raise self.error("what went wrong")
"""


@pytest.fixture(autouse=True)
def files(workdir):
    (workdir / "text.txt").write_text("to be or not to be, that is the question\n" * 40)
    (workdir / "own.py").write_text(STRIKE)


def run(*args, program=PROGRAM, **options):
    done = subprocess.run([*program, *args], capture_output=True, text=True, timeout=200, check=False, **options)
    assert "terminate called" not in done.stderr
    return done


def strike(**options):
    flags = [f"--trainer.callbacks.{name}={value}" for name, value in options.items()]
    return ["--import=own", "--trainer.callbacks+=own.Strike", *flags]


def last(version=0):
    return torch.load(f"runs/version_{version}/checkpoints/last.ckpt", weights_only=True)


@pytest.mark.parametrize(
    ("how", "code"), [(signal.SIGTERM, AGAIN), pytest.param(signal.SIGINT, INTERRUPTED, marks=pytest.mark.slow)]
)
def test_a_stopped_run_saves_and_says_how_it_ended(how, code):
    interactive = {"preexec_fn": lambda: signal.signal(signal.SIGINT, signal.default_int_handler)}
    done = run(*FIT, "--trainer.max_steps=9", *strike(how=int(how)), **interactive)
    assert done.returncode == code, done.stderr
    assert last()["global_step"] == 4
    assert "Traceback" not in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 1])
@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_a_process_that_dies_ends_the_run(rank, strategy):
    started = time.monotonic()
    two = [f"--config=trainer/{strategy}.yaml", "--trainer.devices=2", "--data.batch_size=2"]
    done = run(*FIT, *two, "--trainer.max_steps=9", *strike(rank=rank))
    assert time.monotonic() - started < 60
    assert done.returncode == (-signal.SIGKILL, AGAIN)[rank], done.stderr
    *_, line = done.stderr.splitlines()
    what = ("has ended", "was killed by signal 9; go on from its last checkpoint")[rank]
    assert line.startswith(f"error: another process of this run {what}")


@pytest.mark.parametrize(
    ("error", "rank", "code"),
    [
        ("user", 1, 2),
        pytest.param("bug", 1, 1, marks=pytest.mark.slow),
        pytest.param("user", 0, 2, marks=pytest.mark.slow),
        pytest.param("bug", 0, 1, marks=pytest.mark.slow),
    ],
)
def test_an_error_of_one_process_is_that_of_the_run(error, rank, code):
    started = time.monotonic()
    two = ["--config=trainer/ddp.yaml", "--trainer.devices=2", "--data.batch_size=2", "--import=own"]
    fail = ["--trainer.callbacks+=own.Fail", f"--trainer.callbacks.error={error}", f"--trainer.callbacks.rank={rank}"]
    done = run(*FIT, *two, "--trainer.max_steps=9", *fail)
    assert time.monotonic() - started < 60
    assert done.returncode == code, done.stderr
    assert done.stderr.count("what went wrong\n") == 1
    assert "go on from" not in done.stderr, "it would end so again"


BREAK = """\
import torch
from lightning_rnnattn import LanguageModel


class Broken(LanguageModel):
    # The second process alone has two losses that are no numbers.

    def step(self, batch, stage):
        total, weight = super().step(batch, stage)
        broken = stage == "train" and self.global_rank == 1 and self.trainer.global_step in (3, 5)
        return (total * float("nan") if broken else total), weight

    def on_train_end(self):
        torch.save(self.state_dict(), f"rank{self.global_rank}.pt")
"""


@pytest.mark.slow
@pytest.mark.parametrize("skip", [0, 1, 2])
def test_all_processes_leave_a_step_out_together_or_stop_together(skip, workdir):
    (workdir / "broken.py").write_text(BREAK)
    started = time.monotonic()
    guard = ["--trainer.callbacks+=FiniteLoss", f"--trainer.callbacks.skip={skip}"]
    two = ["--config=trainer/ddp.yaml", "--trainer.devices=2", "--data.batch_size=2"]
    done = run(*FIT, "--import=broken", "--model=broken.Broken", *two, "--trainer.max_steps=9", *guard)
    assert time.monotonic() - started < 60
    if skip < 2:
        assert done.returncode == 2, done.stderr
        assert f"at step {(4, 6)[skip]} (epoch 0, batch {(3, 5)[skip]})" in done.stderr
        assert "Traceback" not in done.stderr
    else:
        assert done.returncode == 0, done.stderr
        assert "(2 of 2 that may be)" in done.stderr
        first, second = (torch.load(f"rank{rank}.pt", weights_only=True) for rank in range(2))
        for name, tensor in first.items():
            assert tensor.isfinite().all()
            assert torch.equal(second[name], tensor), name
        assert last()["callbacks"]["FiniteLoss"] == {"skipped": 2}


@pytest.mark.slow
def test_torchrun_on_two_machines():
    args = [*FIT, "--config=trainer/multinode.yaml", "--trainer.devices=1", "--data.batch_size=2",
            "--trainer.max_steps=5"]  # fmt: skip
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nnodes=2", "--nproc-per-node=1",
                "--master-addr=127.0.0.1", "--master-port=29517"]  # fmt: skip
    nodes = [
        subprocess.Popen([*torchrun, f"--node-rank={node}", "-m", "lightning_rnnattn", *args],
                         stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        for node in range(2)
    ]  # fmt: skip
    for node in nodes:
        output, _ = node.communicate(timeout=200)
        assert node.returncode == 0, output
    assert run(*FIT, "--data.batch_size=4", "--trainer.max_steps=5").returncode == 0
    assert not Path("runs/version_2").exists(), "both nodes wrote"
    for name, tensor in last(1)["state_dict"].items():
        torch.testing.assert_close(last(0)["state_dict"][name], tensor, atol=1e-5, rtol=0, msg=name)


@pytest.mark.slow
def test_slurm_requeues(workdir):
    """As `recipes/multi_gpu/job.sbatch` has it: SIGTERM before the time is up, code 75, and the same command again."""
    environment = {**os.environ, "SLURM_JOB_ID": "1", "SLURM_JOB_NAME": "job", "SLURM_NTASKS": "1",
                   "SLURM_PROCID": "0", "SLURM_LOCALID": "0", "SLURM_NODEID": "0", "SLURM_NODELIST": "localhost",
                   "SLURM_NTASKS_PER_NODE": "1"}  # fmt: skip
    args = [*FIT, "--config=trainer/slurm.yaml", "--trainer.devices=1", "--trainer.max_steps=9", "--ckpt_path=last"]
    first = run(*args, *strike(how=int(signal.SIGTERM)), env=environment)
    assert first.returncode == AGAIN, first.stderr
    assert "there is no earlier run, so this starts anew" in first.stderr
    second = run(*args, env=environment)
    assert second.returncode == 0, second.stderr
    assert last(1)["global_step"] == 9
    assert not list(workdir.rglob("hpc_ckpt*"))


@pytest.mark.parametrize(
    ("code", "restarts", "again"),
    [
        (0, 0, False),
        (1, 0, False),
        (2, 0, False),
        (AGAIN, 0, True),
        (AGAIN, 9, True),
        (137, 0, True),
        (AGAIN, 10, False),
    ],
)
def test_the_batch_file_requeues_what_may_go_on(code, restarts, again, workdir):
    for name, script in {"srun": f"exit {code}", "scontrol": 'echo "$@" > requeued'}.items():
        (workdir / name).write_text(f"#!/bin/bash\n{script}\n")
        (workdir / name).chmod(0o755)
    environment = {**os.environ, "PATH": f"{workdir}:{os.environ['PATH']}", "SLURM_JOB_ID": "7"}
    if restarts:  # which SLURM does not set before the first
        environment["SLURM_RESTART_COUNT"] = str(restarts)
    done = run(program=["bash", str(SBATCH)], env=environment)
    assert done.returncode == code
    assert (workdir / "requeued").exists() == again
    assert not again or (workdir / "requeued").read_text() == "requeue 7\n"


@pytest.mark.slow
def test_another_number_of_processes(workdir):
    common = [*FIT, "--data.batch_size=2", "--trainer.max_epochs=2"]
    two = ["--trainer.strategy=ddp", "--trainer.devices=2", "--ckpt_path=last"]
    assert run(*common, "--trainer.max_steps=7").returncode == 0
    inside = run(*common, *two)
    assert inside.returncode == 2
    assert "the checkpoint is from the middle of an epoch" in inside.stderr
    assert "resume with the same" in inside.stderr
    assert run(*common, "--trainer.max_epochs=1").returncode == 0
    end = run(*common, *two)
    assert end.returncode == 0, end.stderr


@pytest.mark.slow
def test_a_full_disk_loses_nothing(workdir):
    assert run(*FIT, "--trainer.max_steps=4").returncode == 0
    size = Path("runs/version_0/checkpoints/last.ckpt").stat().st_size

    def limit():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size // 2, size // 2))

    done = run(*FIT, "--trainer.max_steps=9", "--ckpt_path=last", preexec_fn=limit)
    assert done.returncode == 2, done.stderr
    assert "the checkpoint cannot be written (File too large)" in done.stderr.splitlines()[-1]
    assert not list(workdir.rglob("*.partial"))
    assert run(*FIT, "--trainer.max_steps=9", "--ckpt_path=last").returncode == 0
    assert last(2)["global_step"] == 9


def test_errors_of_lost_connections():
    gloo = "[../third_party/gloo/gloo/transport/tcp/pair.cc:534] Connection closed by peer [127.0.0.1]:4242"
    assert lost_process(RuntimeError(gloo))
    assert not lost_process(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
