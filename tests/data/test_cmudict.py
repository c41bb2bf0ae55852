import hashlib
from importlib.resources import files

import pytest

from lightning_rnnattn import CMUDict, UserError
from lightning_rnnattn.data.pair_batch import PairText

SAMPLES = files("lightning_rnnattn.data") / "samples"


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return CMUDict(batch_size=256, cache_dir=str(tmp_path_factory.mktemp("cmudict")))


def test_the_files_are_the_published_ones():
    hashes = {"g014b2b.train.gz": "3f2eebf0e8eaaf58", "g014b2b.ref.gz": "cae4ef548b914c89"}
    for name, expected in {**hashes, "cmudict.dict.gz": "1ee4489c70758b8c"}.items():
        assert hashlib.sha256((SAMPLES / name).read_bytes()).hexdigest()[:16] == expected
    notice = (SAMPLES / "NOTICE").read_text()
    assert "Copyright (C) 1993-2015 Carnegie Mellon University" in notice
    assert "Copyright (c) 2017, Josef Novak" in notice


def texts_of(data, split):
    pairs = {i: pair for batch in data._batches(split, 500) for i, pair in zip(batch.indices, batch.texts, strict=True)}
    return [pairs[i] for i in sorted(pairs)]


def test_the_counts_are_the_published_ones(data):
    val, test = texts_of(data, "val"), texts_of(data, "test")
    assert len(test) == 12_000
    assert sum(len(pair.references) for pair in test) == 12_753
    assert len(val) == 2_670
    sources, targets = ([line.text[:-1] for line in side.lines()] for side in data.corpora("train"))
    assert len(data.examples("train").lengths) == len(sources) == len(targets)
    in_train, in_val = set(sources), {pair.source for pair in val}
    assert len(in_train | in_val) == 106_837
    assert not in_train & in_val
    assert not (in_train | in_val) & {pair.source for pair in test}
    assert len(sources) + sum(len(pair.references) for pair in val) == 113_438
    assert data.source_vocab_size == 28  # A to Z, the apostrophe, the end
    assert data.target_vocab_size == 41  # 39 phonemes, <unk>, <eos>


def test_a_word_has_all_its_pronunciations(data):
    texts = texts_of(data, "test")
    assert texts[0] == PairText("ABADI", ("AH B AE D IY",))
    index = texts.index(PairText("ABSTAIN", ("AE B S T EY N", "AH B S T EY N")))
    batch = data.examples("test").collate([index], True)
    assert data.source_tokenizer.decode(batch.source.values[0]) == "ABSTAIN\n"
    assert data.target_tokenizer.decode(batch.target.values[0]) == "AE B S T EY N\n"
    # In training each is a pair.
    sources, targets = data.corpora("train")
    pairs = [(s.text, t.text) for s, t in zip(sources.lines(), targets.lines(), strict=True) if s.text == "AB\n"]
    assert pairs == [("AB\n", "AE B\n"), ("AB\n", "EY B IY\n")]


def test_words_of_ones_own(data, tmp_path):
    path = tmp_path / "words.txt"
    path.write_text("hello\nO'Neill\n")
    data.predict_source = str(path)
    batch = data.examples("predict").collate([0, 1], True)
    assert [text.source for text in batch.texts] == ["HELLO", "O'NEILL"]
    path.write_text("hello\ncafé\n")
    data._examples.pop("predict")
    with pytest.raises(UserError, match=r"words\.txt:2: character 'É' \(U\+00C9\) is not in the vocabulary"):
        data.examples("predict")
    with pytest.raises(UserError, match=r"no data for predict: give data\.predict_source"):
        CMUDict().examples("predict")
