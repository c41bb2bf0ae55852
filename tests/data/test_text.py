import json
import subprocess
import sys

import lightning.pytorch as L
import pytest
import torch
from lightning.pytorch.cli import LightningCLI

from lightning_rnnattn.data import DocumentBatches, RecordedDataModule, TextDataModule, TinyShakespeare, TokenBatches
from lightning_rnnattn.errors import UserError
from lightning_rnnattn.tokenizers import BPETokenizer, CharTokenizer, TokenizerFile, TokenizerSpec, WordTokenizer


@pytest.fixture
def files(tmp_path):
    texts = {"train.txt": "abc\n" * 20, "val.txt": "cab\n" * 5, "test.txt": "bca\n" * 3}
    for name, text in texts.items():
        (tmp_path / name).write_text(text)
    return {name.removesuffix(".txt"): str(tmp_path / name) for name in texts}


def text_of(data, split):
    return data.tokenizer.decode(data.tokens(split))


def test_files(files):
    data = TextDataModule(files["train"], files["val"], files["test"], batch_size=2, seq_len=3)
    assert data.vocab_size == 4
    assert (text_of(data, "train"), text_of(data, "val")) == ("abc\n" * 20, "cab\n" * 5)
    for loader, tokens in ((data.train_dataloader(), 80), (data.val_dataloader(), 20), (data.test_dataloader(), 12)):
        assert isinstance(loader, TokenBatches)
        assert sum(int(batch.mask.sum()) for batch in loader) == tokens - 1


def test_fractions_are_cut_from_the_end(files):
    data = TextDataModule(files["train"], val_fraction=0.1, test_fraction=0.2)
    assert [text_of(data, split) for split in ("train", "val", "test")] == ["abc\n" * 14, "abc\n" * 2, "abc\n" * 4]


def test_files_of_their_own_come_before_fractions(files):
    data = TextDataModule(files["train"], test_files=files["test"], val_fraction=0.1, test_fraction=0.2)
    assert [text_of(data, split) for split in ("train", "val", "test")] == ["abc\n" * 18, "abc\n" * 2, "bca\n" * 3]


def test_tokenizer_sees_the_training_part_only(tmp_path):
    path = tmp_path / "text.txt"
    path.write_text("ab\n" * 9 + "aé\n")
    data = TextDataModule(str(path), val_fraction=0.1)
    assert data.vocab_size == 3
    with pytest.raises(UserError, match=r"text.txt:10: character 'é'"):
        data.val_dataloader()


def test_no_validation_text(files):
    assert TextDataModule(files["train"]).val_dataloader() == []


def test_hub_dataset(tmp_path_factory, tmp_path, monkeypatch):
    datasets = pytest.importorskip("datasets")
    folder = tmp_path_factory.mktemp("rows")  # a folder's name with "test" in it would make all a test split
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "hf")
    for split, rows in {"train": ["one", "two"] * 10, "test": ["net"]}.items():
        (folder / f"{split}.jsonl").write_text("".join(json.dumps({"body": row}) + "\n" for row in rows))
    data = TextDataModule(dataset=str(folder), text_column="body", val_fraction=0.1)
    assert text_of(data, "train") == "one\ntwo\n" * 9
    assert text_of(data, "val") == "one\ntwo\n"
    assert text_of(data, "test") == "net\n"


def test_files_take_the_place_of_a_data_set(files, tmp_path):
    data = TextDataModule(files["train"], dataset="no/where", batch_size=2, seq_len=3)
    assert (text_of(data, "train"), data.val_dataloader()) == ("abc\n" * 20, [])
    with pytest.raises(UserError, match=r"no text for test: give data.test_files or data.test_fraction"):
        data.test_dataloader()
    recorded = checkpoint(tmp_path, data)
    assert (recorded["train_files"], recorded["dataset"]) == (files["train"], "no/where")  # as given
    again = TextDataModule.load_from_checkpoint(tmp_path / "last.ckpt", test_files=files["test"])
    assert [text_of(again, split) for split in ("train", "test")] == ["abc\n" * 20, "bca\n" * 3]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"batch_size": 0}, "data.batch_size is 0"),
        ({"seq_len": -1}, "data.seq_len is -1"),
        ({"eval_batch_size": 0}, "data.eval_batch_size is 0"),
        ({"val_fraction": 1.0}, "data.val_fraction is 1.0"),
        ({"val_fraction": 0.5, "test_fraction": 0.5}, "leave nothing to train on"),
    ],
)
def test_contradictions(arguments, message):
    with pytest.raises(UserError, match=message):
        TextDataModule(**arguments)


def test_missing_text_names_its_key(files, tmp_path):
    with pytest.raises(UserError, match=r"data.train_files: .*none.* matches no file"):
        TextDataModule(str(tmp_path / "none*")).vocab_size  # noqa: B018
    with pytest.raises(UserError, match=r"no text for train: give data.train_files or data.dataset"):
        TextDataModule().train_dataloader()
    with pytest.raises(UserError, match=r"no text to train the tokenizer on: give data.train_files or data.dataset"):
        TextDataModule(test_files=files["test"]).vocab_size  # noqa: B018
    with pytest.raises(UserError, match=r"no text for test: give data.test_files or data.test_fraction"):
        TextDataModule(files["train"]).test_dataloader()
    with pytest.raises(UserError, match=r"give data.predict_files"):
        TextDataModule(files["train"]).predict_dataloader()


