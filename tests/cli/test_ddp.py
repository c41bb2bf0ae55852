"""Two processes on the CPU, as a real command: the second one runs the same command line again."""

import subprocess
import sys
from pathlib import Path

import torch


def test_fit_with_two_processes(workdir):
    (workdir / "own.py").write_text(
        "from lightning_rnnattn import LanguageModel\nclass Own(LanguageModel):\n    '''Importable in both.'''\n"
    )
    program = Path(sys.executable).with_name("lightning_rnnattn")
    flags = """--import own --model Own --model.embedding_size 4 --model.rnn.hidden_size 8 --config data/tinyshakespeare
        --config trainer/ddp.yaml --trainer.accelerator cpu --trainer.devices 2 --data.seq_len 8 --trainer.max_steps 3
        --trainer.limit_val_batches 2 --trainer.val_check_interval 3 --trainer.enable_progress_bar false"""
    done = subprocess.run([program, "fit", *flags.split()], capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stderr
    assert "GLOBAL_RANK: 1, MEMBER: 2/2" in done.stderr
    last = torch.load("runs/version_0/checkpoints/last.ckpt", weights_only=True)
    assert last["global_step"] == 3
    assert last["hyper_parameters"]["_class_path"] == "own.Own"
    assert not Path("runs/version_1").exists()
