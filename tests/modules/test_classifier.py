from functools import partial

import lightning.pytorch as L
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader

from lightning_rnnattn import (
    GRU,
    LSTM,
    AdditiveScore,
    Attention,
    AttentionPooling,
    Features,
    LastPooling,
    MaxPooling,
    MeanPooling,
    MultiLabel,
    SequenceClassifier,
    ShowsAttention,
    SingleLabel,
    TokenEmbedding,
    UserError,
    WordTokenizer,
    load,
)
from lightning_rnnattn.data import ClassBatch, ClassExamples, Padded

V, LABELS = 12, ("a", "b", "c")
QUERIES = partial(AttentionPooling, attention=partial(Attention, score=AdditiveScore), num_queries=3)
POOLINGS = [QUERIES, MeanPooling, MaxPooling, LastPooling]
OUTPUTS = [SingleLabel, MultiLabel]


def build(pooling=QUERIES, output=SingleLabel, **options):
    torch.manual_seed(0)
    classifier = SequenceClassifier(
        V,
        len(LABELS),
        input=partial(TokenEmbedding, embedding_size=5),
        rnn=partial(LSTM, hidden_size=4, bidirectional=True),
        pooling=pooling,
        output=output,
        **options,
    ).double()
    for parameter in classifier.parameters():
        torch.nn.init.normal_(parameter)
    classifier.labels = LABELS
    return classifier


def examples_of(lengths, output=SingleLabel, seed=0):
    generator = torch.Generator().manual_seed(seed)
    rows = [torch.randint(V, (length,), generator=generator) for length in lengths]
    labels = torch.randint(len(LABELS), (len(rows),), generator=generator)
    if output is MultiLabel:
        labels = torch.rand(len(rows), len(LABELS), generator=generator) > 0.5
    return ClassExamples(rows, labels, [" ".join(map(str, row.tolist())) for row in rows])


@settings(max_examples=30, deadline=None)
@given(
    lengths=st.lists(st.integers(0, 6), min_size=1, max_size=4),
    pooling=st.sampled_from(POOLINGS),
    output=st.sampled_from(OUTPUTS),
    seed=st.integers(0, 100),
)
def test_a_batch_equals_its_rows_one_by_one_whatever_the_padding(lengths, pooling, output, seed):
    examples, classifier = examples_of(lengths, output, seed), build(pooling, output).eval()
    batch = examples.collate(range(len(lengths)), True)
    padding = torch.arange(batch.inputs.values.shape[1]) >= batch.inputs.lengths[:, None]
    dirty = batch._replace(inputs=Padded(batch.inputs.values.masked_fill(padding, 7), batch.inputs.lengths))
    loss, predictions = classifier.step(dirty, "val"), classifier.predict_step(dirty, 0)
    alone = [examples.collate([i], True) for i in range(len(lengths))]
    torch.testing.assert_close(loss.total, sum(classifier.step(row, "val").total for row in alone))
    assert loss.weight == len(lengths)
    for row, predicted in zip(alone, predictions, strict=True):
        [own] = classifier.predict_step(row, 0)
        assert own["label"] == predicted["label"]
        assert list(own["probabilities"].values()) == pytest.approx(list(predicted["probabilities"].values()), abs=2e-6)


def test_an_empty_sequence_has_the_probabilities_of_the_bias():
    classifier = build().eval()
    probabilities = classifier(torch.zeros(2, 3, dtype=torch.long), torch.tensor([0, 3]))
    torch.testing.assert_close(probabilities[0], classifier.output.proj.bias.softmax(0))


@pytest.mark.parametrize("rnn", [LSTM, GRU])
@pytest.mark.parametrize("bidirectional", [True, False])
def test_the_last_element_is_each_direction_s_own_last(rnn, bidirectional):
    classifier = SequenceClassifier(
        V, 2, rnn=partial(rnn, hidden_size=3, bidirectional=bidirectional), pooling=LastPooling
    )
    values, lengths = torch.randint(V, (3, 5)), torch.tensor([5, 2, 1])
    _, state = classifier.rnn(classifier.input(values), None, lengths)
    last = state[0] if isinstance(state, tuple) else state  # (directions, B, hidden_size)
    vector, _ = classifier.features(values, lengths)
    torch.testing.assert_close(vector, last.transpose(0, 1).flatten(1))


def test_without_lengths_all_elements_are_real():
    classifier, values = build().eval(), torch.randint(V, (2, 5))
    torch.testing.assert_close(classifier(values), classifier(values, torch.tensor([5, 5])))


@pytest.mark.parametrize("output", OUTPUTS)
def test_a_batch_that_counts_nothing_runs_every_parameter(output):
    classifier = build(output=output, penalty=1.0)
    loss = classifier.step(examples_of([4], output).collate([0], False), "train")
    assert loss.total == loss.weight == 0
    gradients = torch.autograd.grad(loss.total, list(classifier.parameters()))
    assert not any(gradient.any() for gradient in gradients)


