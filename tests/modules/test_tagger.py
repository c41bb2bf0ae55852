from functools import partial
from types import SimpleNamespace
from typing import NamedTuple

import lightning.pytorch as L
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.utils.data import DataLoader

from lightning_rnnattn import (
    GRU,
    LSTM,
    AdditiveScore,
    Attention,
    SequenceClassifier,
    SequenceTagger,
    UserError,
    load,
)
from lightning_rnnattn.data import ClassExamples
from lightning_rnnattn.layers import CharacterEncoder, CRFOutput, Features, Residual, SoftmaxOutput, TokenEmbedding
from lightning_rnnattn.modules import BIO, IOB1
from lightning_rnnattn.ops import lengths_mask

V, N, T = 12, 7, 6
LABELS = ("B-X", "I-X", "O")
CHARACTERS = partial(CharacterEncoder, embedding_size=4, rnn=partial(GRU, hidden_size=3, bidirectional=True))
ATTENTIONS = [None, partial(Attention, score=AdditiveScore, num_heads=2)]
OUTPUTS = [SoftmaxOutput, CRFOutput]


class Padded(NamedTuple):
    values: Tensor
    lengths: Tensor


class Batch(NamedTuple):
    words: Padded
    characters: Tensor | None
    character_lengths: Tensor | None
    labels: Tensor | None
    counts: Tensor
    indices: tuple[int, ...]
    texts: tuple[tuple[str, ...], ...] | None


def build(characters=CHARACTERS, attention=ATTENTIONS[1], output=CRFOutput, **options):
    tagger = SequenceTagger(
        V,
        len(LABELS),
        N,
        input=partial(TokenEmbedding, embedding_size=5),
        characters=characters,
        rnn=partial(LSTM, hidden_size=4, bidirectional=True),
        attention=attention,
        output=output,
        **options,
    ).double()
    tagger.labels = LABELS
    return tagger


def batch_of(lengths, counts=None, seed=0, padding=0):
    """A batch of random content; what is padding holds ``padding``."""
    torch.manual_seed(seed)
    lengths = torch.tensor(lengths)
    size = int(lengths.max())
    mask = lengths_mask(lengths, size)
    word_lengths = torch.randint(1, 4, mask.shape).masked_fill(~mask, 0)
    characters = torch.randint(N, (*mask.shape, 3))
    return Batch(
        words=Padded(torch.randint(V, mask.shape).masked_fill(~mask, padding), lengths),
        characters=characters.masked_fill(~lengths_mask(word_lengths, 3), padding),
        character_lengths=word_lengths,
        labels=torch.randint(len(LABELS), mask.shape).masked_fill(~mask, padding),
        counts=torch.tensor([True] * len(lengths) if counts is None else counts),
        indices=tuple(range(10, 10 + len(lengths))),
        texts=tuple(tuple(f"w{t}" for t in range(length)) for length in lengths.tolist()),
    )


def row(batch, b):
    """One row of a batch, without its padding."""
    size = int(batch.words.lengths[b])
    return Batch(
        Padded(batch.words.values[b : b + 1, :size], batch.words.lengths[b : b + 1]),
        *(x[b : b + 1, :size] for x in (batch.characters, batch.character_lengths, batch.labels)),
        batch.counts[b : b + 1],
        batch.indices[b : b + 1],
        batch.texts[b : b + 1],
    )


@settings(max_examples=30, deadline=None)
@given(
    lengths=st.lists(st.integers(0, T), min_size=1, max_size=4).filter(any),
    characters=st.sampled_from([None, CHARACTERS]),
    attention=st.sampled_from(ATTENTIONS),
    output=st.sampled_from(OUTPUTS),
    scheme=st.sampled_from([None, BIO()]),
    seed=st.integers(0, 100),
)
def test_a_batch_equals_its_rows_one_by_one(lengths, characters, attention, output, scheme, seed):
    batch = batch_of(lengths, seed=seed, padding=2)
    tagger = build(characters, attention, output, scheme=scheme, combine=Residual).eval()
    for parameter in tagger.parameters():
        torch.nn.init.normal_(parameter)
    loss, predictions = tagger.step(batch, "val"), tagger.predict_step(batch, 0)
    real = [b for b, length in enumerate(lengths) if length]
    alone = [tagger.step(row(batch, b), "val") for b in real]
    torch.testing.assert_close(loss.total, sum(own.total for own in alone))
    assert loss.weight == sum(lengths) == sum(own.weight for own in alone)
    for b in real:
        [own] = tagger.predict_step(row(batch, b), 0)
        assert predictions[b]["labels"] == own["labels"]
        assert predictions[b]["probabilities"] == pytest.approx(own["probabilities"], abs=2e-6)


