import lightning.pytorch as L
import pytest
import torch
from torch import nn

from lightning_rnnattn.callbacks import FiniteLoss, LastCheckpoint
from lightning_rnnattn.errors import UserError

from .tiny import TinyModel

BAD = (5, 11)  # global steps


class Scale(nn.Module):
    """Multiplies by one, and by something else when it is told to."""

    factor = 1.0

    def forward(self, x):
        return x * self.factor


class Breaks(TinyModel):
    """Has an output that is not finite at some steps."""

    steps, factor = BAD, float("nan")

    def __init__(self):
        super().__init__()
        self.inner = nn.Sequential(Scale())
        self.dropout.p = 0.0
        self.made = []

    def forward(self, tokens):
        return self.inner(super().forward(tokens))

    def on_train_batch_start(self, batch, batch_idx):
        self.inner[0].factor = self.factor if self.trainer.global_step in self.steps else 1.0

    def on_before_zero_grad(self, optimizer):
        self.made.append(self.output.bias.detach().clone())


class InfiniteGradient(Breaks):
    """Has a finite loss, and a gradient that is not."""

    def forward(self, tokens):
        output = TinyModel.forward(self, tokens)
        if self.trainer.global_step in self.steps:
            output = output + (output[..., :1] * 0).sqrt()  # the derivative of the square root at 0
        return output


def test_says_where_and_keeps_what_was_good(fit):
    last = LastCheckpoint(every_n_train_steps=1)
    with pytest.raises(UserError) as stop:
        fit(FiniteLoss(), last, kind=Breaks)
    assert str(stop.value).startswith(
        "the loss is nan at step 6 (epoch 0, batch 5); first not finite: the output of inner.0;"
        f" the last good checkpoint is {last.last_model_path}."
    )
    checkpoint = torch.load(last.last_model_path, weights_only=True)
    assert checkpoint["global_step"] == 5
    assert all(tensor.isfinite().all() for tensor in checkpoint["state_dict"].values())


def test_infinite(fit):
    class Infinite(Breaks):
        factor = float("inf")

    with pytest.raises(UserError, match=r"at step 6 .* the output of inner.0; no checkpoint was saved before"):
        fit(FiniteLoss(), kind=Infinite)


def test_a_finite_loss_with_a_gradient_that_is_not(fit):
    with pytest.raises(UserError, match=r"a gradient is not finite at step 6 .* the gradient of embedding.weight"):
        fit(FiniteLoss(), kind=InfiniteGradient)


@pytest.mark.parametrize("kind", [Breaks, InfiniteGradient])
def test_leaves_out_and_counts(fit, kind):
    guard = FiniteLoss(skip=2)
    with pytest.warns(UserWarning, match=r"step 6 is left out: .*\(1 of 2"):
        trainer, model = fit(guard, kind=kind, gradient_clip_val=1.0)
    assert trainer.global_step == 16
    assert guard.skipped == trainer.callback_metrics["skipped_steps"] == 2
    moved = [not torch.equal(before, after) for before, after in zip(model.made, model.made[1:], strict=False)]
    assert [step for step, made in enumerate(moved) if not made] == list(BAD)  # weights stay, Adam's momentum or not


def test_more_than_may_be_left_out(fit):
    with pytest.raises(UserError, match="at step 12 "):
        fit(FiniteLoss(skip=1), kind=Breaks)


def test_accumulated_gradients_are_left_out_together(fit):
    class Early(Breaks):
        steps = (1,)

    guard = FiniteLoss(skip=2)
    _, model = fit(guard, kind=Early, accumulate_grad_batches=4)  # step 1 is made of batches 4 to 7
    assert guard.skipped == 1
    assert all(parameter.isfinite().all() for parameter in model.parameters())


def test_the_count_resumes(fit):
    guard = FiniteLoss(skip=2)
    last = LastCheckpoint()
    fit(guard, last, kind=Breaks, max_epochs=1)
    again = FiniteLoss(skip=2)
    fit(again, LastCheckpoint(), kind=Breaks, ckpt_path=last.last_model_path)
    assert again.skipped == 2


def test_a_second_fit_counts_its_own(fit):
    guard = FiniteLoss(skip=2)
    for _ in range(2):
        fit(guard, kind=Breaks)
        assert guard.skipped == 2


def test_changes_nothing_in_a_run_without_faults(fit):
    _, plain = fit(kind=TinyModel)
    _, guarded = fit(FiniteLoss(), kind=TinyModel)
    for name, tensor in plain.state_dict().items():
        assert torch.equal(guarded.state_dict()[name], tensor), name


def test_a_negative_number(fit):
    with pytest.raises(UserError, match="skip is -1"):
        FiniteLoss(skip=-1)


def test_carried_state_is_forgotten(tmp_path):
    from functools import partial

    from lightning_rnnattn import LSTM, LanguageModel, TextDataModule

    class Model(LanguageModel):
        def training_step(self, batch, batch_idx):
            with torch.no_grad():
                (weight,) = (p for name, p in self.named_parameters() if name == "input.embedding.weight")
                kept = weight.clone()
                if self.trainer.global_step == 3:
                    weight.fill_(float("nan"))
            loss = super().training_step(batch, batch_idx)
            weight.data.copy_(kept)
            return loss

    (tmp_path / "text.txt").write_text("to be or not to be, that is the question\n" * 20)
    data = TextDataModule(str(tmp_path / "text.txt"), batch_size=2, seq_len=8, cache_dir=str(tmp_path / "cache"))
    model = Model(data.vocab_size, rnn=partial(LSTM, hidden_size=4))
    guard = FiniteLoss(skip=1)
    trainer = L.Trainer(accelerator="cpu", max_steps=10, logger=False, enable_checkpointing=False,
                        enable_progress_bar=False, enable_model_summary=False, callbacks=[guard])  # fmt: skip
    trainer.fit(model, data)
    assert guard.skipped == 1
    assert trainer.callback_metrics["train_loss"].isfinite()
