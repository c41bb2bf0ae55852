import gzip
import json
import os
import pickle
from functools import partial
from pathlib import Path

import lightning.pytorch as L
import pytest
import torch

from lightning_rnnattn import LSTM, BPETokenizer, CharTokenizer, PairDataModule, Seq2Seq, UserError, WordTokenizer
from lightning_rnnattn.callbacks import LastCheckpoint
from lightning_rnnattn.cli import main
from lightning_rnnattn.data import base_pairs
from lightning_rnnattn.data.pair_batch import PairText
from lightning_rnnattn.layers import InputFeedingDecoder
from lightning_rnnattn.tokenizers import TokenizerFile

SOURCE = "ein Hund\nzwei Hunde laufen\n  \tein Mann \nzwei\n"
TARGET = "a dog\ntwo dogs run\na man\ntwo\n"
WORDS = {"source_tokenizer": WordTokenizer(), "target_tokenizer": WordTokenizer()}
DATA = os.environ.get("LIGHTNING_RNNATTN_DATA")


@pytest.fixture
def write(tmp_path):
    def to_file(name, content):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return str(path)

    return to_file


@pytest.fixture
def pairs(write):
    """A data module of the files of `SOURCE` and `TARGET`, or of others."""

    def make(source=SOURCE, target=TARGET, split="train", **options):
        files = {f"{split}_source": write(f"{split}.de", source), f"{split}_target": write(f"{split}.en", target)}
        return PairDataModule(**{**files, **WORDS, **options})

    return make


def texts_of(data, split):
    return [pair for batch in data._batches(split, 2) for pair in batch.texts]


def test_batches_that_are_to_be_overfitted_stay_the_same(pairs):
    class Sees(L.LightningModule):
        def training_step(self, batch, batch_idx):
            seen.append(str(batch.source.values.tolist()))

        def configure_optimizers(self):
            return None

    options = {"logger": False, "enable_progress_bar": False, "enable_checkpointing": False}
    for overfit_batches, num_batches in ((0.0, 2), (1, 1)):
        seen = []
        trainer = L.Trainer(accelerator="cpu", max_epochs=8, overfit_batches=overfit_batches, **options)
        trainer.fit(Sees(), datamodule=pairs(batch_size=2))
        assert len(seen) == 8 * num_batches
        assert (len(set(seen)) == 1) == bool(overfit_batches)


def test_a_module_that_was_used_can_be_pickled(pairs):
    data = pairs(batch_size=2)
    trainer = L.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False)
    trainer.datamodule, data.trainer = data, trainer
    data.setup("fit")
    loader = pickle.loads(pickle.dumps(data.train_dataloader()))
    assert loader.epoch() == 0


def test_a_batch(pairs):
    data = pairs()
    batch = data.examples("train").collate([1, 3], True)
    assert batch.source.lengths.tolist() == [4, 2]
    assert batch.target.lengths.tolist() == [4, 2]
    source, target = data.source_tokenizer, data.target_tokenizer
    assert source.tokens(batch.source.values[0]) == ["zwei", "Hunde", "laufen", "\n"]
    assert target.decode(batch.target.values[0]) == "two dogs run\n"
    assert batch.source.values[1].tolist() == [source.ids(["zwei"])[0], source.eos_id, 0, 0]
    assert batch.source.values.dtype == torch.int64
    assert batch.counts.tolist() == [True, True]
    assert (batch.indices, batch.texts) == ((1, 3), None)
    assert data.source_vocab_size == source.vocab_size == 8  # with <unk> and <eos>
    assert data.target_vocab_size == target.vocab_size == 8
    moved = batch.source.to("cpu")
    assert moved.mask.tolist() == [[True] * 4, [True, True, False, False]]


