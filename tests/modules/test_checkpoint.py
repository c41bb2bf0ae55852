import sys
import types
from functools import partial
from typing import Any, Literal

import lightning.pytorch as L
import pytest
import torch

from lightning_rnnattn import (
    GRU,
    AdditiveScore,
    Attention,
    DotScore,
    LanguageModel,
    Residual,
    ScaledDotScore,
    Sparsemax,
    TextDataModule,
    TokenEmbedding,
    UserError,
    load,
)
from lightning_rnnattn.cli import main
from lightning_rnnattn.layers import AttentionFactory
from lightning_rnnattn.modules import read_checkpoint
from lightning_rnnattn.tokenizers import CharTokenizer

INPUT = partial(TokenEmbedding, embedding_size=8)
DOT = partial(Attention, score=DotScore, window=3)


class Mine(LanguageModel):
    """A user's subclass, with a default and an argument of its own."""

    def __init__(self, *args, attention: AttentionFactory = DOT, extra: int = 5, **kwargs):
        super().__init__(*args, attention=attention, **kwargs)
        self.extra = extra
        self.save_hyperparameters()


class Fixed(LanguageModel):
    """One that leaves its parent's arguments to nobody."""

    def __init__(self, vocab_size: int, size: int = 4):
        super().__init__(vocab_size, INPUT, rnn=partial(GRU, hidden_size=size), dropout=0.3)


class Partly(LanguageModel):
    """One that fixes some, and keeps hyper-parameters as Lightning's users do."""

    def __init__(self, vocab_size: int, size: int = 4, **options: Any):
        super().__init__(vocab_size, INPUT, rnn=partial(GRU, hidden_size=size), dropout=0.3, **options)
        self.save_hyperparameters()


@pytest.fixture
def data(tmp_path):
    (tmp_path / "text.txt").write_text("to be or not to be, that is the question\n" * 20)
    return TextDataModule(
        str(tmp_path / "text.txt"),
        tokenizer=CharTokenizer(),
        batch_size=2,
        seq_len=8,
        cache_dir=str(tmp_path / "cache"),
    )


def saved(model, data, path):
    trainer = L.Trainer(
        accelerator="cpu",
        max_steps=2,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        limit_val_batches=0,
    )
    trainer.fit(model, data)
    trainer.save_checkpoint(path)
    return path


@pytest.mark.parametrize("score", [partial(AdditiveScore, hidden_size=6), DotScore, ScaledDotScore])
def test_a_checkpoint_knows_its_module_and_tokenizer(tmp_path, data, score):
    attention = partial(Attention, score=score, num_heads=2, normalizer=Sparsemax, window=5)
    model = LanguageModel(
        data.vocab_size,
        INPUT,
        rnn=partial(GRU, hidden_size=8, num_layers=2),
        attention=attention,
        combine=Residual,
        optimizer=partial(torch.optim.SGD, lr=0.5),
    )
    path = saved(model, data, tmp_path / "model.ckpt")
    assert torch.load(path, weights_only=True)["hyper_parameters"]["rnn"]["init_args"] == {
        "hidden_size": 8,
        "num_layers": 2,
    }
    loaded = load(path)
    assert type(loaded) is LanguageModel
    assert type(loaded.core.attention.score) is type(model.core.attention.score)  # equal weights alone would not tell
    assert not loaded.training
    assert loaded.tokenizer == data.tokenizer
    tokens = torch.randint(data.vocab_size, (2, 12))
    assert torch.equal(loaded(tokens)[0], model.eval()(tokens)[0])
    [optimizer] = [loaded.configure_optimizers()]
    assert optimizer.defaults["lr"] == 0.5

    again = tmp_path / "again.ckpt"  # what was loaded can be saved and loaded
    torch.save({**torch.load(path, weights_only=True), "hyper_parameters": dict(loaded.hparams)}, again)
    assert torch.equal(load(again)(tokens)[0], loaded(tokens)[0])
    torch.testing.assert_close(
        LanguageModel.load_from_checkpoint(path, weights_only=True)(tokens)[0], loaded(tokens)[0]
    )


def test_a_subclass_loads_as_itself(tmp_path, data):
    path = saved(Mine(data.vocab_size, INPUT, extra=7), data, tmp_path / "mine.ckpt")
    loaded = load(path)
    assert type(loaded) is Mine
    assert loaded.extra == 7
    assert isinstance(loaded.core.attention.score, DotScore)
    assert loaded.core.attention.window == 3


class Positional(LanguageModel):
    """One that passes on what it does not name."""

    def __init__(self, vocab_size: int, *args: Any, size: int = 4, **options: Any):
        super().__init__(vocab_size, *args, rnn=partial(GRU, hidden_size=size), dropout=0.3, **options)


class Again(Positional):
    """A further one."""

    def __init__(self, *args: Any, extra: int = 1, **options: Any):
        super().__init__(*args, **options)


