import re
from functools import partial

import lightning.pytorch as L
import pytest
import torch
from lightning.pytorch.loggers import WandbLogger

from lightning_rnnattn import LSTM, CharTokenizer, PairDataModule, Seq2Seq, TinyShakespeare, UserError
from lightning_rnnattn.callbacks import LastCheckpoint, SampledTranslations
from lightning_rnnattn.callbacks.sampled_translations import _escaped
from lightning_rnnattn.decoding import Greedy


@pytest.fixture
def fit(tmp_path, monkeypatch):
    monkeypatch.setenv("LIGHTNING_RNNATTN_CACHE", str(tmp_path / "cache"))
    (tmp_path / "source").write_text("".join(f"{'ab' * i}|<b>\n" for i in range(1, 9)))
    (tmp_path / "target").write_text("".join(f"{'ba' * i}*\n" for i in range(1, 9)))
    source, target = str(tmp_path / "source"), str(tmp_path / "target")

    def run(*callbacks, data=None, ckpt_path=None, **options):
        L.seed_everything(1, verbose=False)
        data = data or PairDataModule(source, target, source, target, source_tokenizer=CharTokenizer(), batch_size=4)
        vocab = data.source_vocab_size if isinstance(data, PairDataModule) else 4
        model = Seq2Seq(vocab, vocab, 8, partial(LSTM, hidden_size=8), dropout=0.3, search=Greedy(max_length=5))
        defaults = {"logger": False, "max_epochs": 2, "enable_progress_bar": False, "enable_model_summary": False}
        trainer = L.Trainer(
            default_root_dir=tmp_path, accelerator="cpu", callbacks=list(callbacks), num_sanity_val_steps=1,
            enable_checkpointing=any(isinstance(c, LastCheckpoint) for c in callbacks), **{**defaults, **options}
        )  # fmt: skip
        trainer.fit(model, data, ckpt_path=ckpt_path)
        return model

    return run


def test_the_same_examples_after_every_validation(fit, tmp_path):
    callback = SampledTranslations(3)
    fit(callback)
    rows = callback.state_dict()["rows"]
    assert [row[0] for row in rows] == [2, 2, 2, 4, 4, 4]
    # Examples 1, 4 and 6 of eight.
    assert [len(row[1]) - 4 for row in rows] == [4, 10, 14] * 2
    assert [row[2] for row in rows[:3]] == [f"{'ba' * i}*" for i in (2, 5, 7)]
    assert all(len(row[3]) <= 5 for row in rows)
    text = (tmp_path / "translations.md").read_text()
    assert re.findall(r"## Step (\d) · val_loss \d\.\d+", text) == ["2", "4"]
    assert text.count("| source | reference | hypothesis |\n| --- | --- | --- |\n") == 2
    assert r"| abab\|\<b\> | baba\* |" in text


def test_a_run_is_the_same_without_them(fit):
    weights = [fit(*callbacks).state_dict() for callbacks in ((), (SampledTranslations(2),))]
    for name, tensor in weights[0].items():
        assert torch.equal(weights[1][name], tensor), name


def test_the_table_goes_on_after_a_stop_and_w_and_b_shows_it(fit, tmp_path):
    last, callback = LastCheckpoint(), SampledTranslations(2)
    fit(SampledTranslations(2), last, max_epochs=1)
    wandb = WandbLogger(save_dir=tmp_path, project="p", id="x", offline=True)
    fit(callback, logger=wandb, ckpt_path=last.last_model_path)
    assert [row[0] for row in callback.state_dict()["rows"]] == [2, 2, 4, 4]
    wandb.experiment.finish()
    [table] = tmp_path.rglob("media/table/translations_*.table.json")
    assert '"columns":["step","source","reference","hypothesis"]' in table.read_text().replace(" ", "")


def test_without_pairs_the_fit_does_not_start(fit, tmp_path):
    with pytest.raises(UserError, match=r"no data for val: give data\.val_source"):
        fit(
            SampledTranslations(),
            data=PairDataModule(str(tmp_path / "source"), str(tmp_path / "target"), source_tokenizer=CharTokenizer()),
        )
    with pytest.raises(UserError, match=r"needs a data module of pairs \(PairDataModule\), not TinyShakespeare"):
        fit(SampledTranslations(), data=TinyShakespeare(batch_size=4))


@pytest.mark.parametrize("name", ["num_examples", "every_n_validations"])
def test_numbers_below_one_are_an_error(name):
    with pytest.raises(UserError, match=f"{name}=0: SampledTranslations needs at least 1"):
        SampledTranslations(**{name: 0})


def test_escaped():
    assert _escaped("he &apos;s & co") == r"he \&apos;s \& co"
    assert _escaped("a <unk> |\n*b*_c_ `d` [e] #f \\g") == r"a \<unk\> \| \*b\*\_c\_ \`d\` \[e\] \#f \\g"
