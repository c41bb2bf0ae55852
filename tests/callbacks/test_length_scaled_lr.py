from types import SimpleNamespace

import lightning.pytorch as L
import pytest
import torch

from lightning_rnnattn.callbacks import LastCheckpoint, LengthScaledLR
from lightning_rnnattn.data import TokenBatches
from lightning_rnnattn.errors import UserError

from .tiny import Batches


class Counter(L.LightningModule):
    """A weight that loses the learning rate at each step, since its gradient is one."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros((), dtype=torch.float64))
        self.lengths, self.rates = [], []

    def training_step(self, batch, batch_idx):
        self.lengths.append(batch.tokens.shape[1])
        self.rates.append(self.optimizers().param_groups[0]["lr"])
        return self.weight

    def configure_optimizers(self):
        optimizer = torch.optim.SGD(self.parameters(), 0.5)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 / (1 + step))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


@pytest.mark.parametrize("callbacks", [[LengthScaledLR()], []])
def test_each_step_has_the_rate_of_its_length_and_schedules_do_not_see_it(tmp_path, callbacks):
    batches = TokenBatches(torch.arange(400).numpy(), 2, 10, 3.0)
    model = Counter()
    trainer = L.Trainer(
        accelerator="cpu",
        max_epochs=2,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[*callbacks, LastCheckpoint(dirpath=str(tmp_path))],
    )
    trainer.fit(model, batches)
    steps = range(len(model.lengths))
    scales = [length / 10 if callbacks else 1.0 for length in model.lengths]
    assert len(set(model.lengths)) > 3
    assert -float(model.weight) == pytest.approx(sum(0.5 / (1 + t) * scales[t] for t in steps))
    saved = torch.load(tmp_path / "last.ckpt", weights_only=True)
    assert saved["optimizer_states"][0]["param_groups"][0]["lr"] == pytest.approx(0.5 / (1 + len(steps)))


def test_data_without_lengths_is_refused_before_the_first_step(fit):
    with pytest.raises(UserError, match="LengthScaledLR: Batches has no `seq_len`: leave LengthScaledLR out"):
        fit(LengthScaledLR())
    batches = Batches()
    batches.seq_len, batches.batches = 11, [SimpleNamespace()]
    with pytest.raises(UserError, match="LengthScaledLR: SimpleNamespace has no `tokens`"):
        fit(LengthScaledLR(), train=batches)