class Mixin:
    """What stands before the module, with an argument of its own."""

    def __init__(self, *args: Any, extra: int = 1, **options: Any):
        super().__init__(*args, **options)


class Mixed(Mixin, Positional):
    pass


class Popped(LanguageModel):
    """One that changes its argument."""

    def __init__(self, vocab_size: int, options: dict[str, Any], size: int = 4):
        super().__init__(vocab_size, INPUT, rnn=partial(GRU, hidden_size=size), dropout=options.pop("p"), **options)


@pytest.mark.parametrize(
    "made",
    [
        Fixed,
        partial(Partly, label_smoothing=0.1, optimizer=torch.optim.SGD),
        lambda vocab_size, size: Positional(vocab_size, INPUT, size=size, label_smoothing=0.1),
        lambda vocab_size, size: Again(vocab_size, INPUT, size=size, extra=2),
        lambda vocab_size, size: Mixed(vocab_size, INPUT, size=size, extra=2),
        partial(Popped, options={"p": 0.3, "label_smoothing": 0.1}),
    ],
)
def test_a_subclass_may_fix_arguments_of_its_parent(tmp_path, data, made):
    model = made(data.vocab_size, size=6)
    loaded = load(saved(model, data, tmp_path / "mine.ckpt"))
    assert type(loaded) is type(model)
    assert loaded.rnn.hidden_size == 6
    assert loaded.dropout[0].p == 0.3
    assert loaded.label_smoothing == model.label_smoothing
    tokens = torch.randint(data.vocab_size, (2, 12))
    assert torch.equal(loaded(tokens)[0], model.eval()(tokens)[0])


@pytest.mark.parametrize("bad", [lambda n: GRU(n, 8), GRU(4, 8)])
def test_what_cannot_be_recorded_is_refused(bad):
    with pytest.raises(UserError, match=r"rnn: a .*functools.partial"):
        LanguageModel(5, rnn=bad)


def test_a_class_that_is_not_imported_is_refused_and_never_run(tmp_path, data, monkeypatch):
    path = saved(
        LanguageModel(data.vocab_size, INPUT, attention=partial(Attention, window=3)), data, tmp_path / "m.ckpt"
    )
    checkpoint = torch.load(path, weights_only=True)
    checkpoint["hyper_parameters"]["attention"]["init_args"]["score"] = {"class_path": "evil_scores.Score"}
    torch.save(checkpoint, path)
    (tmp_path / "evil_scores.py").write_text("raise SystemExit('ran')")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UserError, match=r"evil_scores\.Score.*--import evil_scores"):
        load(path)
    assert "evil_scores" not in sys.modules

    module = types.ModuleType("evil_scores")  # once the user has imported it, it is trusted
    module.Score = type("Score", (ScaledDotScore,), {"__module__": "evil_scores"})
    monkeypatch.setitem(sys.modules, "evil_scores", module)
    assert type(load(path).core.attention.score) is module.Score


SPEC = "{class_path: evil.Score}"


@pytest.mark.parametrize(
    ("key", "where", "value"),
    [
        ("hyper_parameters", "rnn", "evil.Rnn"),
        ("hyper_parameters", "rnn", "{class_path: lightning_rnnattn.GRU, init_args: {hidden_size: 8, x: evil.X}}"),
        ("hyper_parameters", "lr_scheduler", "evil.Scheduler"),
        ("hyper_parameters", "attention", {"init_args": {"score": "evil.Score"}}),
        ("hyper_parameters", "attention", {"class_path": "lightning_rnnattn.Attention", "init_args.score": "evil.S"}),
        ("hyper_parameters", "attention.score", "evil.Score"),
        ("hyper_parameters", "attention.init_args", {"score": "evil.Score"}),
        ("hyper_parameters", "attention.class_path", "evil.Score"),
        (
            "hyper_parameters",
            "attention",
            {"class_path": "lightning_rnnattn.Attention", "init_args": {"score": "evil.Score"}},
        ),
        ("hyper_parameters", "attention", {"class_path": "lightning_rnnattn.Attention", "init_args": {"score": SPEC}}),
        ("hyper_parameters", "_class_path", "evil.Model"),
        ("hyper_parameters", "anything", SPEC),
        ("hyper_parameters", "attention", "evil.yaml"),
        ("hyper_parameters", "attention", "settings"),
        ("hyper_parameters", "attention", "./evil.yaml"),
        ("datamodule_hyper_parameters", "tokenizer", "evil.Tokenizer"),
        ("datamodule_hyper_parameters", "_class_path", "evil.Data"),
    ],
)
def test_text_that_names_a_class_is_no_way_around(tmp_path, monkeypatch, capsys, key, where, value):
    plain = {
        "hyper_parameters": {"_class_path": "lightning_rnnattn.LanguageModel", "vocab_size": 5},
        "datamodule_hyper_parameters": {"_class_path": "lightning_rnnattn.TextDataModule", "train_files": "text.txt"},
    }
    plain["hyper_parameters"]["_instantiator"] = "lightning.pytorch.cli.instantiate_module"
    plain[key][where] = value
    torch.save({"state_dict": {}, "pytorch-lightning_version": "2.6.0", **plain}, tmp_path / "bad.ckpt")
    (tmp_path / "evil.py").write_text("raise SystemExit('ran')")
    for name in ("evil.yaml", "settings"):
        (tmp_path / name).write_text(SPEC)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"bad.ckpt: "):
        load("bad.ckpt")
    with pytest.raises(SystemExit) as stop:
        main(["test", "--ckpt_path", "bad.ckpt"])
    assert stop.value.code == 2
    assert capsys.readouterr().err.splitlines()[-1].startswith("error: ")
    assert "evil" not in sys.modules


