import os
import signal
import warnings

import lightning.pytorch as L
import pytest
import torch
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from lightning_rnnattn.callbacks import BestCheckpoint, LastCheckpoint
from lightning_rnnattn.errors import UserError

from .tiny import Batches, TinyModel


class WithoutDropout(TinyModel):
    """What checkpoints hold decides alone how a run goes on: no random numbers."""

    def __init__(self):
        super().__init__()
        self.dropout.p = 0.0


class WithSchedule(WithoutDropout):
    def configure_optimizers(self):
        optimizer = super().configure_optimizers()
        scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1, gamma=0.5)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "epoch"}}


def assert_same(model, other):
    for (name, value), expected in zip(model.state_dict().items(), other.state_dict().values(), strict=True):
        assert torch.equal(value, expected), name


class StopAt(L.Callback):
    """Interrupts a run at a step."""

    def __init__(self, step, how):
        self.step, self.how = step, how

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if trainer.global_step == self.step:
            self.how(trainer)


def test_files_and_keys(fit, tmp_path):
    best, last = BestCheckpoint(), LastCheckpoint()
    trainer, _ = fit(last, best)
    assert sorted(os.listdir(tmp_path / "checkpoints")) == ["best.ckpt", "last-previous.ckpt", "last.ckpt"]
    assert best.state_key != last.state_key
    assert best.best_model_path == str(tmp_path / "checkpoints" / "best.ckpt")
    assert torch.load(last.last_model_path, weights_only=True)["global_step"] == trainer.global_step == 16


def test_best_keeps_the_best_and_last_the_newest(fit):
    class Rising(TinyModel):
        def validation_step(self, batch, batch_idx):
            self.log("val_loss", float(self.trainer.current_epoch), batch_size=1)

    best, last = BestCheckpoint(), LastCheckpoint()
    fit(best, last, kind=Rising, max_epochs=3)
    assert torch.load(best.best_model_path, weights_only=True)["epoch"] == 0
    assert torch.load(last.last_model_path, weights_only=True)["epoch"] == 2


def test_a_monitor_that_nothing_logs_is_told_before_the_first_epoch(fit):
    with (
        pytest.warns(UserWarning, match=r"nothing logs monitor='val_bleu' so far, only val_loss"),
        pytest.raises(MisconfigurationException, match="val_bleu"),
    ):
        fit(BestCheckpoint("val_bleu"), num_sanity_val_steps=1)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="BestCheckpoint")
        fit(BestCheckpoint(), num_sanity_val_steps=1)


def test_last_knows_the_best_of_the_same_moment(fit):
    # Also when it comes before it in the list, and the validation is in the middle of an epoch.
    best, last = BestCheckpoint(), LastCheckpoint()
    fit(last, best, max_epochs=1, val_check_interval=4)
    state = torch.load(last.last_model_path, weights_only=True)["callbacks"][best.state_key]
    assert state["best_model_score"] == best.best_model_score


def test_score_to_beat_survives_another_folder(fit, tmp_path):
    class Logs(WithoutDropout):
        value = 1.0

        def validation_step(self, batch, batch_idx):
            self.log("val_loss", self.value, batch_size=1)

    last = LastCheckpoint()
    fit(BestCheckpoint(), last, kind=Logs, max_epochs=1)
    best = BestCheckpoint()
    Logs.value = 2.0
    fit(best, kind=Logs, max_epochs=2, ckpt_path=last.last_model_path, default_root_dir=tmp_path / "other")
    assert best.best_model_score == 1.0
    assert best.best_model_path == str(tmp_path / "checkpoints" / "best.ckpt")
    assert not (tmp_path / "other" / "checkpoints" / "best.ckpt").exists()


def test_another_run_leaves_the_files_of_the_first_alone(fit, tmp_path):
    class Logs(TinyModel):
        value = 1.0

        def validation_step(self, batch, batch_idx):
            self.log("val_loss", self.value, batch_size=1)

    best, last = BestCheckpoint(), LastCheckpoint()
    for version in ("a", "b"):
        fit(best, last, kind=Logs, max_epochs=1, logger=CSVLogger(tmp_path, name="runs", version=version))
        assert best.best_model_score == Logs.value
        for name in ("best", "last"):
            assert (tmp_path / "runs" / version / "checkpoints" / f"{name}.ckpt").is_file()
        Logs.value = 2.0  # worse, but of another run
    assert last.last_model_path == str(tmp_path / "runs" / "b" / "checkpoints" / "last.ckpt")
    assert torch.load(tmp_path / "runs" / "a" / "checkpoints" / "last.ckpt", weights_only=True)["global_step"] == 8
    assert not (tmp_path / "runs" / "a" / "checkpoints" / "last-previous.ckpt").exists()


@pytest.mark.parametrize(
    "stop",
    [
        {"max_steps": 3, "max_epochs": None},  # in the middle of an epoch, before any validation
        {"max_steps": 8, "max_epochs": None},  # at its end
        {"max_steps": 11, "max_epochs": None},
        {"max_epochs": 1},
        {"max_epochs": 2},
    ],
    ids=str,
)
@pytest.mark.parametrize(
    "interval",
    [{}, {"val_check_interval": 4}, {"val_check_interval": 3}, {"limit_val_batches": 0}],
    ids=["epoch", "inside", "across", "never"],
)
@pytest.mark.parametrize("bound", [{"max_epochs": 3}, {"max_steps": 24, "max_epochs": 9}], ids=["epochs", "steps"])
def test_a_stopped_run_goes_on_exactly(fit, tmp_path, stop, interval, bound):
    _, straight = fit(LastCheckpoint(dirpath=str(tmp_path / "straight")), kind=WithSchedule, **bound, **interval)
    last = LastCheckpoint(dirpath=str(tmp_path / "stopped"))
    fit(last, kind=WithSchedule, **interval, **stop)
    trainer, resumed = fit(
        LastCheckpoint(dirpath=str(tmp_path / "resumed")),
        kind=WithSchedule,
        ckpt_path=last.last_model_path,
        seed=7,
        **bound,
        **interval,
    )
    assert trainer.global_step == 24
    assert_same(resumed, straight)


