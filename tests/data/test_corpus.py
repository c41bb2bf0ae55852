import json
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightning_rnnattn.data.corpus import Corpus, FileCorpus, HubCorpus, Part, digest
from lightning_rnnattn.data.files import Line
from lightning_rnnattn.errors import UserError


class Lines(Corpus):
    """A corpus in memory."""

    name, size = "lines", 1

    def __init__(self, lines):
        self._lines = lines

    def fingerprint(self):
        return digest(self._lines)

    def lines(self):
        for number, text in enumerate(self._lines, 1):
            yield Line(text, "lines", number, 1)


def texts(corpus):
    return [line.text for line in corpus.lines()]


@pytest.fixture
def folder(tmp_path):
    for name, text in {"b.txt": "b1\nb2\n", "a.txt": "a1\na2", "c.md": "c\n", "deep/er/d.txt": "d\n"}.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def test_files_follow_each_other(folder):
    corpus = FileCorpus([folder / "a.txt", folder / "b.txt"])
    assert [(line.text, line.source[-5:], line.number) for line in corpus.lines()] == [
        ("a1\n", "a.txt", 1),
        ("a2\n", "a.txt", 2),
        ("b1\n", "b.txt", 1),
        ("b2\n", "b.txt", 2),
    ]
    positions = [line.position for line in corpus.lines()]
    assert positions == sorted(positions)
    assert positions[-1] <= corpus.size


def test_fingerprint_is_of_the_content(folder):
    first = FileCorpus([folder / "a.txt"]).fingerprint()
    (folder / "copy.txt").write_bytes((folder / "a.txt").read_bytes())
    assert FileCorpus([folder / "copy.txt"]).fingerprint() == first
    assert FileCorpus([folder / "a.txt", folder / "b.txt"]).fingerprint() != first
    (folder / "a.txt").write_text("a1\na3")
    assert FileCorpus([folder / "a.txt"]).fingerprint() != first
    (folder / "a.txt").unlink()
    with pytest.raises(UserError, match=r"a.txt: cannot read the file"):
        FileCorpus([folder / "a.txt"]).fingerprint()


@given(
    lengths=st.lists(st.integers(1, 20), min_size=1, max_size=30),
    cuts=st.lists(st.floats(0, 1), max_size=3).map(sorted),
)
def test_parts_share_nothing_and_leave_nothing_out(lengths, cuts):
    whole = Lines([f"{i}".zfill(n) + "\n" for i, n in enumerate(lengths)])
    bounds = [0.0, *cuts, 1.0]
    parts = [Part(whole, start, stop) for start, stop in pairwise(bounds)]
    assert [line for part in parts for line in part.lines()] == list(whole.lines())


def test_part_by_hand():
    whole = Lines(["a\n"] * 10)
    assert len(list(Part(whole, 0.0, 0.9).lines())) == 9
    assert len(list(Part(whole, 0.9, 1.0).lines())) == 1
    assert Part(whole, 0.0, 0.9).fingerprint() != Part(whole, 0.0, 0.8).fingerprint()


@pytest.fixture
def dataset(tmp_path_factory, tmp_path, monkeypatch):
    datasets = pytest.importorskip("datasets")
    folder = tmp_path_factory.mktemp("rows")  # a folder's name with "test" in it would make all a test split
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "hf")
    for split, rows in {"train": ["one", "two\nthree\n", ""], "validation": ["four"]}.items():
        (folder / f"{split}.jsonl").write_text("".join(json.dumps({"id": 1, "text": row}) + "\n" for row in rows))
    return folder


def test_hub_dataset(dataset):
    corpus = HubCorpus(str(dataset), None, "train", "text")
    assert texts(corpus) == ["one\n", "two\nthree\n", "\n"]
    assert corpus.size == 3
    assert corpus.fingerprint() == HubCorpus(str(dataset), None, "train", "text").fingerprint()
    assert corpus.fingerprint() != HubCorpus(str(dataset), None, "validation", "text").fingerprint()
    assert texts(HubCorpus(str(dataset), None, "train[:1]", "text")) == ["one\n"]


def test_hub_dataset_says_what_is_wrong(dataset, tmp_path):
    with pytest.raises(UserError, match=r"data.text_column: .* has no column 'body', but id, text"):
        HubCorpus(str(dataset), None, "train", "body")
    with pytest.raises(UserError, match=r"data.dataset: cannot load .*\[test\]"):
        HubCorpus(str(dataset), None, "test", "text")
    with pytest.raises(UserError, match=r"data.dataset: cannot load"):
        HubCorpus(str(tmp_path / "none"), None, "train", "text")
    with pytest.raises(UserError, match=r"\[train\]:1: column 'id' has no text but 1"):
        list(HubCorpus(str(dataset), None, "train", "id").lines())
