from functools import partial

import lightning.pytorch as L
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader

from lightning_rnnattn import (
    LSTM,
    LanguageModel,
    LuongDecoder,
    Seq2Seq,
    SequenceClassifier,
    SequenceTagger,
    TokenEmbedding,
    load,
)
from lightning_rnnattn.callbacks import BestCheckpoint
from lightning_rnnattn.modules import Loss, SequenceModule

SMALL = {"input": partial(TokenEmbedding, embedding_size=6), "rnn": partial(LSTM, hidden_size=8)}


class Line(SequenceModule):
    """A subclass that says what is learnt, and nothing more."""

    def __init__(self, size: int = 3):
        super().__init__(partial(torch.optim.SGD, lr=0.1))
        self.layer = nn.Linear(size, 1)

    def step(self, batch, stage):
        return Loss(self.layer(batch).square().sum(), torch.tensor(len(batch)))


def test_a_module_that_says_what_is_learnt_is_validated_and_tested(tmp_path):
    rows = torch.randn(10, 3)
    loaders = [DataLoader(rows, batch_size=4) for _ in range(2)]
    trainer = L.Trainer(
        accelerator="cpu",
        logger=False,
        max_epochs=2,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[BestCheckpoint(dirpath=str(tmp_path))],
    )
    trainer.fit(Line(), *loaders)
    best = load(tmp_path / "best.ckpt")
    (tested,) = trainer.test(best, loaders[0], verbose=False)
    wanted = best.layer(rows).square().mean().item()
    assert tested["test_loss"] == pytest.approx(wanted)
    assert trainer.checkpoint_callback.best_model_score.item() == pytest.approx(wanted)


@pytest.mark.parametrize(
    "module",
    [
        partial(LanguageModel, 11, **SMALL),
        partial(LanguageModel, 11, **SMALL, tie_weights=True),
        partial(Seq2Seq, 11, 11, 6, partial(LSTM, hidden_size=4), partial(LuongDecoder, rnn=SMALL["rnn"])),
        partial(Seq2Seq, 11, 11, 6, partial(LSTM, hidden_size=4), share_embeddings=True, tie_weights=True),
        partial(SequenceClassifier, 11, 3, **SMALL),
        partial(SequenceTagger, 11, 3, 0, **SMALL),
    ],
)
def test_a_dry_loss_reaches_every_parameter(module):
    model = module()
    model.dry_loss(2, 5).backward()
    assert [name for name, parameter in model.named_parameters() if parameter.grad is None] == []