class Files(TextDataModule):
    """A user's data module whose arguments are text of every kind."""

    def __init__(self, *args, suffix: Any = ".txt", mode: Literal["a.b"] = "a.b", folder=None, **kwargs):
        super().__init__(*args, **kwargs)


def test_names_of_files_are_no_classes(tmp_path, monkeypatch):
    (tmp_path / "text.py").write_text("raise SystemExit('ran')")
    monkeypatch.syspath_prepend(tmp_path)
    files = Files(train_files=["text.txt", "{a: b}.txt"], val_files="text.txt", suffix="text.md", folder="text.d")
    torch.save({"state_dict": {}, "datamodule_hyper_parameters": dict(files.hparams)}, tmp_path / "good.ckpt")
    assert read_checkpoint(tmp_path / "good.ckpt")["datamodule_hyper_parameters"]["folder"] == "text.d"


def test_a_class_of_a_script(tmp_path, data, monkeypatch):
    path = saved(LanguageModel(data.vocab_size, INPUT), data, tmp_path / "model.ckpt")
    checkpoint = torch.load(path, weights_only=True)
    checkpoint["hyper_parameters"]["_class_path"] = "__main__.OfTheScript"
    torch.save(checkpoint, path)
    with pytest.raises(UserError, match=r"names __main__.OfTheScript, which was defined in the script that was run: "):
        load(path)
    mine = type("OfTheScript", (LanguageModel,), {"__module__": "__main__"})
    monkeypatch.setattr(sys.modules["__main__"], "OfTheScript", mine, raising=False)
    assert type(load(path)) is mine


LARGER = {"class_path": "lightning_rnnattn.TokenEmbedding", "init_args": {"embedding_size": 9}}


@pytest.mark.parametrize(
    ("change", "what"), [({"input": LARGER}, "size mismatch"), ({"typo": 1}, "typo"), ({"rnn": "LSTN"}, "LSTN")]
)
def test_a_checkpoint_that_does_not_fit_its_class(tmp_path, data, change, what):
    path = saved(LanguageModel(data.vocab_size, INPUT), data, tmp_path / "model.ckpt")
    checkpoint = torch.load(path, weights_only=True)
    checkpoint["hyper_parameters"] |= change
    torch.save(checkpoint, path)
    with pytest.raises(UserError, match=rf"model.ckpt: does not fit .*LanguageModel: .*{what}") as said:
        load(path)
    assert "\n" not in str(said.value)


def test_files_that_are_no_checkpoints(tmp_path, data):
    with pytest.raises(UserError, match="no such checkpoint"):
        load(tmp_path / "nothing.ckpt")
    (tmp_path / "text.ckpt").write_text("hello")
    with pytest.raises(UserError, match=r"text.ckpt: not a checkpoint .*\(it is damaged, or no checkpoint at all\)"):
        load(tmp_path / "text.ckpt")
    for junk in ("seed_everything: 1\nmodel:\n  class_path: Seq2Seq\n", "U7qQ"):  # which the unpickler takes for code
        (tmp_path / "text.ckpt").write_text(junk)
        with pytest.raises(UserError, match=r"text.ckpt: not a checkpoint .*\(it is damaged, or no checkpoint at all"):
            load(tmp_path / "text.ckpt")
    torch.save({"weights": torch.zeros(1)}, tmp_path / "other.ckpt")
    with pytest.raises(UserError, match="state_dict"):
        load(tmp_path / "other.ckpt")
    path = saved(LanguageModel(data.vocab_size, INPUT), data, tmp_path / "model.ckpt")
    whole = path.read_bytes()
    for tenth in range(10):
        path.write_bytes(whole[: len(whole) * tenth // 10])
        with pytest.raises(UserError, match="not a checkpoint that can be opened safely"):
            load(path)


def test_another_tokenizer_than_the_models_is_refused(tmp_path, data):
    loaded = load(saved(LanguageModel(data.vocab_size, INPUT), data, tmp_path / "model.ckpt"))
    loaded.tokenizer = CharTokenizer().train(["xyz"])
    with pytest.raises(UserError, match=r"datamodule.tokenizer = model.tokenizer"):
        saved(loaded, data, tmp_path / "again.ckpt")