def test_the_penalty_is_that_of_lin_et_al_weighted_as_the_examples_are():
    output = partial(SingleLabel, class_weights=[0.5, 2.0, 1.0])
    classifier, batch = build(output=output, penalty=0.3), examples_of([4, 2, 5, 0]).collate(range(4), True)
    plain = build(output=output)
    shares = torch.tensor([0.5, 2.0, 1.0]).double()[batch.labels]
    weights = classifier.attention_weights(batch.inputs.values, batch.inputs.lengths)[:, 0]
    penalties = [((a @ a.T - torch.eye(3)) ** 2).sum() for a in weights]  # an empty sequence: 3
    assert penalties[3] == 3
    expected = plain.step(batch, "train").total + 0.3 * (torch.stack(penalties) * shares).sum()
    loss = classifier.step(batch, "train")
    torch.testing.assert_close(loss.total, expected)
    torch.testing.assert_close(loss.weight, shares.sum())
    for model in (classifier, plain):  # what is measured is the plain loss
        torch.testing.assert_close(model.eval().step(batch, "val"), build().eval().step(batch, "val"))


@pytest.mark.parametrize(("before", "behind"), [("input", "rnn"), ("pooling", "output.proj")])
def test_dropout_is_before_the_network_and_before_the_output(before, behind, assert_drops):
    classifier, values = build(dropout=0.3), torch.randint(V, (30, 6))
    layers = map(classifier.get_submodule, (before, behind))
    assert_drops(classifier, lambda: classifier(values), 0.3, *layers)


def test_where_it_looks():
    classifier, batch = build().eval(), examples_of([4, 2]).collate([0, 1], True)
    weights = classifier.attention_weights(batch.inputs.values, batch.inputs.lengths)
    assert weights.shape == (2, 1, 3, 4)
    torch.testing.assert_close(weights.sum(-1), torch.ones(2, 1, 3).double())
    assert not weights[1, ..., 2:].any()
    with pytest.raises(UserError, match="MaxPooling has no attention weights"):
        build(MaxPooling).attention_weights(batch.inputs.values)


def test_views_of_a_batch_and_of_a_text():
    classifier, batch = build().eval(), examples_of([4, 2]).collate([0, 1], True)
    assert isinstance(classifier, ShowsAttention)
    [[first]] = classifier.attention_views(batch, 1)
    assert first.queries == ("pooling 1", "pooling 2", "pooling 3")
    assert first.keys == ("1", "2", "3", "4")
    classifier.tokenizer = WordTokenizer(eos=False).train(batch.texts)
    assert classifier.attention_views(batch, 2)[1][0].keys == tuple(batch.texts[1].split())
    [view] = classifier.text_views("never seen")
    assert view.keys == ("never", "seen")
    torch.testing.assert_close(view.weights.sum(-1), torch.ones(1, 3))
    with pytest.raises(UserError, match="no token in the text"):
        classifier.text_views(" ")


def test_predictions_can_be_read():
    classifier, batch = build().eval(), examples_of([3, 0]).collate([0, 1], True)
    first, second = classifier.predict_step(batch, 0)
    assert first["input"] == batch.texts[0]
    assert first["label"] == first["text"] == max(first["probabilities"], key=first["probabilities"].get)
    assert sum(first["probabilities"].values()) == pytest.approx(1, abs=1e-5)
    assert "weights" not in first
    classifier.predict_attention = True
    first, second = classifier.predict_step(batch, 0)
    assert sum(first["weights"]) == pytest.approx(1, abs=1e-5)
    assert second["weights"] == []
    [several] = build(output=MultiLabel).eval().predict_step(examples_of([3]).collate([0], True), 0)
    assert several["label"] == [name for name, p in several["probabilities"].items() if p > 0.5]
    assert classifier.predict_step(batch._replace(counts=torch.tensor([False, True])), 0) == [second]


def test_what_cannot_work_is_said():
    with pytest.raises(UserError, match="dropout=1"):
        build(dropout=1.0)
    with pytest.raises(UserError, match="penalty=-1"):
        build(penalty=-1)
    batch = examples_of([2]).collate([0], True)
    with pytest.raises(UserError, match="MaxPooling has no weights"):
        build(MaxPooling, penalty=1.0).step(batch, "train")
    with pytest.raises(UserError, match=r"set model.output to MultiLabel"):
        build().step(examples_of([2], MultiLabel).collate([0], True), "train")
    with pytest.raises(UserError, match=r"set model.output to SingleLabel"):
        build(output=MultiLabel).step(batch, "train")


