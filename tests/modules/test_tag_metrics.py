import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lightning_rnnattn import UserError
from lightning_rnnattn.modules.schemes import BIO, IOB1
from lightning_rnnattn.modules.tag_metrics import SentenceAccuracy, SpanF1, SpanPrecision, SpanRecall, TokenAccuracy
from lightning_rnnattn.ops.spans import SpanCounts, count_spans, find_spans

LABELS = ("B-LOC", "I-LOC", "O", "B-PER", "I-PER")


def ids(*rows):
    """Rows of label names, with spaces between them, as padded ids and their mask."""
    rows = [row.split() for row in rows]
    size = max([1, *map(len, rows)])
    labels = torch.tensor([[LABELS.index(name) for name in row] + [0] * (size - len(row)) for row in rows])
    return labels, torch.tensor([[t < len(row) for t in range(size)] for row in rows])


def chunks_by_conlleval(names):
    """Chunks as (type, first, last), by startOfChunk and endOfChunk of conlleval.pl, for prefixes B, I and O."""
    found, first, previous = [], None, ("O", "")
    for t, name in enumerate([*names, "O"]):
        prefix, _, kind = name.partition("-")
        end = previous[0] in "BI" and (prefix in "BO" or previous[1] != kind)
        start = prefix == "B" or (prefix == "I" and (previous[0] == "O" or previous[1] != kind))
        if end:
            found.append((previous[1], first, t - 1))
        if start:
            first = t
        previous = (prefix, kind)
    return set(found)


def as_sets(labels, mask):
    """What `find_spans` finds, per row."""
    table = BIO().table(LABELS)
    spans = find_spans(labels, mask, table)
    names = {int(kind): label[2:] for kind, label in zip(table.kind, LABELS, strict=True)}
    return [
        {(names[int(spans.kind[b, t])], int(t), int(spans.end[b, t])) for t in spans.begins[b].nonzero().flatten()}
        for b in range(len(labels))
    ]


def test_spans_by_hand():
    labels, mask = ids("B-PER I-PER O B-LOC", "I-PER I-LOC B-LOC I-LOC O I-LOC", "O O")
    assert as_sets(labels, mask) == [
        {("PER", 0, 1), ("LOC", 3, 3)},
        {("PER", 0, 0), ("LOC", 1, 1), ("LOC", 2, 3), ("LOC", 5, 5)},
        set(),
    ]


@settings(max_examples=200, deadline=None)
@given(rows=st.lists(st.lists(st.sampled_from(LABELS), max_size=7), min_size=1, max_size=3), data=st.data())
def test_counts_are_those_of_conlleval(rows, data):
    other = [data.draw(st.lists(st.sampled_from(LABELS), min_size=len(row), max_size=len(row))) for row in rows]
    actual, mask = ids(*(" ".join(row) for row in rows))
    predicted, _ = ids(*(" ".join(row) for row in other))
    true = [chunks_by_conlleval(row) for row in rows]
    found = [chunks_by_conlleval(row) for row in other]
    assert as_sets(actual, mask) == true
    counts = count_spans(predicted, actual, mask, BIO().table(LABELS))
    expected = [
        sum(len(a & b) for a, b in zip(found, true, strict=True)), sum(map(len, found)), sum(map(len, true))
    ]  # fmt: skip
    assert [int(count) for count in counts] == expected


def test_a_span_needs_the_right_type_and_both_ends():
    table = BIO().table(LABELS)
    actual, mask = ids("B-PER I-PER O B-LOC B-LOC")
    predicted, _ = ids("B-PER O O B-PER B-LOC")  # too short; another type; right
    assert [int(count) for count in count_spans(predicted, actual, mask, table)] == [1, 3, 3]


def counts(correct, predicted, actual):
    return SpanCounts(*(torch.tensor(count) for count in (correct, predicted, actual)))


def test_span_scores_sum_over_batches():
    for metric, expected in ((SpanPrecision(), 3 / 5), (SpanRecall(), 3 / 8), (SpanF1(), 6 / 13)):
        metric.update(counts(2, 3, 4))
        metric.update(counts(1, 2, 4))
        assert metric.compute().item() == pytest.approx(expected)


@pytest.mark.filterwarnings("ignore:The ``compute`` method")
@pytest.mark.parametrize(
    ("found", "expected"),
    [((0, 0, 5), (0, 0, 0)), ((0, 5, 0), (0, 0, 0)), ((0, 3, 5), (0, 0, 0)), ((0, 0, 0), (math.nan,) * 3)],
)
def test_span_scores_where_a_share_is_of_nothing(found, expected):
    for metric, value in zip((SpanPrecision(), SpanRecall(), SpanF1()), expected, strict=True):
        metric.update(counts(*found))
        assert metric.compute().item() == pytest.approx(value, nan_ok=True)


def test_accuracy_of_elements_and_sequences():
    actual = torch.tensor([[1, 2, 3], [4, 5, 0], [6, 0, 0], [0, 0, 0]])
    predicted = torch.tensor([[1, 2, 9], [4, 5, 9], [6, 9, 9], [9, 9, 9]])
    mask = torch.tensor([[True] * 3, [True, True, False], [True, False, False], [False] * 3])
    tokens, sentences = TokenAccuracy(), SentenceAccuracy()
    for rows in (slice(0, 1), slice(1, 4)):
        tokens.update(predicted[rows], actual[rows], mask[rows])
        sentences.update(predicted[rows], actual[rows], mask[rows])
    assert tokens.compute().item() == pytest.approx(5 / 6)
    assert sentences.compute().item() == pytest.approx(2 / 3)  # the empty one does not count


@pytest.mark.parametrize("metric", [TokenAccuracy, SentenceAccuracy, SpanF1, SpanPrecision, SpanRecall])
def test_states_are_sums_of_integers(metric):
    metric = metric()
    assert {reduction.__name__ for reduction in metric._reductions.values()} == {"dim_zero_sum"}
    assert all(getattr(metric, name).dtype == torch.int64 for name in metric._defaults)


def test_what_may_follow_what():
    assert BIO().allowed(LABELS).start.tolist() == [True, False, True, True, False]
    assert BIO().allowed(LABELS).transition.tolist() == [
        [True, True, True, True, False],  # B-LOC
        [True, True, True, True, False],  # I-LOC
        [True, False, True, True, False],  # O
        [True, False, True, True, True],  # B-PER
        [True, False, True, True, True],  # I-PER
    ]
    assert IOB1().allowed(LABELS).start.tolist() == [False, True, True, False, True]
    assert IOB1().allowed(LABELS).transition[1].tolist() == [True, True, True, False, True]


@pytest.mark.parametrize("label", ["NOUN", "B-", "S-PER", "b-PER"])
def test_labels_of_no_scheme_are_named(label):
    with pytest.raises(UserError, match=f"'{label}'.*model.scheme null"):
        BIO().table(["O", label])
