import lightning.pytorch as L
import pytest
import torch

from lightning_rnnattn.callbacks import NTASGD, BestCheckpoint, LastCheckpoint
from lightning_rnnattn.data import TokenBatches
from lightning_rnnattn.errors import UserError

# By validation: better, better, worse (but not than the ones long ago), worse than those, then of no importance.
LOSSES = [5.0, 4.0, 4.5, 4.4, 9.0, 9.0]
EPOCHS = 6


class Wandering(L.LightningModule):
    """Weights that go where the data draw them; its validation loss is told beforehand."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(3, dtype=torch.float64))
        self.history, self.validated = [], []

    def training_step(self, batch, batch_idx):
        self.history.append(self.weight.detach().clone())
        return ((self.weight - batch.tokens[0, :3].double()) ** 2).sum()

    def validation_step(self, batch, batch_idx):
        self.validated.append(self.weight.detach().clone())
        self.log("val_loss", torch.tensor(LOSSES[self.current_epoch]), batch_size=1)

    def test_step(self, batch, batch_idx):
        self.tested = self.weight.detach().clone()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)


def run(folder, epochs=EPOCHS, ckpt_path=None, callback=None, **options):
    model = Wandering()
    callback = callback or NTASGD(nonmono=2)
    trainer = L.Trainer(
        accelerator="cpu",
        max_epochs=epochs,
        logger=False,
        num_sanity_val_steps=0,
        limit_val_batches=1,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[callback, BestCheckpoint(dirpath=str(folder)), LastCheckpoint(dirpath=str(folder))],
        **options,
    )
    stream = torch.randint(50, (161,), generator=torch.Generator().manual_seed(1)).numpy()
    trainer.fit(model, TokenBatches(stream, 2, 20), TokenBatches(stream, 2, 20), ckpt_path=ckpt_path, weights_only=True)
    return model, callback


def test_averages_begin_when_the_loss_is_worse_than_long_ago(tmp_path):
    model, callback = run(tmp_path)
    steps = len(model.history) // EPOCHS
    assert callback.averages
    after = [*model.history[1:], torch.load(tmp_path / "last.ckpt", weights_only=True)["current_model_state"]["weight"]]
    for epoch, seen in enumerate(model.validated):
        end = steps * (epoch + 1)
        # 4.5 is worse than none of those before the last two, 4.4 is not worse than 5.0, but 9.0 is.
        expected = after[end - 1] if epoch < 5 else torch.stack(after[5 * steps : end]).mean(0)
        torch.testing.assert_close(seen, expected)
    torch.testing.assert_close(model.weight.detach(), torch.stack(after[5 * steps :]).mean(0))


def test_the_mean_is_that_of_torchs_asgd(tmp_path):
    """After n steps torch has the mean of the last n - 1: it leaves out the first."""
    model, _ = run(tmp_path)
    steps = len(model.history) // EPOCHS
    weight = torch.nn.Parameter(model.history[5 * steps].clone())
    optimizer = torch.optim.ASGD([weight], 0.1, lambd=0.0, t0=0)
    after = []
    for batch in TokenBatches(torch.randint(50, (161,), generator=torch.Generator().manual_seed(1)).numpy(), 2, 20):
        optimizer.zero_grad()
        ((weight - batch.tokens[0, :3].double()) ** 2).sum().backward()
        optimizer.step()
        after.append(weight.detach().clone())
    torch.testing.assert_close(optimizer.state[weight]["ax"], torch.stack(after[1:]).mean(0))
    torch.testing.assert_close(model.weight.detach(), torch.stack(after).mean(0))


def test_what_is_tested_after_the_fit_are_the_weights_of_the_checkpoint(tmp_path):
    model, _ = run(tmp_path)
    mean = model.weight.detach().clone()
    stream = torch.arange(41).numpy()
    model.trainer.test(model, TokenBatches(stream, 2, 20), ckpt_path=tmp_path / "last.ckpt")
    assert torch.equal(model.tested, mean)


def test_without_the_trigger_it_is_plain_sgd(tmp_path, monkeypatch):
    monkeypatch.setattr(f"{__name__}.LOSSES", [5.0, 4.0, 3.0, 2.0, 1.0, 0.5])
    model, callback = run(tmp_path)
    assert not callback.averages
    saved = torch.load(tmp_path / "last.ckpt", weights_only=True)
    assert "current_model_state" not in saved
    assert torch.equal(saved["state_dict"]["weight"], model.weight)


@pytest.mark.parametrize("epochs", [2, 5])
def test_resumes_bit_for_bit_before_and_after_the_trigger(tmp_path, epochs):
    whole, _ = run(tmp_path / "whole")
    run(tmp_path / "part", epochs)
    resumed, callback = run(tmp_path / "rest", ckpt_path=tmp_path / "part" / "last.ckpt")
    assert callback.averages
    assert torch.equal(resumed.weight, whole.weight)
    for name in ("state_dict", "current_model_state"):
        expected, got = (
            torch.load(tmp_path / folder / "last.ckpt", weights_only=True)[name]["weight"]
            for folder in ("whole", "rest")
        )
        assert torch.equal(expected, got)


def test_resumes_in_the_middle_of_an_averaged_epoch(tmp_path):
    whole, _ = run(tmp_path / "whole")
    steps = len(whole.history) // EPOCHS
    run(tmp_path / "part", max_steps=5 * steps + 2)
    resumed, _ = run(tmp_path / "rest", ckpt_path=tmp_path / "part" / "last.ckpt")
    assert torch.equal(resumed.weight, whole.weight)


def test_a_second_fit_has_losses_of_its_own(tmp_path):
    first, callback = run(tmp_path / "first")
    second, _ = run(tmp_path / "second", callback=callback)
    assert torch.equal(first.weight, second.weight)


def test_a_monitor_that_nothing_logs(tmp_path):
    with pytest.raises(UserError, match="NTASGD: nothing logs monitor='val_los', only val_loss"):
        run(tmp_path, callback=NTASGD("val_los"))
