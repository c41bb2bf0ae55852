import lightning.pytorch as L
import numpy as np
import pytest
import torch
from PIL import Image

from lightning_rnnattn.callbacks import ConfusionMatrix
from lightning_rnnattn.callbacks.confusion_figure import confusion_figure
from lightning_rnnattn.callbacks.figures import save_figure
from lightning_rnnattn.errors import UserError

from .tiny import Batches, TinyModel


class Deciding(TinyModel):
    """Says what it decided: always the same."""

    label_names = ("a", "b", "c")

    def validation_step(self, batch, batch_idx):
        super().validation_step(batch, batch_idx)
        return {"predicted": torch.tensor([[0, 1, 1, 2]]), "actual": torch.tensor([[0, 1, 2, -100]])}


def test_every_validation_draws_one_but_not_the_sanity_check(fit, tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(
        "lightning_rnnattn.callbacks.confusion_matrix.confusion_figure",
        lambda counts, labels, **texts: drawn.append((counts, labels, texts)) or confusion_figure(counts, labels),
    )
    fit(ConfusionMatrix(), kind=Deciding, max_epochs=2, num_sanity_val_steps=1)
    assert len(drawn) == 2
    for counts, labels, texts in drawn:
        assert (counts / counts.max()).tolist() == [[1, 0, 0], [0, 1, 0], [0, 1, 0]]  # of each batch
        assert labels == ["a", "b", "c"]
        assert "66.7% right" in texts["subtitle"]
    assert len(list(tmp_path.glob("confusion/val_step*.png"))) == 2


def test_the_least_frequent_labels_are_left_out(fit, monkeypatch):
    drawn = []
    monkeypatch.setattr(
        "lightning_rnnattn.callbacks.confusion_matrix.confusion_figure",
        lambda counts, labels, **texts: drawn.append(labels) or confusion_figure(counts, labels),
    )

    class Rarely(Deciding):
        def validation_step(self, batch, batch_idx):
            super().validation_step(batch, batch_idx)
            return {"predicted": torch.tensor([0, 0, 1, 2]), "actual": torch.tensor([2, 2, 0, 1])}

    fit(ConfusionMatrix(max_labels=2), kind=Rarely, max_epochs=1)
    assert drawn == [["a", "c"]]


def test_several_labels_have_no_such_matrix(fit, tmp_path):
    class Several(Deciding):
        def validation_step(self, batch, batch_idx):
            return {"predicted": torch.tensor([[True, False, False]]), "actual": torch.tensor([[1, 0, 0]])}

    with pytest.warns(UserWarning, match="draws nothing: a sequence may have several labels") as warned:
        fit(ConfusionMatrix(), kind=Several, max_epochs=1)
    assert not [warning for warning in warned if "compute" in str(warning.message)]  # of torchmetrics
    assert not (tmp_path / "confusion").exists()


def test_a_model_without_labels_is_told_before_training(fit):
    class Trained(TinyModel):
        def training_step(self, batch, batch_idx):
            pytest.fail("it was trained")

    with pytest.raises(UserError, match="ConfusionMatrix: Trained has no `label_names`: leave ConfusionMatrix out"):
        fit(ConfusionMatrix(), kind=Trained, max_epochs=1)
    trainer = L.Trainer(accelerator="cpu", logger=False, callbacks=[ConfusionMatrix()])
    with pytest.raises(UserError, match="ConfusionMatrix: TinyModel has no `label_names`"):
        trainer.validate(TinyModel(), Batches(2))


@pytest.mark.parametrize("labels", [("0", "1"), ("$x$ long name", "b", "<unk>", "d", "e", "f")])
def test_names_and_sizes_of_every_kind(labels, tmp_path):
    counts = np.diag([0, *range(10_000, 10_000 + len(labels) - 1)])
    figure = confusion_figure(counts, labels, title="T", subtitle="a rather long subtitle of the picture " * 2)
    save_figure(figure, tmp_path / "x.png")
    width, height = Image.open(tmp_path / "x.png").size
    assert (width, height) == tuple(int(160 * side) for side in figure.get_size_inches())
    shown = {text.get_text() for text in figure.axes[0].texts}
    assert {"10k", "0%", "100%"} <= shown