@pytest.mark.parametrize("output", OUTPUTS)
def test_a_batch_that_counts_nothing_runs_every_parameter(output):
    tagger = build(output=output, combine=Residual)
    loss = tagger.step(batch_of([4, 2], counts=[False, False]), "train")
    assert loss.total == loss.weight == 0
    gradients = torch.autograd.grad(loss.total, list(tagger.parameters()))
    assert not any(gradient.any() for gradient in gradients)


def test_rows_that_do_not_count_have_no_part():
    tagger = build().eval()
    whole, part = batch_of([4, 2, 3]), batch_of([4, 2, 3], counts=[True, False, True])
    expected = [tagger.step(row(whole, b), "val").total for b in (0, 2)]
    torch.testing.assert_close(tagger.step(part, "val").total, sum(expected))
    assert tagger.num_tokens(part) == 7
    assert [prediction["index"] for prediction in tagger.predict_step(part, 0)] == [10, 12]


def test_predictions_can_be_read():
    tagger = build().eval()
    with torch.inference_mode():
        first, second = tagger.predict_step(batch_of([3, 0]), 0)
    assert first["index"] == 10
    assert first["words"] == ["w0", "w1", "w2"]
    assert set(first["labels"]) <= set(LABELS)
    assert len(first["labels"]) == len(first["probabilities"]) == 3
    assert all(1 / 27 < probability <= 1 for probability in first["probabilities"])
    assert first["text"] == " ".join(first["labels"])
    assert second == {"index": 11, "words": [], "labels": [], "probabilities": [], "text": ""}


def test_predictions_have_the_weights_of_words_where_asked():
    tagger, batch = build().eval(), batch_of([3, 0, 5], counts=[True, True, False])
    tagger.predict_attention = True
    first, second = tagger.predict_step(batch, 0)
    weights = tagger.attention_weights(*batch.words, *batch[1:3]).mean(1)
    assert torch.tensor(first["weights"]).tolist() == weights[0, :3, :3].float().mul(1e6).round().div(1e6).tolist()
    assert [sum(word) for word in first["weights"]] == pytest.approx([1] * 3, abs=2e-6)
    assert second["weights"] == []
    plain = build(attention=None)
    plain.predict_attention = True
    with pytest.raises(UserError, match="no attention weights"):
        plain.predict_step(batch, 0)


@pytest.mark.parametrize("output", OUTPUTS)
def test_with_a_scheme_nothing_is_predicted_that_it_forbids(output):
    batch = batch_of([6] * 30)
    free, limited = build(output=output).eval(), build(output=output, scheme=BIO()).eval()
    torch.manual_seed(2)
    for parameter in free.parameters():
        torch.nn.init.normal_(parameter)
    limited.load_state_dict(free.state_dict())

    def strange(tagger):
        rows = [prediction["labels"] for prediction in tagger.predict_step(batch, 0)]
        return sum(b == "I-X" and a == "O" for names in rows for a, b in zip(["O", *names], names, strict=False))

    assert strange(free) > 0
    assert strange(limited) == 0


@pytest.mark.parametrize("output", OUTPUTS)
@pytest.mark.parametrize(("before", "behind"), [("input", "rnn"), ("combine", "output.proj")])
def test_dropout_is_before_the_network_and_before_the_output(before, behind, output, assert_drops):
    tagger, words = build(characters=None, output=output, dropout=0.3), torch.randint(V, (10, T))
    layers = map(tagger.get_submodule, (before, behind))
    assert_drops(tagger, lambda: tagger(words), 0.3, *layers)


def test_words_are_looked_up_among_their_neighbours_in_both_directions():
    tagger = build().eval()
    batch = batch_of([5, 3])
    weights = tagger.attention_weights(
        batch.words.values, batch.words.lengths, batch.characters, batch.character_lengths
    )
    assert weights.shape == (2, 2, 5, 5)
    assert (weights[0] > 0).all()
    assert not weights[1, :, :, 3:].any()
    with pytest.raises(UserError, match="no attention weights"):
        build(attention=None).attention_weights(batch.words.values, batch.words.lengths, batch.characters, 1)


def test_real_valued_features_are_tagged_too():
    tagger = SequenceTagger(4, 3, 0, input=Features, rnn=partial(LSTM, hidden_size=2))
    assert tagger(torch.randn(2, 5, 4), torch.tensor([5, 1]))[1].tolist()[1:] == [0] * 4


def test_what_cannot_work_is_said():
    with pytest.raises(UserError, match="has no characters"):
        SequenceTagger(V, 3, 0, characters=CHARACTERS)
    with pytest.raises(UserError, match="dropout=1"):
        build(dropout=1.0)
    batch = batch_of([2])._replace(characters=None, character_lengths=None)
    with pytest.raises(UserError, match="batch has no characters"):
        build().step(batch, "train")
    tagger = build(scheme=BIO())
    tagger.labels = None
    with pytest.raises(UserError, match="names of the labels"):
        tagger(batch_of([2]).words.values, None, *batch_of([2])[1:3])


