import math
import sys
from itertools import pairwise

import lightning.pytorch as L
import numpy as np
import pytest
import torch
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger, WandbLogger
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.image import imread

from lightning_rnnattn.callbacks import AttentionMap, Highlights, LastCheckpoint, MetricsPlot
from lightning_rnnattn.callbacks.curves_figure import curves_figure
from lightning_rnnattn.callbacks.figures import (
    _ROW,
    DPI,
    LETTER,
    attention_figure,
    save_figure,
    visible,
)
from lightning_rnnattn.callbacks.highlights_figure import Highlighted, highlights_figure
from lightning_rnnattn.errors import UserError

from .tiny import TinyModel


def texts(figure):
    return [text.get_text() for axes in figure.axes for text in axes.texts]


def pixels(figure):
    """What is drawn, as (height, width, 3) from 0 to 1."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3] / 255


def test_characters_are_drawn_as_the_text_itself():
    weights = np.tril(np.ones((2, 3, 3))) / np.arange(1, 4)[:, None]
    figure = attention_figure(weights, list("a\nb"), list("a\nb"), title="t")
    assert len(figure.axes) == 1  # the colour bar
    assert len(figure.images) == 2  # heads
    row, letter = round(_ROW * DPI), round(LETTER * DPI)
    for image in figure.images:
        written = np.asarray(image.get_array())
        assert written.shape == (3 * row, 3 * letter, 3)
        darkest = written.sum(-1).reshape(3, row, 3, letter).min((1, 3))
        seen = np.tril(np.ones((3, 3), dtype=bool))
        assert (darkest[seen] < 0.8).all()  # ink
        assert (darkest[~seen] > 1.5).all()  # pale
        assert (written[row // 2, 2 * letter :, 0] > 0.75).all()  # in the first row nothing but "a" is marked


def test_words_are_labels():
    figure = attention_figure(np.full((1, 2, 3), 1 / 3), ["the", "cat"], ["die", "$Katze$", "</s>"])
    assert texts(figure) == ["the", "cat", "die", "$Katze$", "</s>"]
    assert not any(text.get_parse_math() for axes in figure.axes for text in axes.texts)


@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 2, 5), (8, 4, 4)], ids=str)
@pytest.mark.parametrize("fill", [0.0, 1.0])
def test_any_number_of_heads(tmp_path, shape, fill):
    _, T, S = shape
    save_figure(attention_figure(np.full(shape, fill), ["x"] * T, ["語"] * S), tmp_path / "a.png")
    assert imread(tmp_path / "a.png").ndim == 3


def test_letters_lie_on_their_cells():
    # Each in the middle of its own cell, whatever stands before it.
    figure = attention_figure(np.ones((1, 1, 60)), ["m"], ["m"] * 60)
    (written,) = (np.asarray(image.get_array()) for image in figure.images)
    letters = written.reshape(written.shape[0], 60, -1, 3).swapaxes(0, 1)
    assert (letters == letters[0]).all()
    assert letters[0].min() < 0.3
    coloured = np.abs(np.ptp(pixels(figure), axis=-1)) > 0.1
    assert coloured.any(0).sum() >= 60 * round(LETTER * DPI)  # all cells


@pytest.mark.filterwarnings("error:Glyph")
@pytest.mark.parametrize(
    "script", ["שלום עולם", "السلام عليكم", "日本 語", "ไทย कखग", "a\x00\u200b 😀", "e\u0301 \ue000"]
)
def test_every_script_is_drawn_or_named(tmp_path, script):
    for tokens in (list(script), script.split()):
        matrix = attention_figure(np.full((2, len(tokens), len(tokens)), 0.5), tokens, tokens, title=script[:0])
        marked = highlights_figure([Highlighted(tokens, [0.5] * len(tokens), "a")])
        noted = highlights_figure([Highlighted(["a"], [1.0], script)])
        for figure in (matrix, marked, noted):
            save_figure(figure, tmp_path / "a.png")
            assert all(map(str.isprintable, texts(figure)))


def test_a_letter_that_no_font_has_is_named():
    figure = attention_figure(np.ones((1, 1, 2)), ["\ue000x"], ["a", "\x07"])
    assert texts(figure) == ["U+E000x", "a", "U+0007"]


def test_visible():
    assert visible("a b\n\t") == "a␣b⏎⇥"


def test_curves_survive_what_training_can_log(tmp_path):
    figure = curves_figure(
        {"loss": {"train": [(1, math.nan), (2, math.inf)], "val": [(2, 1.0), (3, 100.0)]}}, title="t"
    )
    save_figure(figure, tmp_path / "c.png")
    assert figure.axes[0].get_yscale() == "log"


@pytest.mark.parametrize(("least", "most"), [(0.14, 3.9), (1.1, 9.0), (101.0, 900.0), (1e-3, 1e6)])
def test_labels_of_a_logarithmic_scale_keep_apart(tmp_path, least, most):
    figure = curves_figure({"loss": {"val": [(1, most), (2, least)]}})
    save_figure(figure, tmp_path / "c.png")
    (axes,) = figure.axes
    low, high = axes.get_ylim()
    shown = [tick for tick in [*axes.get_yticks(), *axes.get_yticks(minor=True)] if low <= tick <= high]
    assert len(shown) >= 2
    gaps = [math.log(b / a) / math.log(high / low) for a, b in pairwise(sorted(shown))]
    assert min(gaps) > 0.1  # shares of the height


def test_no_pyplot(fit):
    sys.modules.pop("matplotlib.pyplot", None)
    fit(MetricsPlot(), AttentionMap())
    assert "matplotlib.pyplot" not in sys.modules


def test_metrics_plot_is_drawn_without_a_logger(fit, tmp_path):
    plot = MetricsPlot()
    fit(plot)
    assert plot.path == tmp_path / "metrics.png"
    assert imread(plot.path).ndim == 3
    assert [step for step, _ in plot.state_dict()["record"]["val_loss"]] == [8, 16]
    assert [step for step, _ in plot.state_dict()["record"]["train_loss"]] == [2, 4, 6, 8, 10, 12, 14, 16]


def test_metrics_plot_goes_on_after_a_stop(fit, tmp_path):
    straight, plot, last = MetricsPlot(), MetricsPlot(), LastCheckpoint()
    fit(straight)
    fit(MetricsPlot(), last, max_epochs=None, max_steps=11)
    fit(plot, ckpt_path=last.last_model_path, default_root_dir=tmp_path / "other")
    record, expected = plot.state_dict()["record"], straight.state_dict()["record"]
    assert [step for step, _ in record["train_loss"]] == [step for step, _ in expected["train_loss"]]
    assert record["val_loss"][0] == expected["val_loss"][0]


def test_metrics_plot_thins_long_curves(fit):
    plot = MetricsPlot(max_points=4)
    fit(plot, log_every_n_steps=1)
    points = plot.state_dict()["record"]["train_loss"]
    assert len(points) <= 4
    assert points[-1][0] == 16


def test_attention_map_of_the_validation_data(fit, tmp_path):
    fit(AttentionMap(num_examples=2))
    assert sorted(path.name for path in (tmp_path / "attention").iterdir()) == [
        "attention.html",
        "example1_step0000008.png",
        "example1_step0000016.png",
        "example2_step0000008.png",
        "example2_step0000016.png",
    ]


def test_attention_map_of_texts(fit, tmp_path):
    callback = AttentionMap(["to be, or not to be"], every_n_validations=3)
    fit(callback, max_epochs=4)
    assert [path.name for path in sorted((tmp_path / "attention").iterdir())] == [
        "attention.html",
        "example1_step0000024.png",
        "example1_step0000032.png",  # the end of the fit
    ]
    assert callback.path.name == "example1_step0000032.png"


@pytest.mark.parametrize(
    ("texts", "why"), [(None, "no validation came before the end: give it texts"), ([], "there are no texts")]
)
def test_attention_map_of_nothing(fit, tmp_path, texts, why):
    with pytest.warns(UserWarning, match=f"AttentionMap draws nothing: {why}"):
        fit(AttentionMap(texts), max_steps=1)
    assert not (tmp_path / "attention").exists()


def test_attention_map_of_a_model_without_attention(fit, tmp_path):
    class Plain(TinyModel):
        def attention_views(self, batch, rows):
            raise UserError("attention: null: nothing to see")

    with pytest.warns(UserWarning, match="draws nothing: attention: null"):
        fit(AttentionMap(), kind=Plain, max_epochs=1)
    assert not (tmp_path / "attention").exists()


def test_attention_map_of_a_module_without_the_protocol(fit):
    class Other(TinyModel):
        text_views = None

    with pytest.raises(UserError, match="AttentionMap: Other has no `text_views`: leave AttentionMap out"):
        fit(AttentionMap(), kind=Other)


def test_pictures_reach_the_loggers(fit, tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    loggers = [
        TensorBoardLogger(tmp_path, name="tb"),
        CSVLogger(tmp_path, name="csv"),
        WandbLogger(save_dir=tmp_path, project="p", id="x", offline=True),
    ]
    fit(AttentionMap(), MetricsPlot(), logger=loggers, max_epochs=1)
    folder = tmp_path / "tb" / "version_0"
    assert (folder / "metrics.png").exists()
    events = EventAccumulator(str(folder)).Reload()
    (image,) = events.Images("attention/example1")
    assert image.step == events.Scalars("val_loss")[0].step
    loggers[2].experiment.finish()
    assert list(tmp_path.rglob("media/images/attention/example1_*.png"))


def test_models_on_other_precisions(fit, tmp_path):
    fit(AttentionMap(), precision="bf16-true", max_epochs=1)
    assert list((tmp_path / "attention").iterdir())
    assert torch.get_default_dtype() == torch.float32


def test_validation_outside_of_a_fit_draws_nothing(fit, tmp_path):
    trainer, model = fit(max_epochs=1)
    L.Trainer(
        callbacks=[MetricsPlot(), AttentionMap()],
        logger=False,
        default_root_dir=tmp_path,
        accelerator="cpu",
        enable_progress_bar=False,
    ).validate(model, trainer.val_dataloaders, verbose=False)
    assert not list(tmp_path.rglob("*.png"))


@pytest.mark.parametrize("kind", [AttentionMap, Highlights])
@pytest.mark.parametrize("name", ["num_examples", "max_tokens", "every_n_validations"])
def test_numbers_below_one_are_an_error(kind, name):
    with pytest.raises(UserError, match=f"{name}=0: {kind.__name__} needs at least 1"):
        kind(**{name: 0})
