import json
import re
from functools import partial

import lightning.pytorch as L
import pytest
import torch

from lightning_rnnattn import LSTM, CharTokenizer, MaxPooling, SequenceClassifier
from lightning_rnnattn.callbacks import Highlights
from lightning_rnnattn.callbacks.highlights_figure import Highlighted, highlights_figure
from lightning_rnnattn.callbacks.html import html_row
from lightning_rnnattn.callbacks.run import run_dir
from lightning_rnnattn.data import ClassExamples, LengthBatches


def fit(folder, callback, max_steps=-1, texts=("abc", "d", "dcba"), **options):
    classifier = SequenceClassifier(5, 2, rnn=partial(LSTM, hidden_size=4), **options)
    classifier.tokenizer, classifier.labels = CharTokenizer(unk=True).train(["abcd"]), ("n", "y")
    rows = [torch.tensor(classifier.tokenizer.encode(text)) for text in texts]
    examples = ClassExamples(rows, torch.arange(len(texts)) % 2, texts)
    trainer = L.Trainer(
        callbacks=[callback],
        default_root_dir=folder,
        accelerator="cpu",
        logger=False,
        max_epochs=2,
        max_steps=max_steps,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    batches = [LengthBatches(examples.lengths, examples.collate, batch_size=2) for _ in range(2)]
    trainer.fit(classifier, *batches)
    return run_dir(trainer), classifier


@pytest.mark.filterwarnings("ignore:.*does not have many workers:UserWarning")
@pytest.mark.parametrize("texts", [None, ["ab", "", "x$y"]])
def test_draws_the_texts_after_every_validation_and_trains_nothing_differently(texts, tmp_path):
    L.seed_everything(1)
    folder, with_it = fit(tmp_path, Highlights(texts))
    assert len(list(folder.glob("highlights/step*.png"))) == 2
    L.seed_everything(1)
    _, without = fit(tmp_path, L.Callback())
    for name, weight in without.state_dict().items():
        assert torch.equal(weight, with_it.state_dict()[name]), name


@pytest.mark.filterwarnings("ignore:.*does not have many workers:UserWarning")
def test_a_second_fit_draws_texts_of_its_own(tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(
        "lightning_rnnattn.callbacks.highlights.highlights_figure",
        lambda texts, **said: drawn.append({"".join(text.tokens) for text in texts}) or highlights_figure(texts),
    )
    callback = Highlights()
    fit(tmp_path, callback)
    fit(tmp_path, callback, texts=("aa", "bb"))
    assert drawn[2:] == [{"aa", "bb"}] * 2
    assert callback.texts is None


@pytest.mark.filterwarnings("ignore:.*does not have many workers:UserWarning")
def test_what_cannot_be_drawn_is_said(tmp_path):
    with pytest.warns(UserWarning, match="draws nothing: there are no texts"):
        fit(tmp_path, Highlights([]))
    with pytest.warns(UserWarning, match="draws nothing: no validation came before the end"):
        fit(tmp_path, Highlights(), max_steps=1)
    with pytest.warns(UserWarning, match="draws nothing: model.pooling: MaxPooling has no attention weights"):
        folder, _ = fit(tmp_path, Highlights(), pooling=MaxPooling)
    assert not (folder / "highlights").exists()


def test_marks_lie_on_their_tokens_and_long_texts_go_on_below():
    words = Highlighted(["good"] * 40, [1 / 40] * 40, "yes")
    figure = highlights_figure([words, Highlighted(["bad"], [1.0], "no"), Highlighted([], [], "none")])
    axes = figure.axes[0]
    texts = {text.get_text(): text for text in axes.texts}
    assert {"good", "bad", "yes", "no", "none"} <= texts.keys()
    marks = [(patch.get_x(), patch.get_y(), patch.get_width()) for patch in axes.patches]
    assert len(marks) == 41
    assert len({y for _, y, _ in marks}) == 3  # forty words of four letters and a space are two lines
    x, _, width = marks[-1]
    assert texts["bad"].get_position()[0] == x
    assert width == pytest.approx(3 * 0.075)


def test_a_page_is_escaped_and_shades_what_matters():
    row = {
        "text": "yes",
        "label": "yes",
        "probabilities": {"no": 0.25, "yes": 0.75},
        "input": "<i> &\ngood",
        "tokens": ["<i>", "&", "good"],
        "weights": [0.0, 0.2, 0.8],
    }
    line = html_row(json.loads(json.dumps(row)))
    assert "\n" not in line
    assert re.sub("<[^>]*>", "|", line) == "|||yes||75%||||&lt;i&gt;| |&amp;|&#10;|good|||"
    shades = re.findall(r'--w:([0-9.]+)" title="([0-9.]+%)', line)
    assert shades == [("0.00", "0.0%"), ("0.25", "20.0%"), ("1.00", "80.0%")]


def test_a_page_of_what_has_no_weights():
    assert "<b>N V</b>" in html_row({"text": "N V"})
    several = html_row({"text": "a b", "label": ["a", "b"], "probabilities": {"a": 0.9, "b": 0.6}, "input": "x"})
    assert "<b>a</b><small>90%</small><br><b>b</b><small>60%</small></div><p>x</p>" in several
