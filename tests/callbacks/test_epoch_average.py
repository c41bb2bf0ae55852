import pytest
import torch
from lightning.pytorch.callbacks import Callback, EMAWeightAveraging, ModelCheckpoint

from lightning_rnnattn.callbacks import EpochAverage, LastCheckpoint
from lightning_rnnattn.callbacks.observer import Observer
from lightning_rnnattn.errors import UserError

from .test_checkpoints import InValidation, WithoutDropout, assert_same, sigterm
from .tiny import Batches, TinyModel


class Weights(Callback):
    """Notes the weights that are validated, and those of training at the ends of epochs."""

    def __init__(self):
        self.validated, self.trained = [], []

    def on_validation_batch_start(self, trainer, pl_module, batch, batch_idx, dataloader_idx=0):
        if batch_idx == 0:
            self.validated.append(pl_module.output.weight.detach().clone())

    def on_train_epoch_end(self, trainer, pl_module):
        self.trained.append(pl_module.output.weight.detach().clone())


class Testable(TinyModel):
    """Notes the weights that are evaluated."""

    def validation_step(self, batch, batch_idx):
        self.evaluated = self.output.weight.detach().clone()

    test_step = validation_step


def test_mean_of_the_ends_of_epochs(fit):
    weights = Weights()
    _, model = fit(EpochAverage(start=1), weights, max_epochs=4)
    first, *counted = weights.trained
    torch.testing.assert_close(weights.validated[0], first, rtol=0, atol=0)
    for epochs, validated in enumerate(weights.validated[1:], 1):
        torch.testing.assert_close(validated, torch.stack(counted[:epochs]).mean(0))
    torch.testing.assert_close(model.output.weight, torch.stack(counted).mean(0))


def test_without_validation(fit):
    weights = Weights()
    _, model = fit(EpochAverage(), weights, max_epochs=3, limit_val_batches=0)
    torch.testing.assert_close(model.output.weight, torch.stack(weights.trained).mean(0))


@pytest.mark.parametrize("run", ["validate", "test"])
def test_what_is_evaluated_after_the_fit_are_the_weights_of_the_checkpoint(fit, run):
    last = LastCheckpoint()
    trainer, model = fit(EpochAverage(), last, kind=Testable, max_epochs=3)
    state = torch.load(last.last_model_path, weights_only=True)
    assert not torch.equal(state["state_dict"]["output.weight"], state["current_model_state"]["output.weight"])
    torch.nn.init.zeros_(model.output.weight)
    getattr(trainer, run)(model, Batches(2), ckpt_path=last.last_model_path)
    assert torch.equal(model.evaluated, state["state_dict"]["output.weight"])


@pytest.mark.parametrize("average", [lambda: EpochAverage(start=1), lambda: EMAWeightAveraging(decay=0.9)])
@pytest.mark.parametrize("interval", [{}, {"val_check_interval": 4}, {"check_val_every_n_epoch": 2}], ids=str)
@pytest.mark.parametrize(
    "stop",
    [{"max_steps": steps, "max_epochs": None} for steps in (11, 24)] + [{"max_epochs": 2}, {"max_epochs": 1}],
    ids=str,
)
def test_resumes_exactly(fit, tmp_path, average, interval, stop):
    _, straight = fit(average(), LastCheckpoint(), kind=WithoutDropout, max_epochs=4, **interval)
    last = LastCheckpoint(dirpath=str(tmp_path / "stopped"))
    fit(average(), last, kind=WithoutDropout, **stop, **interval)
    _, resumed = fit(average(), LastCheckpoint(dirpath=str(tmp_path / "resumed")), kind=WithoutDropout, max_epochs=4,
                     ckpt_path=last.last_model_path, seed=7, **interval)  # fmt: skip
    assert_same(resumed, straight)


def test_resumes_exactly_after_a_stop_in_a_validation(fit, tmp_path):
    _, straight = fit(EMAWeightAveraging(decay=0.9), kind=WithoutDropout)
    last = LastCheckpoint(dirpath=str(tmp_path / "stopped"), every_n_train_steps=1)
    with pytest.raises(SystemExit):
        fit(EMAWeightAveraging(decay=0.9), last, InValidation(sigterm), kind=WithoutDropout)
    _, resumed = fit(EMAWeightAveraging(decay=0.9), LastCheckpoint(), kind=WithoutDropout, seed=7,
                     ckpt_path=last.last_model_path)  # fmt: skip
    assert_same(resumed, straight)


def test_what_a_stop_in_the_middle_of_an_epoch_leaves_is_what_it_saved(fit):
    last = LastCheckpoint()
    _, model = fit(EpochAverage(), last, max_epochs=None, max_steps=11)
    assert torch.equal(
        model.output.weight, torch.load(last.last_model_path, weights_only=True)["state_dict"]["output.weight"]
    )


def test_a_checkpoint_of_the_end_has_the_weights_that_training_goes_on_from(fit, tmp_path):
    weights = Weights()
    lightnings = ModelCheckpoint(dirpath=tmp_path / "end", every_n_train_steps=1000, save_last=True)
    _, model = fit(EpochAverage(), weights, lightnings, max_epochs=2)
    saved = torch.load(tmp_path / "end" / "last.ckpt", weights_only=True)
    assert torch.equal(saved["current_model_state"]["output.weight"], weights.trained[-1])
    assert torch.equal(saved["state_dict"]["output.weight"], model.output.weight)


@pytest.mark.parametrize("same", [True, False], ids=["same trainer", "new trainer"])
def test_a_second_fit_has_a_mean_of_its_own(fit, same):
    average, weights = EpochAverage(), Weights()
    trainer, model = fit(average, weights, num_sanity_val_steps=1)
    weights.trained.clear()
    if same:
        trainer.fit_loop.max_epochs = 4
        trainer.fit(model, Batches(), Batches(2))
    else:
        _, model = fit(average, weights, num_sanity_val_steps=1)
    assert len(weights.trained) == 2
    torch.testing.assert_close(model.output.weight, torch.stack(weights.trained).mean(0))


@pytest.mark.parametrize("average", [EpochAverage, lambda: EMAWeightAveraging(decay=0.5)])
def test_what_is_shown_is_of_the_weights_that_were_validated(fit, average):
    class Look(Observer):
        def __init__(self):
            super().__init__()
            self.seen = []

        def observe(self, trainer, module):
            self.seen.append(module.output.weight.detach().clone())

    weights, look = Weights(), Look()
    _, model = fit(look, average(), weights, max_epochs=3)
    assert not torch.equal(weights.validated[-1], weights.trained[-1])
    for seen, validated in zip(look.seen, weights.validated, strict=True):
        assert torch.equal(seen, validated)
    assert torch.equal(model.output.weight, weights.validated[-1])


def test_a_negative_start():
    with pytest.raises(UserError, match="start is -1"):
        EpochAverage(start=-1)
