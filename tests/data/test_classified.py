import gzip
import json
import re
from pathlib import Path

import datasets
import pytest
import torch

from lightning_rnnattn import ClassifiedDataModule, CMUStress, UserError, WordTokenizer, load
from lightning_rnnattn.cli import main

LINES = "1 a fine film\n0 a dull  film\n1 fine\n"
JSONL = '{"text": "a b", "label": ["x", "y"]}\n{"text": "b", "label": []}\n{"text": "", "label": ["y"]}\n'


def write(folder, name, text):
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return str(path)


def test_lines_of_a_label_and_a_text(tmp_path):
    data = ClassifiedDataModule(write(tmp_path, "train.txt", LINES), write(tmp_path, "val.txt", "0 \n1 new film\n"))
    assert data.labels == ("0", "1")
    assert (data.num_labels, data.input_size) == (2, 5)
    train, val = data.examples("train").collate([0, 1], True), data.examples("val").collate([0, 1], True)
    assert data.tokenizer.tokens(train.inputs.values[1, :3]) == ["a", "dull", "film"]
    assert train.inputs.lengths.tolist() == [3, 3]
    assert train.labels.tolist() == [1, 0]
    assert (train.texts, val.texts) == (None, ("", "new film"))
    assert val.inputs.lengths.tolist() == [0, 2]
    assert val.inputs.values[1, 0] == data.tokenizer.unk_id


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("x.tsv", "id\tlabel\ttext\n7\tno\ta b\n8\tyes\tb\n"),
        ("x.csv", 'text,label\n"a b",no\nb,yes\n'),
        ("x.jsonl", '{"text": "a b", "label": "no", "id": 7}\n{"text": "b", "label": "yes"}\n'),
        ("x.txt", "no a b\nyes b\n"),
    ],
)
def test_every_format_gives_the_same(tmp_path, name, text):
    path = tmp_path / f"{name}.gz"
    path.write_bytes(gzip.compress(text.encode()))
    for file in (write(tmp_path, name, text), str(path)):
        data = ClassifiedDataModule(file)
        assert [(each.text, each.label) for each in data.texts("train")] == [("a b", "no"), ("b", "yes")]


def test_columns_by_other_names_and_predictions_without_labels(tmp_path):
    train = write(tmp_path, "x.tsv", "stars\treview\n5\tgood\n1\tbad\n10\tgreat\n")
    new = write(tmp_path, "new.tsv", "review\nbad\n")
    data = ClassifiedDataModule(train, predict_files=new, text_column="review", label_column="stars")
    assert data.labels == ("1", "5", "10")  # by value
    batch = data.examples("predict").collate([0], True)
    assert (batch.labels, batch.texts) == (None, ("bad",))
    data = ClassifiedDataModule(train, predict_files=write(tmp_path, "new.txt", "a fine film\n"), text_column="review")
    assert [each.text for each in data.texts("predict")] == ["a fine film"]


@pytest.mark.parametrize(
    ("name", "text", "options"),
    [("x.jsonl", JSONL, {}), ("x.tsv", "text\tlabel\na b\tx| y\nb\t\n\ty\n", {"separator": "|"})],
)
def test_several_labels_of_a_text(tmp_path, name, text, options):
    data = ClassifiedDataModule(write(tmp_path, name, text), **options)
    assert data.labels == ("x", "y")
    labels = data.examples("train").collate([0, 1, 2], True).labels
    assert labels.tolist() == [[True, True], [False, False], [False, True]]


