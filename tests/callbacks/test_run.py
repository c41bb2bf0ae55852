import random
from functools import partial

import lightning.pytorch as L
import numpy as np
import pytest
import torch
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger, WandbLogger

from lightning_rnnattn import LanguageModel, Seq2Seq, SequenceClassifier, UserError
from lightning_rnnattn.callbacks import (
    AttentionMap,
    GradientNorms,
    Highlights,
    MetricsPlot,
    SampledText,
    SampledTranslations,
    Throughput,
)
from lightning_rnnattn.callbacks.run import observing, replacing, run_dir

from .test_gradient_norms import Model
from .tiny import Batches, TinyModel


@pytest.mark.parametrize(
    ("logger", "expected"),
    [
        (lambda path: False, "."),
        (lambda path: CSVLogger(path, name="runs", version=3), "runs/version_3"),
        (lambda path: TensorBoardLogger(path, name="runs", version="a", sub_dir="b"), "runs/a/b"),
        (lambda path: WandbLogger(save_dir=path, project="p", id="x", offline=True), "p/x"),
    ],
    ids=["none", "csv", "tensorboard", "wandb"],
)
def test_run_dir(tmp_path, logger, expected):
    trainer = L.Trainer(default_root_dir=tmp_path, logger=logger(tmp_path), accelerator="cpu")
    assert run_dir(trainer) == tmp_path / expected


def test_observing_leaves_no_trace():
    model = TinyModel()
    model.rnn.eval()
    trainer = L.Trainer(logger=False, accelerator="cpu")
    torch.manual_seed(0), random.seed(0), np.random.seed(0)
    expected = torch.rand(1), random.random(), np.random.rand()
    torch.manual_seed(0), random.seed(0), np.random.seed(0)
    with observing(trainer, model):
        assert not any(child.training for child in model.modules())
        assert not torch.is_grad_enabled()
        torch.rand(1), random.random(), np.random.rand()
    assert (torch.rand(1), random.random(), np.random.rand()) == expected
    assert model.training
    assert not model.rnn.training


@pytest.mark.parametrize(
    ("callback", "module", "missing"),
    [
        (Highlights(), lambda: LanguageModel(5), "`tokenizer` and no `label_names`"),
        (Highlights(["to"]), TinyModel, "`attention_weights` and no `label_names`"),
        (SampledText(["to"]), lambda: Seq2Seq(5, 5), "`tokenizer` and no `prefill`"),
        (SampledText(["to"]), lambda: SequenceClassifier(5, 2), "`tokenizer` and no `prefill` and no `decode_step`"),
        (SampledTranslations(), L.LightningModule, "`predict_step`"),
    ],
)
def test_a_module_without_the_protocol_is_refused_before_training(callback, module, missing):
    kind, module = type(callback).__name__, module()
    with pytest.raises(UserError) as refused:
        callback.on_fit_start(None, module)
    expected = f"{kind}: {type(module).__name__} has no {missing}: leave {kind} out of the callbacks"
    assert str(refused.value) == expected


def test_replacing_keeps_the_file_before_on_error(tmp_path):
    path = tmp_path / "file.txt"
    path.write_text("whole")

    def fail(partial):
        partial.write_text("ha")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"), replacing(path) as partial:
        fail(partial)
    assert [(file.name, file.read_text()) for file in tmp_path.iterdir()] == [("file.txt", "whole")]


def test_training_is_the_same_with_and_without(fit):
    _, alone = fit()
    _, watched = fit(AttentionMap(), MetricsPlot(), SampledText(["to"], 5), Throughput())
    for name, value in alone.state_dict().items():
        assert torch.equal(value, watched.state_dict()[name]), name


@pytest.mark.parametrize(
    "make",
    [MetricsPlot, AttentionMap, partial(GradientNorms, num_points=4), partial(SampledText, ["to"], 5)],
    ids=["MetricsPlot", "AttentionMap", "GradientNorms", "SampledText"],
)
def test_a_second_fit_shows_nothing_of_the_first(fit, tmp_path, make):
    def shown(callback, folder):
        fit(callback, kind=Model, val=Batches(2, seq_len=8), default_root_dir=folder)
        return callback.state_dict(), {path.name: path.read_bytes() for path in folder.rglob("*.*") if path.is_file()}

    twice = make()
    fit(twice, kind=Model, seed=2, max_epochs=1)
    assert shown(twice, tmp_path / "twice") == shown(make(), tmp_path / "once")
    fit(twice, kind=Model, limit_train_batches=0)
    assert twice.path is None


def test_fast_dev_run_writes_nothing(fit, tmp_path):
    fit(AttentionMap(), MetricsPlot(), SampledText(["to"], 5), Throughput(), fast_dev_run=True)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