def test_too_short_names_the_split(tmp_path):
    (tmp_path / "text.txt").write_text("a b c\n")
    data = TextDataModule(str(tmp_path / "text.txt"), val_fraction=0.1)
    with pytest.raises(UserError, match=r"val: the text has 0 token\(s\)"):
        data.val_dataloader()


def test_checkpoints_tokenizer_replaces_the_own_one(files):
    data = TextDataModule(files["train"], test_files=files["test"])
    before = data.tokens("test")
    data.tokenizer = CharTokenizer().train(["ABCabc\n"])
    assert text_of(data, "test") == "bca\n" * 3
    assert before.tolist() != data.tokens("test").tolist()
    again = TextDataModule(test_files=files["test"])  # nothing to train one on
    again.tokenizer = data.tokenizer
    assert again.vocab_size == 7
    assert len(list(again.test_dataloader())) == 1


def test_tokenizer_file_needs_no_training_text(files, tmp_path):
    (tmp_path / "tokenizer.json").write_text(CharTokenizer().train(["abc\n"]).to_str())
    data = TextDataModule(test_files=files["test"], tokenizer=TokenizerFile(str(tmp_path / "tokenizer.json")))
    assert text_of(data, "test") == "bca\n" * 3


def test_documents(files):
    data = TextDataModule(files["train"], predict_files=[files["val"], files["test"]], eval_batch_size=2, seq_len=8)
    batches = data.predict_dataloader()
    assert isinstance(batches, DocumentBatches)
    assert [(batch.is_first, batch.documents) for batch in batches] == [
        (i == 0, [files["val"], files["test"]]) for i in range(3)
    ]


def test_tiny_shakespeare():
    data = TinyShakespeare()
    assert data.vocab_size == 65
    assert text_of(data, "train").startswith("First Citizen:\nBefore we proceed any further")
    sizes = [len(data.tokens(split)) for split in ("train", "val", "test")]
    assert sum(sizes) == 1_115_394
    assert [round(size / 1_115_394, 3) for size in sizes] == [0.9, 0.05, 0.05]
    assert "train_files" not in data.hparams


class Toy(L.LightningModule):
    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.first = []

    def training_step(self, batch):
        return (self.weight - batch.tokens[0, 0]) ** 2

    def test_step(self, batch):
        self.first.append(batch)

    def predict_step(self, batch):
        return batch.documents

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)


class TwoLanguages(TextDataModule):
    """Data of a user's own.

    Args:
        language: which.
    """

    def __init__(self, folder: str, language: str = "en", tokenizer: TokenizerSpec = BPETokenizer(300), **kwargs):  # noqa: B008
        super().__init__(f"{folder}/{language}.txt", tokenizer=tokenizer, **kwargs)


def quiet(**arguments):
    return L.Trainer(
        accelerator="cpu", logger=False, enable_progress_bar=False, enable_model_summary=False, **arguments
    )


def checkpoint(tmp_path, data):
    trainer = quiet(max_steps=1, enable_checkpointing=False)
    trainer.fit(Toy(), data)
    trainer.save_checkpoint(tmp_path / "last.ckpt")
    return torch.load(tmp_path / "last.ckpt", weights_only=True)["datamodule_hyper_parameters"]


class Own(RecordedDataModule):
    """A user's: its data are made in `setup`, and it has none to validate on."""

    def __init__(self, size: int):
        super().__init__()
        self.size = size

    def setup(self, stage):
        self.tokens = torch.arange(self.size).numpy() % 5

    def train_dataloader(self):
        return TokenBatches(self.tokens, 2, 4)


class Saving(TextDataModule):
    """A user's, which keeps hyper-parameters as Lightning's users do."""

    def __init__(self, path: str, tok: TokenizerSpec = CharTokenizer(), *, seq_len: int = 3):  # noqa: B008
        super().__init__(path, tokenizer=tok, seq_len=seq_len, batch_size=2)
        self.save_hyperparameters()


def test_a_subclass_may_save_hyperparameters_too(files, tmp_path):
    recorded = checkpoint(tmp_path, Saving(files["train"], seq_len=4))
    assert recorded["tok"] == {
        "class_path": "lightning_rnnattn.tokenizers.char.CharTokenizer",
        "init_args": {"unk": False},
    }
    assert {name for name in recorded if not name.startswith("_")} == {"path", "tok", "seq_len"}


def test_a_data_module_of_one_s_own_may_make_its_data_in_setup(tmp_path):
    recorded = checkpoint(tmp_path, Own(30))
    assert recorded == {
        "_class_path": f"{__name__}.Own",
        "_instantiator": "lightning.pytorch.cli.instantiate_module",
        "size": 30,
    }