def test_a_data_set_of_the_hub(tmp_path):
    features = datasets.Features({"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["neg", "pos"])})
    splits = {"train": {"text": ["good", "bad"], "label": [1, 0]}, "test": {"text": ["so"], "label": [1]}}
    for name in splits:
        datasets.Dataset.from_dict(splits[name], features).to_parquet(tmp_path / "set" / f"{name}.parquet")
    data = ClassifiedDataModule(dataset=str(tmp_path / "set"), val_fraction=0.5)
    assert data.is_cut  # whatever the hub has for validation
    texts = {each.text: each.label for split in ("train", "val", "test") for each in data.texts(split)}
    assert set(texts) == {"good", "bad", "so"}


@pytest.mark.parametrize(
    ("train", "val", "message"),
    [
        (LINES, "1 x\n2 y\n", r"val.txt:2: the label '2' is not among those that were trained on: 0, 1"),
        (LINES, "1\n", r"val.txt:1: not of the form `<label> <text>`"),
        ("1 x\n1 y\n", "1 x\n", r"nothing to tell apart: the labels are 1, at least 2"),
    ],
)
def test_what_is_wrong_is_named_with_its_line(tmp_path, train, val, message):
    data = ClassifiedDataModule(write(tmp_path, "train.txt", train), write(tmp_path, "val.txt", val))
    with pytest.raises(UserError, match=message):
        data.examples("val")


def test_a_table_without_rows_is_named(tmp_path):
    data = ClassifiedDataModule(write(tmp_path, "x.tsv", "text\tlabel\n"))
    with pytest.raises(UserError, match=r"x.tsv: there is no text for train"):
        data.examples("train")


def test_one_label_among_lists_is_named(tmp_path):
    data = ClassifiedDataModule(write(tmp_path, "x.jsonl", JSONL + '{"text": "c", "label": "x"}\n'))
    with pytest.raises(UserError, match=r"x.jsonl:4: one label, where .*x.jsonl:1 has a list"):
        data.examples("train")


def test_files_take_the_place_of_a_data_set(tmp_path):
    data = ClassifiedDataModule(write(tmp_path, "x", LINES), dataset="no/where")
    assert len(data.texts("train")) == LINES.count("\n")
    assert [data.has(split) for split in ("val", "test")] == [False, False]
    with pytest.raises(UserError, match=r"no data for train: give data.train_files or data.dataset"):
        ClassifiedDataModule().train_dataloader()


def test_what_cannot_be_is_said(tmp_path):
    with pytest.raises(UserError, match=r"data.separator is empty"):
        ClassifiedDataModule("x", separator="")
    with pytest.raises(UserError, match=r"data.tokenizer = model.tokenizer"):
        ClassifiedDataModule(predict_files=write(tmp_path, "x", "a\n")).tokenizer  # noqa: B018
    with pytest.raises(UserError, match=r"no data for test: give data.test_files"):
        ClassifiedDataModule(write(tmp_path, "x", LINES)).test_dataloader()


def test_the_command_line_trains_tests_and_predicts(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PL_GLOBAL_SEED", raising=False)
    write(tmp_path, "train.txt", LINES * 8)
    write(tmp_path, "new.txt", "fine <b> film\n\ndull\n")
    quiet = ["--trainer.accelerator=cpu", "--trainer.enable_progress_bar=false"]
    main([
        "fit", "--model=SequenceClassifier", "--model.pooling=AttentionPooling", "--model.pooling.num_queries=2",
        "--model.pooling.attention.score=AdditiveScore", "--model.output=SingleLabel",
        "--model.output.label_smoothing=0.1", "--model.penalty=0.1", "--model.auroc=true",
        "--model.optimizer=Adam", "--model.optimizer.lr=0.02", "--data=ClassifiedDataModule",
        "--data.train_files=train.txt", "--data.val_files=train.txt", "--data.batch_size=4",
        "--trainer.max_epochs=12", "--model.rnn=LSTM",
        "--model.rnn.hidden_size=16", "--trainer.callbacks+=ConfusionMatrix", "--trainer.callbacks+=Highlights", *quiet,
    ])  # fmt: skip
    checkpoint = "runs/version_0/checkpoints/last.ckpt"
    assert load(checkpoint).labels == ("0", "1")
    assert list(tmp_path.glob("runs/version_0/confusion/val_*.png"))
    assert list(tmp_path.glob("runs/version_0/highlights/*.png"))
    predict = ["predict", f"--ckpt_path={checkpoint}", "--data.train_files=null", "--data.val_files=null"]
    for name in ("out.jsonl", "out.html", "out.txt"):
        main([*predict, "--data.predict_files=new.txt", "--attention", f"--output={name}", *quiet])
    rows = [json.loads(line) for line in Path("out.jsonl").read_text().splitlines()]
    assert [row["label"] for row in rows[::2]] == ["1", "0"]
    assert rows[0]["tokens"] == ["fine", "<b>", "film"]
    assert [len(row["weights"]) for row in rows] == [3, 0, 1]
    assert Path("out.txt").read_text().split() == [row["label"] for row in rows]
    page = Path("out.html").read_text()
    assert re.search(r"<b>1</b><small>\d+%</small></div><p><span [^>]*>fine</span> <span [^>]*>&lt;b&gt;</span> ", page)


def test_checkpoints_record_the_data_module():
    data = ClassifiedDataModule(separator=";", tokenizer=WordTokenizer(eos=False, min_count=2))
    assert data.hparams["separator"] == ";"
    assert data.hparams["tokenizer"]["init_args"] == {
        "min_count": 2,
        "max_size": None,
        "eos": False,
        "more_words": None,
    }


def test_stress_of_english_words():
    data = CMUStress()
    words = {split: {each.text: each.label for each in data.texts(split)} for split in ("train", "val", "test")}
    assert [len(texts) for texts in words.values()] == [87_425, 4_817, 4_967]
    assert data.labels == ("10", "01", "100", "010", "001", "1000", "0100", "0010", "0001")
    every = words["train"] | words["val"] | words["test"]
    assert len(every) == 97_209
    assert {word: every[word] for word in ("attention", "happy", "japanese", "information", "begin")} == {
        "attention": "010", "happy": "10", "japanese": "001", "information": "0010", "begin": "01",
    }  # fmt: skip
    assert not {"cat", "aaron's", "a.m."} & every.keys()
    stems = [{word[:6] for word in texts} for texts in words.values()]
    assert not stems[0] & stems[1] | stems[0] & stems[2] | stems[1] & stems[2]
    batch = data.examples("val").collate([0], True)
    assert data.tokenizer.decode(batch.inputs.values[0]) == batch.texts[0]
    assert batch.labels.dtype == torch.int64