def sigterm(trainer):
    os.kill(os.getpid(), signal.SIGTERM)


def ctrl_c(trainer):
    os.kill(os.getpid(), signal.SIGINT)


def error(trainer):
    raise RuntimeError("in the middle of a step")


@pytest.fixture
def keyboard():
    """Ctrl-C as in a terminal: a shell's background job, as which tests may run, ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("keyboard")
@pytest.mark.parametrize(("how", "saved"), [(sigterm, 6), (ctrl_c, 6), (error, 4)], ids=["SIGTERM", "Ctrl-C", "error"])
@pytest.mark.parametrize("interval", [{}, {"val_check_interval": 4}], ids=["epoch", "inside"])
def test_an_interrupted_run_goes_on_exactly(fit, tmp_path, how, saved, interval):
    _, straight = fit(LastCheckpoint(dirpath=str(tmp_path / "straight")), kind=WithSchedule, **interval)
    last = LastCheckpoint(dirpath=str(tmp_path / "stopped"), every_n_train_steps=4)
    with pytest.raises((SystemExit, RuntimeError)):
        fit(last, StopAt(5, how), kind=WithSchedule, **interval)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert torch.load(last.last_model_path, weights_only=True)["global_step"] == saved
    _, resumed = fit(
        LastCheckpoint(dirpath=str(tmp_path / "resumed")),
        kind=WithSchedule,
        ckpt_path=last.last_model_path,
        seed=7,
        **interval,
    )
    assert_same(resumed, straight)


class Validated(WithoutDropout):
    """Notes at which steps it was validated, and the loss."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def on_validation_epoch_end(self):
        if not self.trainer.sanity_checking:
            self.seen.append(self.trainer.global_step)


class InValidation(L.Callback):
    """Interrupts a run in its second validation."""

    def __init__(self, how):
        self.how, self.validations = how, 0

    def on_validation_batch_start(self, trainer, pl_module, batch, batch_idx, dataloader_idx=0):
        self.validations += batch_idx == 0
        if self.validations == 2 and batch_idx == 0:
            self.how(trainer)


@pytest.mark.usefixtures("keyboard")
@pytest.mark.parametrize("how", [sigterm, ctrl_c, error], ids=["SIGTERM", "Ctrl-C", "error"])
@pytest.mark.parametrize("interval", [{}, {"val_check_interval": 4}], ids=["epoch", "inside"])
def test_a_run_interrupted_in_a_validation_validates_first(fit, tmp_path, how, interval):
    _, straight = fit(LastCheckpoint(dirpath=str(tmp_path / "straight")), kind=Validated, num_sanity_val_steps=0,
                      **interval)  # fmt: skip
    last = LastCheckpoint(dirpath=str(tmp_path / "stopped"))
    with pytest.raises((SystemExit, RuntimeError)):
        fit(last, InValidation(how), kind=Validated, num_sanity_val_steps=0, **interval)
    step = straight.seen[1]
    assert torch.load(last.last_model_path, weights_only=True)["global_step"] == step
    _, resumed = fit(LastCheckpoint(dirpath=str(tmp_path / "resumed")), kind=Validated, ckpt_path=last.last_model_path,
                     seed=7, **interval)  # fmt: skip
    assert_same(resumed, straight)
    assert resumed.seen == straight.seen[2 if how is ctrl_c else 1 :]  # which waits for the validation's end


def test_accumulated_gradients_are_never_cut(fit):
    last = LastCheckpoint(every_n_train_steps=1)
    saved = []

    class Watch(L.Callback):
        def on_save_checkpoint(self, trainer, pl_module, checkpoint):
            saved.append(trainer.fit_loop.epoch_loop.batch_idx + 1)

    fit(last, Watch(), max_epochs=1, accumulate_grad_batches=2, limit_val_batches=0)
    assert saved == [2, 4, 6, 8, 8]  # the last again, at the end of the epoch


def test_a_crash_while_saving_keeps_the_file_before(fit, monkeypatch, tmp_path):
    last = LastCheckpoint(every_n_train_steps=2)
    save, calls = L.Trainer.save_checkpoint, []

    def crash(self, filepath, *args, **kwargs):
        save(self, filepath, *args, **kwargs)
        calls.append(filepath)
        if len(calls) == 3:
            with open(filepath, "r+b") as file:
                file.truncate(100)
            raise OSError("disk full")

    monkeypatch.setattr(L.Trainer, "save_checkpoint", crash)
    with pytest.raises(UserError, match="cannot be written \\(disk full\\)"):
        fit(last)
    assert not list(tmp_path.rglob("*.partial"))
    assert torch.load(tmp_path / "checkpoints" / "last.ckpt", weights_only=True)["global_step"] == 4


def test_fast_dev_run_writes_nothing(fit, tmp_path):
    fit(BestCheckpoint(), LastCheckpoint(), fast_dev_run=True)
    assert not list(tmp_path.rglob("*.ckpt"))


def test_batches_resume():
    batches = Batches()
    taken = [batch for batch, _ in zip(batches, range(3), strict=False)]
    other = Batches()
    other.load_state_dict(batches.state_dict())
    assert len(taken) == 3
    assert len(list(other)) in (4, 5)
