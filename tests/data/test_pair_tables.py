import json

import datasets
import pytest

from lightning_rnnattn import PairTableDataModule, UserError, WordTokenizer
from lightning_rnnattn.data.pair_batch import PairText

ROWS = [("ein Hund", "a dog"), ("zwei Hunde", "two dogs"), ("ein, zwei", 'one, "two"')]
WORDS = {"source_tokenizer": WordTokenizer(), "target_tokenizer": WordTokenizer()}
TSV = "de\tn\ten\n" + "".join(f"{de}\t{i}\t{en}\n" for i, (de, en) in enumerate(ROWS))
CSV = "en,de\n" + "".join('"{}","{}"\n'.format(en.replace('"', '""'), de) for de, en in ROWS)
JSONL = "".join(json.dumps({"de": de, "en": en}) + "\n" for de, en in ROWS)
COLUMNS = {"source_column": "de", "target_column": "en"}


def texts_of(data, split):
    pairs = {i: pair for batch in data._batches(split, 2) for i, pair in zip(batch.indices, batch.texts, strict=True)}
    return [pairs[i] for i in sorted(pairs)]


@pytest.mark.parametrize(("name", "content"), [("x.tsv", TSV), ("x.csv", CSV), ("x.jsonl", JSONL)])
def test_columns_of_files(tmp_path, name, content):
    path = tmp_path / name
    path.write_text(content)
    data = PairTableDataModule(str(path), val_files=str(path), **COLUMNS, **WORDS)
    assert texts_of(data, "val") == [PairText(de, (en,)) for de, en in ROWS]
    batch = data.examples("train").collate([1], True)
    assert data.source_tokenizer.decode(batch.source.values[0]) == "zwei Hunde\n"
    assert data.target_tokenizer.decode(batch.target.values[0]) == "two dogs\n"


def test_predictions_are_of_a_column_or_of_plain_lines(tmp_path):
    train, lines = tmp_path / "train.tsv", tmp_path / "new.txt"
    train.write_text(TSV)
    lines.write_text("zwei Hunde\nein")
    for files, sources in ((train, [de for de, _ in ROWS]), (lines, ["zwei Hunde", "ein"])):
        data = PairTableDataModule(str(train), predict_files=str(files), **COLUMNS, **WORDS)
        assert texts_of(data, "predict") == [(source, ()) for source in sources]


def test_pairs_are_not_guessed_from_plain_lines(tmp_path):
    path = tmp_path / "fra.txt"  # as the pairs of Tatoeba come: with tabs, but no header
    path.write_text("Go.\tVa !\nRun away.\tCours !\n")
    data = PairTableDataModule(str(path), **WORDS)
    with pytest.raises(UserError, match=r"fra\.txt: .* let it end in \.tsv, \.csv, \.jsonl .*'source' and 'target'"):
        data.examples("train")


def test_a_data_set_of_the_hub(tmp_path, tmp_path_factory, monkeypatch):
    folder = tmp_path_factory.mktemp("rows")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "hf")
    for split in ("train", "validation"):
        rows = [json.dumps({"translation": {"de": f"{de} {split}", "en": en}}) for de, en in ROWS]
        (folder / f"{split}.jsonl").write_text("\n".join(rows) + "\n")
    columns = {"source_column": "translation.de", "target_column": "translation.en"}
    data = PairTableDataModule(dataset=str(folder), **columns, **WORDS)
    assert texts_of(data, "val") == [PairText(f"{de} validation", (en,)) for de, en in ROWS]
    assert len(data.examples("train").lengths) == 3
    assert (data.has("val"), data.has("predict")) == (True, False)
    assert not PairTableDataModule(dataset=str(folder), val_split=None, **columns).has("val")
    data = PairTableDataModule(dataset=str(folder), val_fraction=0.34, **columns, **WORDS)
    assert data.is_cut  # whatever the hub has for validation
    assert all(pair.source.endswith(" train") for pair in texts_of(data, "val"))


def test_broken_rows_are_named_with_their_line(tmp_path):
    path = tmp_path / "x.csv"
    path.write_text(CSV + '"one\nmore",noch\n"",leer\n')
    data = PairTableDataModule(str(path), **COLUMNS, **WORDS)
    with pytest.raises(UserError, match=r"x\.csv:5: the text has a newline inside"):
        data.examples("train")
    data = PairTableDataModule(str(path), **COLUMNS, **WORDS, skip=True)
    assert len(data.examples("train").lengths) == 3
    path.write_text(CSV)
    with pytest.raises(UserError, match=r"x\.csv:1: there is no column 'source'; the header has en, de"):
        PairTableDataModule(str(path), **WORDS).examples("train")


def test_files_take_the_place_of_a_data_set(tmp_path):
    path = tmp_path / "x.tsv"
    path.write_text(TSV)
    data = PairTableDataModule(str(path), dataset="no/where", **COLUMNS, **WORDS)
    assert len(data.examples("train").lengths) == len(ROWS)
    assert not data.has("val")
    with pytest.raises(UserError, match=r"no data for test: give data\.test_files$"):
        data.examples("test")
    with pytest.raises(UserError, match=r"no data for train: give data\.train_files or data\.dataset$"):
        PairTableDataModule(**WORDS).examples("train")
