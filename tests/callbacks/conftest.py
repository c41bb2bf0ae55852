import lightning.pytorch as L
import pytest

from .tiny import Batches, TinyModel


@pytest.fixture
def fit(tmp_path):
    """Fits a model, of a class given, with the callbacks given, and returns (trainer, model)."""

    def run(*callbacks, ckpt_path=None, kind=TinyModel, seed=1, train=None, val=None, **options):
        L.seed_everything(seed, verbose=False)
        model = kind()
        defaults = {
            "default_root_dir": tmp_path,
            "logger": False,
            "max_epochs": 2,
            "accelerator": "cpu",
            "enable_progress_bar": False,
            "enable_model_summary": False,
            "enable_checkpointing": False,
            "num_sanity_val_steps": 0,
            "log_every_n_steps": 2,
        }
        options = {**defaults, **options}
        if any(isinstance(callback, L.callbacks.ModelCheckpoint) for callback in callbacks):
            options["enable_checkpointing"] = True
        trainer = L.Trainer(callbacks=list(callbacks), **options)
        trainer.fit(model, train or Batches(), val or Batches(2), ckpt_path=ckpt_path)
        return trainer, model

    return run