def test_texts_come_where_they_are_not_trained_on(pairs, write):
    data = pairs()
    data.sources["test"], data.targets["test"] = write("test.de", "zwei Männer\r\n\n"), write("test.en", "two men\nx")
    with pytest.raises(UserError, match=r"test\.de:2: the pair has an empty side \(0 and 1 tokens\), as 1 of the 2"):
        data.examples("test")
    data.sources["test"] = write("test2.de", "zwei Männer\r\nMann")
    batch = data.examples("test").collate([0], True)
    assert batch.texts == (PairText("zwei Männer", ("two men",)),)
    assert data.source_tokenizer.decode(batch.source.values[0]) == "zwei <unk>\n"


@pytest.mark.parametrize("spec", [CharTokenizer(), WordTokenizer(), BPETokenizer(300)])
def test_one_vocabulary_of_both_sides(pairs, spec):
    data = pairs(source_tokenizer=spec, target_tokenizer=None)
    assert data.source_tokenizer is data.target_tokenizer
    assert data.source_vocab_size == data.target_vocab_size
    batch = data.examples("train").collate([0], True)
    assert data.source_tokenizer.decode(batch.source.values[0]) == "ein Hund\n"
    assert data.source_tokenizer.decode(batch.target.values[0]) == "a dog\n"
    separate = pairs(source_tokenizer=spec, target_tokenizer=spec)
    assert separate.source_tokenizer is not separate.target_tokenizer
    if not isinstance(spec, BPETokenizer):
        assert separate.target_vocab_size < data.target_vocab_size


def test_a_checkpoints_vocabularies_are_taken(pairs):
    one, two = pairs(source_tokenizer=WordTokenizer(), target_tokenizer=None), pairs()
    other = PairDataModule(predict_source=two.sources["train"])
    other.source_tokenizer = type(one.source_tokenizer).from_str(one.source_tokenizer.to_str())
    other.target_tokenizer = type(one.source_tokenizer).from_str(one.source_tokenizer.to_str())
    assert other.source_tokenizer is other.target_tokenizer
    other.target_tokenizer = two.target_tokenizer
    assert other.target_tokenizer == two.target_tokenizer
    assert other.examples("predict").lengths.tolist() == [[3], [4], [3], [2]]


def test_tokenizers_get_an_end_of_lines_where_they_have_none(pairs, tmp_path):
    path = tmp_path / "tokenizer.json"
    path.write_text(BPETokenizer(300).train([SOURCE, TARGET]).to_str())
    for spec in (CharTokenizer(), WordTokenizer(eos=False), BPETokenizer(300), TokenizerFile(str(path))):
        data = pairs(target_tokenizer=spec)
        ids = data.examples("train").collate([2], True).target.values[0]
        assert ids[-1] == data.target_tokenizer.eos_id
        assert data.target_tokenizer.decode(ids[:-1]) == "a man"
        assert data.hparams["target_tokenizer"] == spec.to_spec()
    assert data.target_vocab_size == BPETokenizer(300).train([SOURCE, TARGET]).vocab_size + 1


def test_nothing_is_learnt_of_newlines(pairs):
    data = pairs(TARGET * 9, TARGET * 9, source_tokenizer=BPETokenizer(300, min_count=2), target_tokenizer=None)
    tokens = [data.source_tokenizer.tokens([i])[0] for i in range(data.source_vocab_size)]
    assert [token for token in tokens if "\n" in token] == ["\n", "\n"]  # the byte, and the end of a line
    with pytest.raises(UserError, match=r"to learn the source tokenizer from: give data.train_source and data.train_t"):
        PairDataModule().source_tokenizer  # noqa: B018


def test_lower_case_is_for_all(pairs):
    data = pairs(SOURCE.upper(), TARGET.upper(), lowercase=True)
    data.sources["val"], data.targets["val"] = data.sources["train"], data.targets["train"]
    data.sources["predict"] = data.sources["train"]
    assert data.source_tokenizer.ids(["hund", "Hund"])[1] == data.source_tokenizer.unk_id
    assert PairText("zwei hunde laufen", ("two dogs run",)) in texts_of(data, "val")
    assert PairText("zwei hunde laufen", ()) in texts_of(data, "predict")


