import gzip
import json
import os
from pathlib import Path

import lightning.pytorch as L
import pytest
import torch

from lightning_rnnattn import Columns, CoNLLU, TaggedDataModule, UserError, WordLines, WordTokenizer, load
from lightning_rnnattn.cli import main

CONLLU = """\
# text = I can't.
1\tI\tI\tPRON\t_\t_\t0\t_\t_\t_
2-3\tcan't\t_\t_\t_\t_\t_\t_\t_\t_
2\tca\tcan\tAUX\t_\t_\t0\t_\t_\t_
3\tn't\tnot\tPART\t_\t_\t0\t_\t_\t_
4\t.\t.\tPUNCT\t_\t_\t0\t_\t_\t_

1\tGo\tgo\tVERB\t_\t_\t0\t_\t_\t_
1.1\tyou\tyou\tPRON\t_\t_\t_\t_\t_\t_

"""
COLUMNS = "-DOCSTART- O\n\nJohn B-PER\nSmith I-PER\nsleeps O\n\nParis B-LOC\n"
DATA = os.environ.get("LIGHTNING_RNNATTN_DATA")


def write(folder, name, text):
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return str(path)


@pytest.fixture
def data(tmp_path):
    return TaggedDataModule(train_files=write(tmp_path, "train.conllu", CONLLU), batch_size=2)


def test_words_characters_and_labels_of_a_batch(data):
    assert data.labels == ("AUX", "PART", "PRON", "PUNCT", "VERB")
    assert data.num_labels == 5
    batch = data.examples("train").collate([0, 1], True)
    assert batch.words.lengths.tolist() == [4, 1]
    assert [data.labels[i] for i in batch.labels[0]] == ["PRON", "AUX", "PART", "PUNCT"]
    assert data.tokenizer.tokens(batch.words.values[0]) == ["I", "ca", "n't", "."]
    assert batch.character_lengths.tolist() == [[1, 2, 3, 1], [2, 0, 0, 0]]
    assert data.character_tokenizer.decode(batch.characters[0, 2]) == "n't"
    assert batch.counts.tolist() == [True, True]
    assert batch.texts is None
    assert data.input_size == data.tokenizer.vocab_size == 6  # with <unk>
    assert data.num_characters == data.character_tokenizer.vocab_size


def test_unknown_words_are_one_element_and_keep_their_characters(data, tmp_path):
    data.files["predict"] = write(tmp_path, "new.txt", "I xylophone\n\na\u00a0b can't")
    data.predict_format = WordLines()
    batch = data.examples("predict").collate([0, 1, 2], True)
    assert batch.words.lengths.tolist() == [2, 0, 2]
    unknown = data.tokenizer.unk_id
    assert batch.words.values.tolist() == [[data.tokenizer.ids(["I"])[0], unknown], [0, 0], [unknown, unknown]]
    assert batch.labels is None
    assert batch.texts == (("I", "xylophone"), (), ("a\u00a0b", "can't"))
    assert batch.character_lengths[0].tolist() == [1, 9]


def test_lower_case_and_no_characters(tmp_path):
    files = write(tmp_path, "x.conllu", CONLLU.replace("\tGo\t", "\tI\t"))
    data = TaggedDataModule(files, lowercase=True, character_tokenizer=None)
    assert data.tokenizer.ids(["i", "I"])[1] == data.tokenizer.unk_id != data.tokenizer.ids(["i"])[0]
    batch = data.examples("train").collate([0, 1], True)
    assert batch.words.values[0, 0] == batch.words.values[1, 0] == data.tokenizer.ids(["i"])[0]
    assert (batch.characters, batch.character_lengths, data.num_characters) == (None, None, 0)


def test_an_unseen_label_is_named_with_its_line(tmp_path):
    train = write(tmp_path, "train.txt", COLUMNS)
    val = write(tmp_path, "val.txt", "Rome B-LOC\n\nOslo\tB-CITY\n")
    data = TaggedDataModule(train, val, format=Columns())
    assert data.labels == ("B-LOC", "B-PER", "I-PER", "O")
    with pytest.raises(UserError, match=r"val.txt:3: the label 'B-CITY' is not among .*: B-LOC, B-PER, I-PER, O"):
        data.examples("val")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", r"bad.conllu:1: the file is empty"),
        ("1\tI\tI\tPRON\n\n", r"bad.conllu:1: CoNLL-U has 10 columns .* but here are 4"),
        (CONLLU.rstrip("\n"), r"bad.conllu:9: no blank line ends the last sentence"),
        (CONLLU.replace("4\t.", "3\t."), r"bad.conllu:6: the id is '3', where 4 is due"),
        ("# only a comment\n\n", r"bad.conllu:2: the sentence that ends here has comments but no words"),
    ],
)
def test_broken_files_are_named_with_their_line(tmp_path, content, message):
    data = TaggedDataModule(write(tmp_path, "bad.conllu", content))
    with pytest.raises(UserError, match=message):
        data.examples("train")


