"""Trains a small language model in the ways that its arguments name; `test_ddp.py` compares what is left."""

import sys
from functools import partial

import lightning.pytorch as L
import torch

from lightning_rnnattn import LSTM, AdaptiveSpanAttention, LanguageModel, TextDataModule, TokenEmbedding
from lightning_rnnattn.callbacks import LastCheckpoint, LengthScaledLR
from lightning_rnnattn.cli.processes import leave_process_group
from lightning_rnnattn.modules import Sharded

STEPS, STOPPED = 50, 10  # an epoch has some 18 steps
SAVED = {"resumed": "stopped", "sharded_resumed": "sharded_stopped", "unsharded": "sharded_stopped"}


def run(name: str) -> None:
    L.seed_everything(1)
    dropout = 0.0 if name in ("one", "two", "sharded") else 0.3
    sharded, stopped = name.startswith("sharded"), name.endswith("stopped")
    processes = 1 if name == "one" else 2
    data = TextDataModule("text.txt", val_fraction=0.3, batch_size=4 // processes, seq_len=8, seq_len_std=2.0)
    model = LanguageModel(
        data.vocab_size,
        partial(TokenEmbedding, embedding_size=8, dropout=dropout),
        rnn=partial(LSTM, hidden_size=8, weight_dropout=dropout),
        attention=partial(AdaptiveSpanAttention, window=12, dropout=dropout, ramp=4, span_penalty=0.01),
        dropout=dropout,
        optimizer=partial(torch.optim.SGD, lr=0.5),
    )
    trainer = L.Trainer(
        accelerator="cpu",
        devices=processes,
        strategy=Sharded() if sharded else "ddp" if processes > 1 else "auto",
        max_steps=STOPPED if stopped else STEPS,
        gradient_clip_val=0.1,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        callbacks=[LengthScaledLR(), LastCheckpoint(dirpath=f"checkpoints_{name}")],
    )
    trainer.fit(model, data, ckpt_path=f"checkpoints_{SAVED[name]}/last.ckpt" if name in SAVED else None)
    assert trainer.global_step == (STOPPED if stopped else STEPS)
    weights = {key: _whole(tensor).clone() for key, tensor in model.state_dict().items()}
    metrics = trainer.validate(model, data, verbose=False)[0]
    if trainer.is_global_zero:
        metrics = {key: torch.tensor(value) for key, value in metrics.items()}
        torch.save({"weights": weights, "metrics": metrics}, f"{name}.pt")


def _whole(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor


if __name__ == "__main__":
    for name in sys.argv[1:]:
        run(name)
    leave_process_group()