def test_several_files_gzip_and_white_space(tmp_path, write):
    (tmp_path / "b.de.gz").write_bytes(gzip.compress(b"drei\n"))
    write("a.de", "eins\n zwei\t")
    files = {"val_source": [str(tmp_path / "a.de"), str(tmp_path / "b.*")], "val_target": write("en", "1\n2\n3\n")}
    data = PairDataModule(**files, train_source=files["val_source"], train_target=files["val_target"], **WORDS)
    assert sorted(texts_of(data, "val")) == [("drei", ("3",)), ("eins", ("1",)), ("zwei", ("2",))]


@pytest.mark.parametrize(
    ("source", "target", "place"), [("a\nb\nc\n", "x\n", "train.de:2"), ("a\n", "x\ny", "train.en:2")]
)
def test_files_out_of_step_are_named_with_the_line(pairs, source, target, place):
    with pytest.raises(UserError, match=rf"{place}: the line has no counterpart: .* has \d lines, .* has 1"):
        pairs(source, target).examples("train")


def test_what_cannot_be_used_is_an_error_with_its_line(pairs):
    with pytest.raises(
        UserError, match=r"train\.en:2: the pair has an empty side \(1 and 0 tokens\), as 2 of the 3 pairs"
    ):
        pairs("a\nb\n\n", "x\n \nz\n").examples("train")
    line = (
        r"train\.de:2: the pair has more than 2 tokens on a side \(3 and 1 tokens\), as 1 of .*: raise data\.max_length"
    )
    with pytest.raises(UserError, match=line + ", or set data.skip to true to leave them out"):
        pairs("a b\na b c\n", "x\ny\n", max_length=2).examples("train")
    with pytest.raises(UserError, match=r"train\.de:2: byte 0xe9 at offset 7 is not UTF-8"):
        pairs(b"all\ncaf\xe9\n", "x\ny\n").examples("train")
    with pytest.raises(UserError, match=r"train\.en:2: the text has what stands for the end of a line"):
        pairs("a\nb\n", "x\n<eos> y\n").examples("train")


def test_a_line_that_is_a_book_is_not_trained_on_unless_asked_for(pairs):
    source, target = "a\n" * 3, "x\ny\n" + "word " * 1025 + "\n"
    with pytest.raises(
        UserError, match=r"train\.en:3: the pair has more than 1024 tokens on a side \(1 and 1025 tokens\)"
    ):
        pairs(source, target).examples("train")
    assert len(pairs(source, target, skip=True).examples("train").lengths) == 2
    assert len(pairs(source, target, max_length=1025).examples("train").lengths) == 3
    assert len(pairs(source, target, max_length=None).examples("train").lengths) == 3


def test_skipped_pairs_are_counted(pairs, monkeypatch):
    lines = []
    monkeypatch.setattr(base_pairs, "rank_zero_info", lines.append)
    source, target = b"a b\n\nc\ncaf\xe9\na b c d\ne\n", "u\nv\nw x y z\nx\ny\n \n"
    with pytest.raises(UserError, match=r"train\.de:4: byte 0xe9 at offset 10 is not UTF-8"):
        pairs(source, target, max_length=3).examples("train")
    data = pairs(source, target, max_length=3, skip=True)
    batch = data.examples("train").collate([0], True)
    assert len(data.examples("train").lengths) == 1
    assert data.source_tokenizer.decode(batch.source.values[0]) == "a b\n"
    assert [line.replace(str(Path(data.sources["train"]).parent), "") for line in lines] == [
        "data.skip: left out 3 of the 6 pairs of train with an empty or unreadable side; the first is /train.de:2",
        "data.skip: left out 2 of the 6 pairs of train with more than 3 tokens on a side; the first is /train.en:3",
    ]
    # What was cached when lines were skipped is not taken for what they are.
    with pytest.raises(UserError, match=r"is not UTF-8"):
        pairs(source, target).examples("train")


