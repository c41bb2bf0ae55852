from lightning.pytorch.loggers import CSVLogger

from lightning_rnnattn.callbacks import BestCheckpoint, LastCheckpoint, MetricsPlot, NextSteps, SampledText


def test_where_everything_is(fit, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    commands = ["test {best}", "go on {last} {further}", "again {config}", "look in {folder}"]
    logger = CSVLogger(tmp_path, name="my run", version="a")
    fit(NextSteps(commands), BestCheckpoint(), LastCheckpoint(), MetricsPlot(), SampledText(["to"], 2), logger=logger)
    lines = [line.strip() for line in capsys.readouterr().out.splitlines()]
    for name, file in {
        "best checkpoint": "checkpoints/best.ckpt",
        "last checkpoint": "checkpoints/last.ckpt",
        "metrics": "metrics.csv",
        "metrics plot": "metrics.png",
        "sampled text": "samples.md",
    }.items():
        assert f"{name:<16} 'my run/a/{file}'" in lines
    assert "test 'my run/a/checkpoints/best.ckpt'" in lines
    assert "go on 'my run/a/checkpoints/last.ckpt' --trainer.max_epochs 4" in lines
    assert "look in 'my run/a'" in lines
    assert not any(line.startswith("again") for line in lines)  # the run has no config.yaml


def test_quiet_without_checkpoints(fit, capsys):
    fit(NextSteps())
    assert "Try next" not in capsys.readouterr().out