def test_a_batch_for_the_other_module_is_told():
    whole = ClassExamples([torch.tensor([1, 2])], torch.tensor([0])).collate([0], True)
    classifier = SequenceClassifier(V, 3)
    for run in ("step", "evaluate", "predict_step"):
        with pytest.raises(UserError, match=r"gives ClassBatch.*set data to TaggedDataModule"):
            getattr(build(), run)(whole, "val")
        with pytest.raises(UserError, match=r"gives Batch.*set data to ClassifiedDataModule"):
            getattr(classifier, run)(batch_of([2]), "val")


@pytest.mark.parametrize(
    ("scheme", "labels", "way"),
    [
        (BIO(), ("B-LOC", "I-LOC", "I-ORG", "O"), "'I-ORG'.*look like IOB1: set model.scheme to IOB1"),
        (IOB1(), ("B-LOC", "I-ORG", "O"), "'B-LOC'.*correct them"),
        (IOB1(), ("B-LOC", "B-ORG", "I-ORG", "O"), "'B-LOC'.*look like BIO: set model.scheme to BIO"),
    ],
)
def test_labels_that_the_scheme_never_reaches_are_told_before_training(scheme, labels, way, tmp_path):
    tagger = unlabelled(scheme=scheme)
    with pytest.raises(UserError, match=f"in {type(scheme).__name__} none.*{way}"):
        trainer(tmp_path, max_steps=1).fit(tagger, Data(labels))


class Data(L.LightningDataModule):
    """Words that say their label: w % 3, except that 1 (I-X) holds only after 0 or 1 (it is O otherwise)."""

    labels = LABELS
    tokenizer = character_tokenizer = None

    def __init__(self, labels=LABELS):
        super().__init__()
        self.labels = labels

    def batches(self, count, seed):
        for i in range(count):
            batch = batch_of([6, 4, 0, 1] * 4, seed=1000 * seed + i)
            labels = batch.words.values % 3
            for t in range(labels.shape[1]):
                lonely = (labels[:, t] == 1) & ((labels[:, t - 1] == 2) if t else True)
                labels[:, t] = labels[:, t].masked_fill(lonely, 2)
            yield batch._replace(labels=labels)

    def train_dataloader(self):
        return DataLoader(list(self.batches(60, 1)), batch_size=None)

    def val_dataloader(self):
        return DataLoader(list(self.batches(3, 2)), batch_size=None)

    test_dataloader = predict_dataloader = val_dataloader


def unlabelled(**options):
    tagger = build(**options).float()
    tagger.labels = None  # as it is before the data says
    return tagger


def trainer(tmp_path, **options):
    return L.Trainer(
        default_root_dir=tmp_path,
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        **options,
    )


@pytest.mark.filterwarnings("ignore")
def test_learns_validates_tests_predicts_and_loads_again(tmp_path):
    L.seed_everything(0)
    tagger = build(scheme=BIO(), optimizer=partial(torch.optim.Adam, lr=0.03)).float()
    fit = trainer(tmp_path, max_epochs=4, enable_checkpointing=False)
    fit.fit(tagger, Data())
    [tested] = fit.test(tagger, Data(), verbose=False)
    assert set(tested) == {
        f"test_{name}" for name in ("loss", "accuracy", "sentence_accuracy", "span_f1", "span_precision", "span_recall")
    }
    assert tested["test_accuracy"] > 0.97
    assert tested["test_sentence_accuracy"] > 0.9
    assert tested["test_span_f1"] > 0.95
    assert tested["test_loss"] < 0.2

    fit.save_checkpoint(tmp_path / "tagger.ckpt")
    again = load(tmp_path / "tagger.ckpt")
    assert again.labels == LABELS
    assert again.scheme == BIO()
    predicted = [fit.predict(model, Data()) for model in (tagger, again)]
    assert predicted[0] == predicted[1]


@pytest.mark.filterwarnings("ignore")
def test_labels_of_another_scheme_are_refused_before_training(tmp_path):
    with pytest.raises(UserError, match="'NOUN'"):
        trainer(tmp_path, max_epochs=1).fit(unlabelled(scheme=BIO()), Data(("NOUN", "VERB", "O")))


@pytest.mark.filterwarnings("ignore")
def test_without_a_scheme_no_spans_are_scored(tmp_path):
    tagger = unlabelled(characters=None, output=SoftmaxOutput)
    [tested] = trainer(tmp_path).test(tagger, Data(("NOUN", "VERB", "X")), verbose=False)
    assert set(tested) == {"test_loss", "test_accuracy", "test_sentence_accuracy"}


def test_num_tokens_needs_no_labels():
    batch = SimpleNamespace(words=Padded(None, torch.tensor([2, 5])), counts=torch.tensor([True, False]))
    assert build().num_tokens(batch) == 2