def test_made_in_python_or_by_the_command_line_it_is_recorded_alike(files, tmp_path):
    cli = LightningCLI(
        Toy,
        L.LightningDataModule,
        subclass_mode_data=True,
        run=False,
        save_config_callback=None,
        args=[
            "--data=TextDataModule",
            f"--data.train_files={files['train']}",
            "--data.tokenizer=WordTokenizer",
            "--data.tokenizer.min_count=2",
        ],
    )
    by_command_line = checkpoint(tmp_path, cli.datamodule)
    in_python = checkpoint(tmp_path, TextDataModule(files["train"], tokenizer=WordTokenizer(min_count=2)))
    assert by_command_line == in_python
    assert in_python["tokenizer"] == {
        "class_path": "lightning_rnnattn.tokenizers.word.WordTokenizer",
        "init_args": {"min_count": 2, "max_size": None, "eos": True, "more_words": None},
    }
    assert in_python["train_files"] == files["train"]
    again = TextDataModule.load_from_checkpoint(tmp_path / "last.ckpt")
    assert again.hparams == cli.datamodule.hparams
    assert again.tokenizer_spec == WordTokenizer(min_count=2)


def test_subclass_is_recorded_with_its_own_arguments(files, tmp_path):
    folder = str(tmp_path)
    hparams = checkpoint(tmp_path, TwoLanguages(folder, "train", batch_size=3))
    assert hparams["_class_path"] == f"{__name__}.TwoLanguages"
    assert {k: v for k, v in hparams.items() if not k.startswith("_")} == {
        "folder": folder,
        "language": "train",
        "tokenizer": {
            "class_path": "lightning_rnnattn.tokenizers.bpe.BPETokenizer",
            "init_args": {"vocab_size": 300, "min_count": 2},
        },
        "batch_size": 3,
    }
    again = TwoLanguages.load_from_checkpoint(tmp_path / "last.ckpt")
    assert (again.files["train"], again.batch_size) == (files["train"], 3)


def test_yaml(files, tmp_path):
    config = tmp_path / "config.yaml"
    config.write_text(
        f"data: {{class_path: TextDataModule, init_args: {{train_files: {files['train']}, tokenizer: BPETokenizer}}}}"
    )
    cli = LightningCLI(
        Toy,
        L.LightningDataModule,
        subclass_mode_data=True,
        run=False,
        save_config_callback=None,
        args=[f"--config={config}"],
    )
    assert cli.datamodule.tokenizer_spec == BPETokenizer()


def test_what_is_not_plain_is_left_out_with_a_warning():
    class Odd(TextDataModule):
        def __init__(self, clean=str.lower):
            super().__init__()

    with pytest.warns(UserWarning, match="argument 'clean' is not in the checkpoint"):
        assert "clean" not in Odd().hparams


def test_trainer_predicts_and_tests(files):
    data = TextDataModule(
        files["train"], test_files=files["test"], predict_files=files["test"], eval_batch_size=1, seq_len=6
    )
    model = Toy()
    quiet(enable_checkpointing=False).test(model, data, verbose=False)
    assert [batch.is_first for batch in model.first] == [True, False]
    assert all(batch.mask.dtype == torch.bool for batch in model.first)
    assert quiet(enable_checkpointing=False).predict(model, data) == [[files["test"]]] * 2


def test_missing_file_is_found_before_anything_starts(files, tmp_path):
    class Started(L.Callback):
        def setup(self, *_, **__):
            pytest.fail("set up")

    with pytest.raises(UserError, match=r"data.val_files: .* matches no file"):
        quiet(callbacks=Started(), enable_checkpointing=False).fit(Toy(), TextDataModule(files["train"], "none*"))


RANKS = """
import sys
import lightning.pytorch as L, torch
from lightning_rnnattn.cli.processes import leave_process_group
from lightning_rnnattn.data import TextDataModule

class Toy(L.LightningModule):
    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.seen = []
    def training_step(self, batch):
        self.seen += batch.tokens[batch.mask].tolist()
        return self.weight * 1.0
    def on_train_end(self):
        self.print(sorted(sum(self.all_gather_object(self.seen), [])))
    def all_gather_object(self, value):
        values = [None] * self.trainer.world_size
        torch.distributed.all_gather_object(values, value)
        return values
    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)

data = TextDataModule(sys.argv[1], batch_size=2, seq_len=3)
trainer = L.Trainer(accelerator="cpu", devices=2, strategy="ddp", max_epochs=1, logger=False,
    enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False)
trainer.fit(Toy(), data)
del trainer, data
leave_process_group()
"""


@pytest.mark.slow
def test_two_processes_share_the_stream(tmp_path):
    (tmp_path / "text.txt").write_text("".join(chr(0x100 + i) for i in range(50)))
    (tmp_path / "run.py").write_text(RANKS)
    done = subprocess.run(
        [sys.executable, str(tmp_path / "run.py"), str(tmp_path / "text.txt")],
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert done.returncode == 0, done.stderr
    # Id 0 is the newline at the end, which nothing follows.
    assert str(list(range(1, 51))) in done.stdout
