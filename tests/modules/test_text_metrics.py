import random
from importlib.util import find_spec

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sacrebleu import metrics as sacre

from lightning_rnnattn.errors import UserError
from lightning_rnnattn.modules import text_metrics
from lightning_rnnattn.modules.text_metrics import BLEU, ChrF, ExactMatch, PhoneErrorRate, WordErrorRate

WORDS = ["a", "Dog's", "U.S.", "$3.50", "--", "Hund", "läuft,", "über", "&quot;", "the", "the", "one-legged", "(man)."]


def corpus(size, references, seed=0):
    """Sentences, and of each some variants; ``references`` is how many, or the most."""
    draw = random.Random(seed)
    texts = [" ".join(draw.choices(WORDS, k=draw.randrange(1, 20))) for _ in range(size)]
    counts = [references if isinstance(references, int) else draw.choice(references) for _ in texts]
    variants = [
        [" ".join(w for w in text.split() if draw.random() < 0.8) for _ in range(n)]
        for text, n in zip(texts, counts, strict=True)
    ]
    return texts, variants


def streams(references):
    most = max(map(len, references))
    return [[row[i] if i < len(row) else None for row in references] for i in range(most)]


@pytest.mark.parametrize("references", [1, 2, (1, 2, 4)])
@pytest.mark.parametrize(
    ("metric", "peer"),
    [
        (BLEU, sacre.BLEU()),
        (lambda: BLEU(lowercase=True, tokenize="intl"), sacre.BLEU(lowercase=True, tokenize="intl")),
        (ChrF, sacre.CHRF()),
        (lambda: ChrF(word_order=2, lowercase=True), sacre.CHRF(word_order=2, lowercase=True)),
    ],
)
def test_the_score_is_sacrebleus_whatever_the_batches(metric, peer, references):
    predictions, answers = corpus(200, references)
    expected = peer.corpus_score(predictions, streams(answers)).score
    one = metric()
    for start, stop in ((0, 1), (1, 1), (1, 90), (90, 200)):
        one.update(predictions[start:stop], answers[start:stop])
    assert one.compute().item() == pytest.approx(expected, abs=1e-5)
    assert 20 < expected < 95
    # Two ranks: the states are summed.
    ranks = [metric(), metric()]
    for rank, each in enumerate(ranks):
        each.update(predictions[rank::2], answers[rank::2])
    ranks[0].statistics += ranks[1].statistics
    assert ranks[0].compute() == one.compute()
    one.reset()
    assert not one.statistics.any()


def test_few_words_are_smoothed_as_sacrebleu_does():
    metric = BLEU()
    metric.update(["a b c d"], [["a b c e"]])
    assert metric.compute().item() == pytest.approx(sacre.BLEU().corpus_score(["a b c d"], [["a b c e"]]).score)
    metric = BLEU()
    metric.update([""], [["a b c e"]])
    assert metric.compute() == 0


def test_the_signature_is_logged_once(monkeypatch):
    lines = []
    monkeypatch.setattr(text_metrics, "rank_zero_info", lines.append)
    text_metrics._announce.cache_clear()
    for _ in range(2):
        for metric in (BLEU(), ChrF()):
            metric.update(["a b"], [["a b"]])
            metric.compute()
    assert len(lines) == 2
    metric.update(["a"], [["a", "b"]])
    metric.compute()
    assert lines.pop().startswith("ChrF: nrefs:var|")
    metric.reset()
    metric.update(["a b"], [["a b", "a"]])
    metric.compute()
    assert lines.pop().startswith("ChrF: nrefs:2|")
    assert lines[0].startswith("BLEU: nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp|version:2.")
    assert lines[1].startswith("ChrF: nrefs:1|case:mixed|eff:yes|nc:6|nw:0|space:no|version:2.")


def test_what_changes_the_figure_changes_the_name():
    metrics = (BLEU(), BLEU(lowercase=True), BLEU(tokenize="char"), ChrF(), ChrF(word_order=2), ChrF(lowercase=True))
    assert [m.name for m in metrics] == ["bleu", "bleu_lc", "bleu_char", "chrf", "chrf_w2", "chrf_lc"]
    assert [m().name for m in (ExactMatch, WordErrorRate, PhoneErrorRate)] == ["exact_match", "wer", "per"]


def test_an_unknown_tokenizer_is_refused():
    with pytest.raises(UserError, match=r"tokenize='14a' is none of sacrebleu's: .*13a"):
        BLEU(tokenize="14a")


def test_words_and_phonemes_by_hand():
    predictions = ["K AE T", "D AO", "", "F IH SH  AH Z", "B ER D"]
    references = [
        ["K AE T"],  # right
        ["D AA G", "D AO G Z", "D AO G"],  # two wrong, two missing, one missing: 1 of 3
        ["AH"],  # 1 of 1
        ["F IH SH IH Z", "F IH SH"],  # 1 of 5; the shorter is at distance 2
        ["B ER", "D", "B ER D"],  # right
    ]
    wer, per, exact = WordErrorRate(), PhoneErrorRate(), ExactMatch()
    for metric in (wer, per, exact):
        assert metric.compute().isnan()
        metric.update(predictions[:2], references[:2])
        metric.update([], [])
        metric.update(predictions[2:], references[2:])
    assert wer.compute() == 60
    assert exact.compute() == 40
    assert per.compute() == 100 * torch.tensor(3) / 15


PHONES = st.lists(st.sampled_from("ABC"), max_size=6)


@given(PHONES, PHONES)
def test_edit_distance_is_the_definition(a, b):
    def distance(i, j):
        if not i or not j:
            return i + j
        return min(distance(i - 1, j) + 1, distance(i, j - 1) + 1, distance(i - 1, j - 1) + (a[i - 1] != b[j - 1]))

    assert text_metrics._edit_distance(a, b) == distance(len(a), len(b))


@pytest.mark.skipif(find_spec("MeCab") is not None, reason="what is missing elsewhere is here")
def test_a_tokenizer_of_bleu_s_whose_package_is_missing():
    with pytest.raises(UserError, match=r"BLEU: tokenize='ja-mecab': .*install"):
        BLEU(tokenize="ja-mecab")
