import pytest
from lightning.pytorch.loggers import TensorBoardLogger, WandbLogger

from lightning_rnnattn.callbacks import LastCheckpoint, SampledText
from lightning_rnnattn.errors import UserError


def test_samples_after_every_validation_and_at_the_end(fit, tmp_path):
    fit(SampledText(["to be", "whether"], 5), max_epochs=None, max_steps=11)
    text = (tmp_path / "samples.md").read_text()
    assert [line.split(" · ")[0] for line in text.splitlines() if line.startswith("## ")] == ["## Step 8", "## Step 11"]
    assert text.count("```text\nto be") == text.count("```text\nwhether") == 2
    assert "· val_loss " in text


def test_the_same_model_writes_the_same(fit):
    first, second = SampledText(["to"], 20), SampledText(["to"], 20, filename="second.md")
    greedy = SampledText(["to"], 20, temperature=0, filename="greedy.md")
    fit(first, second, greedy, max_epochs=1)
    assert first.state_dict()["rows"] == second.state_dict()["rows"]
    assert greedy.state_dict()["rows"][0][0:2] == [8, "to"]
    assert len(greedy.state_dict()["rows"][0][2]) == 22


def test_every_other_validation(fit):
    callback = SampledText(["to"], 5, every_n_validations=2)
    fit(callback, max_epochs=4)
    assert [row[0] for row in callback.state_dict()["rows"]] == [16, 32]


def test_a_second_fit_counts_its_own_validations(fit):
    callback = SampledText(["to"], 5, every_n_validations=2)
    for epochs, steps in ((3, [16, 24]), (2, [16])):
        fit(callback, max_epochs=epochs)
        assert [row[0] for row in callback.state_dict()["rows"]] == steps


def test_the_table_goes_on_after_a_stop(fit, tmp_path):
    last, callback = LastCheckpoint(), SampledText(["to"], 5)
    fit(SampledText(["to"], 5), last, max_epochs=1)
    fit(callback, ckpt_path=last.last_model_path, default_root_dir=tmp_path / "other")
    assert [row[0] for row in callback.state_dict()["rows"]] == [8, 16]


@pytest.mark.parametrize(("prompt", "message"), [("", "is empty"), ("Ω", "")])
def test_a_bad_prompt_is_refused_before_training(fit, prompt, message):
    with pytest.raises((UserError, ValueError), match=message):
        fit(SampledText([prompt], 5))


def test_text_with_fences_stays_one_block(fit, tmp_path, monkeypatch):
    monkeypatch.setattr("lightning_rnnattn.callbacks.sampled_text.SampledText._texts", lambda *_: ["a\n```\nb"])
    fit(SampledText(["to"], 5), max_epochs=1)
    assert "````text\na\n```\nb\n````" in (tmp_path / "samples.md").read_text()


def test_loggers_get_text_and_a_table(fit, tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    wandb = WandbLogger(save_dir=tmp_path, project="p", id="x", offline=True)
    fit(SampledText(["to"], 5), logger=[TensorBoardLogger(tmp_path, name="tb"), wandb])
    assert "samples/text_summary" in EventAccumulator(str(tmp_path / "tb" / "version_0")).Reload().Tags()["tensors"]
    wandb.experiment.finish()
    tables = sorted(tmp_path.rglob("media/table/samples_*.table.json"), key=lambda path: path.stat().st_size)
    assert len(tables) == 2
    assert '"columns":["step","prompt","text"]' in tables[-1].read_text().replace(" ", "")