def test_every_line_is_predicted(pairs, write):
    data = pairs(max_length=3, skip=True)
    data.sources["predict"] = write("new.de", "zwei\n\nein Hund läuft und läuft\nein Hund")
    batches = list(data.predict_dataloader())
    assert sorted(i for batch in batches for i in batch.indices) == [0, 1, 2, 3]
    by_index = {i: text.source for batch in batches for i, text in zip(batch.indices, batch.texts, strict=True)}
    assert [by_index[i] for i in range(4)] == ["zwei", "", "ein Hund läuft und läuft", "ein Hund"]
    assert all(batch.target is None for batch in batches)
    data.sources["predict"] = write("bad.de", b"zwei\n\xff\n")
    data._examples.clear()
    with pytest.raises(UserError, match=r"bad\.de:2: byte 0xff"):
        data.examples("predict")


def test_validation_pairs_are_drawn_from_training(pairs):
    source = "".join(f"w{i}\n" for i in range(40))
    data = pairs(source, source.replace("w", "v"), val_fraction=0.25)
    train = [data.source_tokenizer.decode(row[:-1]) for b in data._batches("train", 4) for row in b.source.values]
    val = texts_of(data, "val")
    assert (len(train), len(val)) == (30, 10)
    assert sorted(train + [pair.source for pair in val]) == sorted(source.split())
    assert all(pair.references == (pair.source.replace("w", "v"),) for pair in val)
    # Neither vocabulary has seen what is validated on.
    assert data.source_vocab_size == data.target_vocab_size == 32


def test_like_lengths_are_together(pairs):
    source = "".join("a " * (1 + i % 5) + "\n" for i in range(60))
    target = "".join("b " * (1 + i % 7) + "\n" for i in range(60))
    data = pairs(source, target, batch_size=4)
    for batch in data.train_dataloader():
        assert batch.source.lengths.max() - batch.source.lengths.min() <= 1
    data = pairs(source, target, batch_size=None, max_tokens=24)
    batches = list(data.train_dataloader())
    for batch in batches:
        assert max(batch.source.values.numel(), batch.target.values.numel()) <= 24
    assert sum(len(batch.indices) for batch in batches) == 60


def test_what_cannot_be_is_said(tmp_path, write):
    with pytest.raises(UserError, match=r"no data for train: give data\.train_source and data\.train_target"):
        PairDataModule().examples("train")
    with pytest.raises(UserError, match=r"data\.val_target is missing: a pair needs both data\.val_source and"):
        PairDataModule(val_source=write("x", "a\n")).has("val")
    with pytest.raises(UserError, match=r"data\.train_target: .*nothing\* matches no file"):
        PairDataModule(write("x", "a\n"), str(tmp_path / "nothing*")).has("train")
    with pytest.raises(UserError, match=r"data\.max_length is 0"):
        PairDataModule(max_length=0)


def test_text_is_encoded_once(pairs, cache_dir, monkeypatch):
    first = pairs().examples("train")
    written = {path.name for path in cache_dir.iterdir() if path.suffix != ".lock"}
    assert len(written) == 4  # two tokenizers, two arrays

    def never(*_):
        raise AssertionError("encoded again")

    monkeypatch.setattr("lightning_rnnattn.data.streams._encode", never)
    monkeypatch.setattr(WordTokenizer, "train", never)
    again = pairs().examples("train")
    assert torch.equal(again.collate([2], True).source.values, first.collate([2], True).source.values)
    assert {path.name for path in cache_dir.iterdir() if path.suffix != ".lock"} == written


