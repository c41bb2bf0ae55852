"""Broken files, for each reader: it is read right, or one line says where and what. (Tables: `test_tables.py`.)"""

import gzip
import random
import re

import pytest

from lightning_rnnattn.data import Columns, CoNLLU, TaggedDataModule, TextDataModule, WordLines
from lightning_rnnattn.errors import UserError

WORD = "1\tIt\t_\t_\t_\t_\t_\t_\t_\t_\n"
GOOD = {
    "text": b"It is a truth\nuniversally\n",
    "columns": b"It PRON\nis AUX\n\nIt PRON\n",
    "conllu": (WORD + "\n").encode(),
}
READERS = {
    "text": lambda path: TextDataModule(str(path)).tokenizer.to_str(),
    "columns": lambda path: list(Columns().sentences(path, labelled=True)),
    "conllu": lambda path: list(CoNLLU().sentences(path, labelled=True)),
    "words": lambda path: list(WordLines().sentences(path, labelled=False)),
}
GOOD["words"] = GOOD["text"]
BROKEN = {
    "empty": lambda good: b"",
    "NUL": lambda good: good[:4] + b"\0" + good[4:],
    "Latin-1": lambda good: good[:2] + b"\xe9" + good[2:],
    "UTF-16": lambda good: good.decode().encode("utf-16"),
    "half a gzip": lambda good: gzip.compress(good * 50)[:-30],
}
FINE = {
    "CR LF": lambda good: good.replace(b"\n", b"\r\n"),
    "a byte order mark": lambda good: b"\xef\xbb\xbf" + good,
    "gzip": gzip.compress,
}


@pytest.fixture(autouse=True)
def _cache(tmp_path, monkeypatch):
    monkeypatch.setenv("LIGHTNING_RNNATTN_CACHE", str(tmp_path / "cache"))


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("what", BROKEN)
def test_says_file_and_line(tmp_path, reader, what):
    path = tmp_path / "broken.txt"
    path.write_bytes(BROKEN[what](GOOD[reader]))
    with pytest.raises(UserError, match=rf"^{re.escape(str(path))}:\d+: ") as said:
        READERS[reader](path)
    assert len(str(said.value).splitlines()) == 1


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("what", FINE)
def test_reads_what_is_only_written_otherwise(tmp_path, reader, what):
    plain, other = tmp_path / "plain.txt", tmp_path / "other.txt"
    plain.write_bytes(GOOD[reader])
    other.write_bytes(FINE[what](GOOD[reader]))
    assert str(READERS[reader](other)).replace("other.txt", "plain.txt") == str(READERS[reader](plain))


@pytest.mark.parametrize("reader", READERS)
def test_any_damage_is_read_or_named(tmp_path, reader):
    path = tmp_path / "damaged.txt"
    rng = random.Random(0)
    for _ in range(100):
        damaged = bytearray(GOOD[reader])
        for _ in range(rng.randrange(1, 4)):
            damaged[rng.randrange(len(damaged))] = rng.randrange(256)
        path.write_bytes(damaged[: rng.randrange(1, len(damaged) + 1)])
        try:
            READERS[reader](path)
        except UserError as error:
            said = str(error)
        else:
            continue
        assert str(path) in said
        assert len(said.splitlines()) == 1


def test_an_unseen_label_of_the_validation_data(tmp_path):
    (tmp_path / "train.txt").write_text("It PRON\n\nis AUX\n")
    (tmp_path / "val.txt").write_text("It PRON\nis VERB\n")
    data = TaggedDataModule(str(tmp_path / "train.txt"), str(tmp_path / "val.txt"), format=Columns())
    with pytest.raises(UserError, match=r"val.txt:2: .*VERB"):
        data.examples("val")


def test_a_file_that_changes_between_epochs_changes_nothing(tmp_path):
    """Sentences are read once; text is encoded once, and mapped from the cache."""
    path = tmp_path / "train.txt"
    path.write_text("It PRON\n\nis AUX\n")
    data = TaggedDataModule(str(path), format=Columns(), batch_size=1)
    loader = data.train_dataloader()
    first = sorted(batch.indices for batch in loader)
    path.write_text("broken")
    assert sorted(batch.indices for batch in loader) == first