def test_what_cannot_be_is_said(tmp_path):
    with pytest.raises(UserError, match=r"data.train_files"):
        TaggedDataModule().examples("train")
    with pytest.raises(UserError, match=r"data.labels = model.labels"):
        TaggedDataModule(predict_files=write(tmp_path, "x", CONLLU)).labels  # noqa: B018
    with pytest.raises(UserError, match=r"matches no file"):
        TaggedDataModule(str(tmp_path / "nothing*")).has("train")
    with pytest.raises(UserError, match=r"WordLines is for data\.predict_format"):
        TaggedDataModule(format=WordLines())
    with pytest.raises(UserError, match=r"of the 2 example\(s\) in .* none to validate on"):
        TaggedDataModule(write(tmp_path, "y", CONLLU), val_fraction=0.01).examples("train")


def test_validation_sentences_are_drawn_from_training(tmp_path):
    lines = "".join(f"w{i} {'A' if i % 2 else 'B'}\n\n" for i in range(20))
    data = TaggedDataModule(write(tmp_path, "x.txt", lines), format=Columns(), val_fraction=0.25)
    train, val = ({s.words[0] for s in data.sentences(split)} for split in ("train", "val"))
    assert (len(train), len(val)) == (15, 5)
    assert not train & val
    assert data.tokenizer.unk_id == data.tokenizer.ids(val)[0]  # the vocabulary is that of training


def test_the_command_line_trains_tests_and_predicts(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(tmp_path, "train.txt", COLUMNS * 8)
    write(tmp_path, "new.txt", "John Smith sleeps\nParis\n")
    quiet = ["--trainer.accelerator=cpu", "--trainer.enable_progress_bar=false"]
    main([
        "fit", "--model=SequenceTagger", "--model.output=CRFOutput", "--model.scheme=BIO",
        "--model.characters=CharacterEncoder", "--model.optimizer=Adam", "--model.optimizer.lr=0.02",
        "--data=TaggedDataModule", "--data.train_files=train.txt", "--data.val_files=train.txt",
        "--data.format=Columns", "--data.batch_size=4", "--trainer.max_epochs=20", *quiet,
    ])  # fmt: skip
    checkpoint = "runs/version_0/checkpoints/last.ckpt"
    model = load(checkpoint)
    assert model.labels == ("B-LOC", "B-PER", "I-PER", "O")
    assert model.character_tokenizer is not None
    main([
        "predict", f"--ckpt_path={checkpoint}", "--data.train_files=null", "--data.val_files=null",
        "--data.predict_files=new.txt", "--data.predict_format=WordLines", "--output=out.jsonl", *quiet,
    ])  # fmt: skip
    rows = [json.loads(line) for line in Path("out.jsonl").read_text().splitlines()]
    assert [row["words"] for row in rows] == [["John", "Smith", "sleeps"], ["Paris"]]
    assert [row["labels"] for row in rows] == [["B-PER", "I-PER", "O"], ["B-LOC"]]


@pytest.mark.filterwarnings("ignore")
def test_checkpoints_record_the_data_module(tmp_path):
    path = tmp_path / "train.conllu.gz"
    path.write_bytes(gzip.compress(CONLLU.encode()))
    data = TaggedDataModule(str(path), format=CoNLLU(label="XPOS"), tokenizer=WordTokenizer(eos=False, min_count=2))
    assert data.hparams["format"]["init_args"] == {"word": "FORM", "label": "XPOS"}
    assert data.hparams["tokenizer"]["init_args"]["min_count"] == 2


@pytest.mark.slow
@pytest.mark.skipif(DATA is None, reason="LIGHTNING_RNNATTN_DATA names no folder")
def test_the_counts_of_ud_english_ewt():
    folder = Path(DATA or "") / "ud-english-ewt"
    data = TaggedDataModule(*(str(folder / f"en_ewt-ud-{split}.conllu.gz") for split in ("train", "dev", "test")))
    counts = {split: data.sentences(split) for split in ("train", "val", "test")}
    assert [len(sentences) for sentences in counts.values()] == [12_544, 2_001, 2_077]
    assert [sum(len(s.words) for s in sentences) for sentences in counts.values()] == [204_577, 25_147, 25_094]
    assert data.num_labels == 17
    batches = list(data.train_dataloader())
    assert sum(int(batch.words.lengths.sum()) for batch in batches) == 204_577


def test_ranks_share_the_sentences_and_resume(data):
    L.seed_everything(0)
    batches = data.train_dataloader()
    whole = [tuple(batch.indices) for _ in range(3) for batch in batches]
    assert len(whole) == 3
    resumed = data.train_dataloader()
    next(iter(resumed))
    again = data.train_dataloader()
    again.load_state_dict(resumed.state_dict())
    assert [tuple(b.indices) for _ in range(2) for b in again] == whole[1:]
    assert torch.equal(next(iter(again)).counts, torch.tensor([True, True]))