def test_the_command_line_trains_and_predicts_line_by_line(tmp_path, write, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write("train.de", SOURCE * 4)
    write("train.en", TARGET * 4)
    write("new.de", "zwei Hunde laufen\n\nein Mann\n")
    quiet = ["--trainer.accelerator=cpu", "--trainer.enable_progress_bar=false"]
    main([
        "fit", "--model=Seq2Seq", "--model.embedding_size=8", "--model.encoder=LSTM", "--model.encoder.hidden_size=8",
        "--model.decoder=LuongDecoder", "--model.decoder.rnn=GRU", "--model.decoder.rnn.hidden_size=8",
        "--model.text_metrics=[BLEU,WordErrorRate]", "--data=PairDataModule", "--data.train_source=train.de",
        "--data.train_target=train.en", "--data.val_fraction=0.25", "--data.source_tokenizer=CharTokenizer",
        "--data.target_tokenizer=WordTokenizer", "--trainer.max_steps=2", *quiet,
    ])  # fmt: skip
    [checkpoint] = tmp_path.rglob("last.ckpt")
    main([
        "predict", f"--ckpt_path={checkpoint}", "--data.predict_source=new.de", "--data.batch_size=1",
        "--model.search=Greedy", "--model.search.max_length=3", "--output=out.jsonl", *quiet,
    ])  # fmt: skip
    rows = [json.loads(line) for line in Path("out.jsonl").read_text().splitlines()]
    assert [row["source"] for row in rows] == ["zwei Hunde laufen", "", "ein Mann"]


def test_a_run_goes_on_in_the_middle_of_an_epoch(pairs, tmp_path):
    def fit(folder, steps, ckpt_path=None):
        L.seed_everything(3, verbose=False)
        data = pairs(SOURCE * 5, TARGET * 5, batch_size=3)
        small = partial(LSTM, hidden_size=8)
        decoder = partial(InputFeedingDecoder, rnn=small)
        model = Seq2Seq(data.source_vocab_size, data.target_vocab_size, 8, small, decoder, dropout=0.2)
        trainer = L.Trainer(
            accelerator="cpu", max_steps=steps, logger=False, enable_progress_bar=False, enable_model_summary=False,
            callbacks=[LastCheckpoint(dirpath=tmp_path / folder)],
        )  # fmt: skip
        trainer.fit(model, data, ckpt_path=ckpt_path)
        return model.state_dict()

    whole = fit("whole", 12)  # seven steps are an epoch
    fit("stopped", 4)
    resumed = fit("resumed", 12, tmp_path / "stopped" / "last.ckpt")
    for name, tensor in whole.items():
        assert torch.equal(resumed[name], tensor), name


@pytest.mark.slow
@pytest.mark.skipif(DATA is None, reason="LIGHTNING_RNNATTN_DATA names no folder")
def test_the_counts_of_multi30k():
    folder = Path(DATA or "") / "multi30k"
    names = {"train": "train", "val": "val", "test": "test_2016_flickr"}
    files = {
        f"{split}_{side}": str(folder / f"{name}.{language}.gz")
        for split, name in names.items()
        for side, language in (("source", "de"), ("target", "en"))
    }
    data = PairDataModule(**files, source_tokenizer=BPETokenizer(8000), max_tokens=4000, batch_size=None)
    examples = {split: data.examples(split) for split in names}
    assert [len(each.lengths) for each in examples.values()] == [29_000, 1_014, 1_000]
    assert data.source_vocab_size == data.target_vocab_size == 8001  # with the end of a line
    assert sum(len(batch.indices) for batch in data.train_dataloader()) == 29_000
    # What is decoded is what was read.
    batch = examples["test"].collate(range(1000), True)
    rows = zip(batch.target.values, batch.target.lengths, strict=True)
    decoded = [data.target_tokenizer.decode(row[: length - 1]) for row, length in rows]
    lines = gzip.decompress(Path(files["test_target"]).read_bytes()).decode().splitlines()
    assert decoded == [text.references[0] for text in batch.texts] == [line.strip() for line in lines]


class Flipped(PairDataModule):
    def __init__(self, *args, flip=False, **kwargs):
        super().__init__(*args, **kwargs)
        self.flip = flip


class Further(Flipped):
    pass


@pytest.mark.parametrize("kind", [Flipped, Further])
def test_a_subclass_that_passes_its_arguments_on_is_recorded(kind):
    record = dict(kind("train.de", "train.en", flip=True, max_length=9).hparams)
    again = kind(**{name: value for name, value in record.items() if not name.startswith("_")})
    assert (again.sources["train"], again.targets["train"]) == ("train.de", "train.en")
    assert (again.flip, again.max_length) == (True, 9)
    assert "args" not in dict(kind().hparams)