class Data(L.LightningDataModule):
    """Sequences that say their label: the one of most of their tokens, modulo 3; or all that occur thrice."""

    labels = LABELS
    tokenizer = None

    def __init__(self, several):
        super().__init__()
        self.several = several

    def batches(self, count, seed):
        for i in range(count):
            examples = examples_of([9, 7, 5, 8] * 4, seed=1000 * seed + i)
            batch = examples.collate(range(16), True)
            real = torch.arange(9) < batch.inputs.lengths[:, None]
            votes = torch.stack([((batch.inputs.values % 3 == label) & real).sum(1) for label in range(3)], 1)
            yield batch._replace(labels=votes > 2 if self.several else votes.argmax(1))

    def train_dataloader(self):
        return DataLoader(list(self.batches(50, 1)), batch_size=None)

    def val_dataloader(self):
        return DataLoader(list(self.batches(4, 2)), batch_size=None)

    test_dataloader = predict_dataloader = val_dataloader


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("output", OUTPUTS)
def test_learns_validates_tests_predicts_and_loads_again(output, tmp_path):
    L.seed_everything(0)
    classifier = SequenceClassifier(
        V,
        3,
        input=partial(TokenEmbedding, embedding_size=8),
        rnn=partial(GRU, hidden_size=16, bidirectional=True),
        output=partial(output, label_smoothing=0.01),
        auroc=True,
        penalty=0.01,
        optimizer=partial(torch.optim.Adam, lr=0.03),
    )
    trainer = L.Trainer(
        default_root_dir=tmp_path,
        accelerator="cpu",
        logger=False,
        max_epochs=3,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
    )
    data = Data(several=output is MultiLabel)
    trainer.fit(classifier, data)
    [tested] = trainer.test(classifier, data, verbose=False)
    assert set(tested) == {f"test_{name}" for name in ("loss", "accuracy", "f1", "auroc")}
    assert tested["test_accuracy"] > 0.85
    assert tested["test_f1"] > 0.85
    assert tested["test_auroc"] > 0.93

    trainer.save_checkpoint(tmp_path / "classifier.ckpt")
    again = load(tmp_path / "classifier.ckpt")
    assert again.labels == LABELS
    assert isinstance(again.output, output)
    assert trainer.predict(classifier, data) == trainer.predict(again, data)


def test_pretrained_vectors_are_taken_when_the_training_begins(tmp_path):
    (tmp_path / "vectors.txt").write_text("1 0.5 0.25\n7 -1 2\n")
    embedding = partial(TokenEmbedding, embedding_size=2, vectors=str(tmp_path / "vectors.txt"), freeze=True)
    classifier = SequenceClassifier(V, 3, input=embedding, rnn=partial(GRU, hidden_size=4))
    data = Data(several=False)
    data.tokenizer = WordTokenizer(eos=False).train([" ".join(map(str, range(V - 1)))])
    options = {"accelerator": "cpu", "logger": False, "enable_progress_bar": False, "enable_checkpointing": False}
    L.Trainer(max_steps=2, **options).fit(classifier, data)
    rows = classifier.input.embedding.weight[data.tokenizer.ids(["1", "7"])]
    assert rows.tolist() == [[0.5, 0.25], [-1, 2]]


class Own(SequenceClassifier):
    """Adds the length to what the output layer reads, and learns with another loss."""

    def features(self, values, lengths=None):
        vector, weights = super().features(values, lengths)
        return torch.cat([vector[:, :-1], lengths[:, None].to(vector)], 1), weights

    def loss(self, vector, weights, labels, counts):
        loss = super().loss(vector, weights, labels, counts)
        return loss._replace(total=2 * loss.total)


def test_a_subclass_changes_features_and_loss():
    own, batch = Own(V, 3, rnn=partial(LSTM, hidden_size=4)), examples_of([4, 2]).collate([0, 1], True)
    vector, _ = own.features(batch.inputs.values, batch.inputs.lengths)
    assert vector[:, -1].tolist() == [4, 2]
    expected = own.output.losses(vector, batch.labels).sum()
    torch.testing.assert_close(own.step(batch, "train").total, 2 * expected)


def test_real_valued_features_are_classified_too():
    classifier = SequenceClassifier(4, 3, input=Features, rnn=partial(LSTM, hidden_size=2))
    rows = ClassExamples([torch.randn(5, 4), torch.randn(2, 4)], torch.tensor([0, 2]))
    batch = rows.collate([1, 0], True)
    assert isinstance(batch, ClassBatch)
    assert batch.inputs.values.shape == (2, 5, 4)
    assert batch.texts is None
    assert classifier.num_tokens(batch) == 7
    classifier.labels = LABELS
    assert "input" not in classifier.predict_step(batch, 0)[0]
