import json
from pathlib import Path

import pytest
import torch

from lightning_rnnattn.cli import main
from lightning_rnnattn.cli.ledger import Figure, read_figures, results, table

RECORD = {
    "command": "fit --config recipes/a/b.yaml --data.train_files 'one.txt' two.txt --seed_everything 1",
    "commit": "abc",
    "seed": "1",
    "hardware": "1 thread",
    "parameters": 12345,
    "steps": 1000,
    "seconds": 90.0,
    "best": {"val_loss": 4.5, "val_perplexity": 90.0},
    "evaluations": [
        {"command": "test --ckpt_path x.ckpt", "metrics": {"test_perplexity": 80.0, "test_loss": 4.4}},
        {
            "command": "test --ckpt_path x.ckpt --model.cache=NeuralCache --model.cache.size=9",
            "metrics": {"test_perplexity": 70.0},
        },
    ],
}
PUBLISHED = [
    Figure("a/b.yaml", "test_perplexity", 65.6, "", "here"),
    Figure("a/b.yaml", "test_perplexity", 50.0, "--model.cache", "there"),
]


def cells(text):
    return [
        [cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("| `")
    ]


def test_rows_by_hand():
    rows = cells(table(list(results(RECORD)), PUBLISHED))
    assert [row[:5] for row in rows] == [
        ["`a/b.yaml`", "test_perplexity", "80", "65.6", "+14.4"],
        ["`a/b.yaml`", "val_perplexity", "90", "", ""],
        ["`a/b.yaml` `--model.cache=NeuralCache` `--model.cache.size=9`", "test_perplexity", "70", "50", "+20"],
    ]
    assert rows[0][5:] == ["1", "12,345", "1,000", "1.5 min", "1 thread"]
    text = table(list(results(RECORD)), PUBLISHED)
    assert "Measured at commit abc." in text
    assert "- `a/b.yaml`, test_perplexity 65.6: here" in text
    assert "one.txt" not in text


def test_seeds_are_one_row_and_other_models_have_no_published_figure():
    second = {**RECORD, "seed": "2", "best": {}, "evaluations": RECORD["evaluations"][:1]}
    second["evaluations"] = [{**second["evaluations"][0], "metrics": {"test_perplexity": 82.0}}]
    other = {**RECORD, "command": RECORD["command"] + " --model.rnn=GRU", "best": {}}
    rows = cells(table([*results(RECORD), *results(second), *results(other)], PUBLISHED))
    [both] = [row for row in rows if row[5] == "1, 2"]
    assert both[2] == "81 ± 1.4"
    assert [row[3] for row in rows if "GRU" in row[0]] == ["", ""]


def test_losses_are_listed_where_one_was_published():
    rows = cells(table(list(results(RECORD)), [Figure("a/b.yaml", "test_loss", 4.0, "", "here")]))
    assert ["`a/b.yaml`", "test_loss", "4.4", "4", "+0.4"] in [row[:5] for row in rows]


def test_runs_and_their_tests_leave_what_the_ledger_needs(fit, small, capsys, workdir):
    fit(*small, "--seed_everything=3", "--trainer.val_check_interval=1", "--trainer.logger.name=mine")
    fit(*small, "--trainer.logger.name=mine", "--ckpt_path=last", "--trainer.max_steps=3")
    checkpoint = "runs/mine/version_1/checkpoints/last.ckpt"
    for flags in ([], ["--model.cache=NeuralCache", "--model.cache.size=9"]):
        main(["test", "--ckpt_path", checkpoint, "--trainer.limit_test_batches=2", *flags])
    first, record = (json.loads(Path(f"runs/mine/version_{i}/run.json").read_text()) for i in (0, 1))
    assert first["seed"] == "3"
    assert (first["steps"], record["steps"]) == (2, 3)
    saved = torch.load("runs/mine/version_0/checkpoints/last.ckpt", weights_only=True)["callbacks"]["RunRecord"]
    assert record["seconds"] > saved["seconds"] > 0  # those of the run that it went on with count
    weights = torch.load(checkpoint, weights_only=True)["state_dict"]
    assert record["parameters"] == sum(x.numel() for name, x in weights.items() if x.is_floating_point())
    losses = [first["best"]["val_loss"], record["best"]["val_loss"]]
    assert losses == sorted(losses, reverse=True)  # the best of the run that it went on with is not forgotten
    callbacks = torch.load("runs/mine/version_0/checkpoints/best.ckpt", weights_only=True)["callbacks"]
    [best] = [state for name, state in callbacks.items() if name.startswith("BestCheckpoint")]
    assert first["best"]["val_loss"] == pytest.approx(float(best["best_model_score"]))
    plain, cached = (evaluation["metrics"] for evaluation in record["evaluations"])
    assert plain.keys() == cached.keys() == {"test_loss", "test_perplexity", "test_bpc"}
    assert plain["test_loss"] != cached["test_loss"]
    capsys.readouterr()
    main(["ledger", "runs"])
    out = capsys.readouterr().out
    assert f"{cached['test_perplexity']:.4g}" in out
    assert "`--model.cache.size=9`" in out


def test_the_shipped_figures_can_be_read():
    figures = read_figures(Path(__file__).parents[2] / "recipes" / "published.csv")
    assert {figure.recipe for figure in figures} >= {"wikitext2/awd_lstm.yaml", "wikitext2/plain_small.yaml"}
    for figure in figures:
        assert (Path(__file__).parents[2] / "recipes" / figure.recipe).is_file()


@pytest.mark.parametrize(
    ("files", "args", "message"),
    [
        ({}, ["."], ".: no run.json in it: runs made by `lightning_rnnattn fit` have one"),
        ({"run.json": "{"}, ["."], "run.json: not the record of a run"),
        ({"p.csv": "recipe,metric\na,b\n"}, [".", "--published=p.csv"], "p.csv:2: not the columns recipe,metric,value"),
        ({}, [".", "--published=none.csv"], "none.csv: cannot read the published figures"),
    ],
)
def test_what_it_cannot_read_is_named(fails, workdir, files, args, message):
    for name, text in files.items():
        (workdir / name).write_text(text)
    assert message in fails("ledger", *args)
