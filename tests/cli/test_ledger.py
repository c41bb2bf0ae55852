import json
from pathlib import Path

import pytest
import torch

from lightning_rnnattn.cli import main
from lightning_rnnattn.cli.ledger import Figure, read_figures, results, table

RECORD = {
    "continues": [],
    "command": "fit --config recipes/a/b.yaml --data.train_files 'x/one.txt' two.txt --seed_everything 1",
    "commit": "abcdef012345",
    "seed": "1",
    "hardware": "1 thread",
    "parameters": 12345,
    "steps": 1000,
    "seconds": 90.0,
    "best": {"val_loss": 4.5, "val_perplexity": 90.0},
    "evaluations": [
        {
            "command": "test --ckpt_path x/checkpoints/best.ckpt",
            "checkpoint": "best.ckpt",
            "commit": "abcdef012345",
            "metrics": {"test_perplexity": 80.0},
        },
        {
            "command": "test --ckpt_path x/checkpoints/best.ckpt --model.cache=NeuralCache --model.cache.size=9",
            "checkpoint": "best.ckpt",
            "commit": "0123456789ab+",
            "metrics": {"test_perplexity": 70.0},
        },
    ],
}
PUBLISHED = [
    Figure("a/b.yaml", "test_perplexity", 65.6, (), (), "here"),
    Figure("a/b.yaml", "test_perplexity", 50.0, (), ("--model.cache",), "there"),
]
RUN = "`a/b.yaml` `--data.train_files=one.txt two.txt`"


def cells(*records, published=PUBLISHED):
    text = table([result for record in records for result in results(record)], published)
    return [
        [cell.strip() for cell in line.strip("|").split(" | ")] for line in text.splitlines() if line.startswith("| `")
    ]


def metrics(flags="", test_flags="", published=PUBLISHED):
    """What the ledger says of a run with more flags, and of its test."""
    test = {**RECORD["evaluations"][0], "command": RECORD["evaluations"][0]["command"] + test_flags}
    *_, row = cells({**RECORD, "command": RECORD["command"] + flags, "evaluations": [test]}, published=published)
    return row[2]


def test_rows_by_hand():
    common = ["1", "12,345", "1,000", "1.5 min", "1 thread"]
    beside = "val_loss 4.5<br>val_perplexity 90<br>test_perplexity 80 (published 65.6, +14.4)"
    assert cells(RECORD) == [
        [RUN, "", beside, *common, "abcdef0"],
        [
            *(RUN, "`--model.cache=NeuralCache` `--model.cache.size=9`", "test_perplexity 70 (published 50, +20)"),
            *(*common, "abcdef0, 0123456+"),
        ],
    ]
    text = table(list(results(RECORD)), PUBLISHED)
    assert "- `a/b.yaml`, test_perplexity 65.6: here\n- `a/b.yaml` `--model.cache`, test_perplexity 50: there" in text
    assert "## Sources" not in table(list(results(RECORD)), [])


def test_seeds_are_one_row():
    test = RECORD["evaluations"][0]
    second = {**RECORD, "seed": "2", "seconds": 30.0, "evaluations": [{**test, "metrics": {"test_perplexity": 82.0}}]}
    both, cached = cells(RECORD, second)
    assert both[2:4] == [
        "val_loss 4.5 ± 0<br>val_perplexity 90 ± 0<br>test_perplexity 81 ± 1.4 (published 65.6, +15.4)",
        "1, 2",
    ]
    assert (both[6], cached[3]) == ("1 min", "1")
    [row] = cells({**RECORD, "evaluations": []}, second)  # the first has not been tested
    assert row[2].endswith("test_perplexity 82 (seed 2; published 65.6, +16.4)")


def test_a_second_evaluation_is_no_second_seed():
    again = {
        "command": "validate --ckpt_path best.ckpt",
        "checkpoint": "best.ckpt",
        "commit": None,
        "metrics": {"val_loss": 4.6},
    }
    last = {**RECORD["evaluations"][0], "checkpoint": "last.ckpt", "metrics": {"test_perplexity": 85.0}}
    rows = cells({**RECORD, "evaluations": [again, last]})
    assert rows[0][2] == "val_loss 4.6<br>val_perplexity 90"
    assert rows[1][1:3] == ["`--ckpt_path=last.ckpt`", "test_perplexity 85"]


def test_a_commit_that_is_not_known_is_said_to_be_so():
    test = {**RECORD["evaluations"][0], "commit": None}
    assert [row[-1] for row in cells({**RECORD, "commit": None, "evaluations": [test]})] == ["unknown"]
    assert [row[-1] for row in cells({**RECORD, "evaluations": [test]})] == ["abcdef0, unknown"]


@pytest.mark.parametrize(
    "flags",
    [
        *("--model.rnn=GRU", "--data=Other", "--data.val_fraction 0.1", "--data.dataset x/y", "--data.batch_size=7"),
        *("--trainer.max_steps -1", "--trainer.max_epochs=2", "--trainer.limit_train_batches=0.5"),
        *("--trainer.fast_dev_run", "--trainer.gradient_clip_val 5", "--init_from x.ckpt", "--config other.yaml"),
    ],
)
def test_other_settings_have_no_published_figure(flags):
    assert "published" in metrics()
    assert "published" not in metrics(f" {flags}")
    assert flags.startswith("--config") or "published" not in metrics("", f" {flags}")


@pytest.mark.parametrize(
    "flags",
    [
        *("--data.val_files=['/x/y.txt']", "--data.folder x", "--data.eval_batch_size 1", "--data.cache_dir x"),
        *("--trainer.precision bf16-mixed", "--trainer.enable_progress_bar false", "--trainer.logger.name x"),
        *("--trainer.accelerator=cpu", "--trainer.devices 2", "--ckpt_path last", "--quiet"),
    ],
)
def test_where_and_on_what_data_a_run_is_changes_nothing(flags):
    assert "published" in metrics(f" {flags}")
    assert "published" in metrics("", f" {flags}")
    [row] = cells({**RECORD, "command": f"{RECORD['command']} {flags}", "evaluations": []})
    assert "/" not in row[0].replace("a/b.yaml", "")  # a folder is nobody's business


def test_a_figure_may_be_of_settings_of_its_own():
    split = Figure("a/b.yaml", "val_loss", 4.0, ("--data.val_fraction=0.1", "--data.test_fraction=0"), (), "here")
    right, wrong = " --data.val_fraction 0.1 --data.test_fraction 0", " --data.val_fraction 0.2 --data.test_fraction 0"
    assert "val_loss 4.5 (published 4, +0.5)" in metrics(right, published=[split])
    for flags in ("", wrong, " --data.val_fraction 0.1", f"{right} --data.seq_len 9"):
        assert "published" not in metrics(flags, published=[split])
    two = [split, split._replace(value=5.0)]
    assert "val_loss 4.5 (published 4, +0.5; published 5, -0.5)" in metrics(right, published=two)


def test_a_run_that_was_resumed_is_of_its_first_commands_recipe():
    resumed = {**RECORD, "continues": [f"{RECORD['command']} --trainer.max_steps 9"], "evaluations": []}
    [row] = cells({**resumed, "command": "fit --ckpt_path last"})
    assert row[0] == f"{RUN} `--trainer.max_steps=9`"
    [row] = cells({**resumed, "command": "fit --ckpt_path last --trainer.max_steps=20"})
    assert row[0] == f"{RUN} `--trainer.max_steps=20`"


def test_runs_on_other_files_are_not_one_more_seed():
    test = {**RECORD["evaluations"][0], "command": "test --ckpt_path best.ckpt --data.test_files a/x.txt"}
    other = {**test, "command": "test --ckpt_path best.ckpt --data.test_files a/y.txt"}
    rows = cells({**RECORD, "best": {}, "evaluations": [test, other]})
    assert [row[1] for row in rows] == ["`--data.test_files=x.txt`", "`--data.test_files=y.txt`"]


def test_a_recipe_is_known_wherever_it_lies():
    command = RECORD["command"].replace("recipes/a/b.yaml", "/home/me/recipes/a/b.yaml")
    assert cells({**RECORD, "command": f"{command} --data.separator '|'"})[0][0] == rf"{RUN} `--data.separator=\|`"


def test_runs_and_their_tests_leave_what_the_ledger_needs(fit, small, capsys, workdir):
    fit(*small, "--seed_everything=3", "--trainer.val_check_interval=1", "--trainer.logger.name=mine")
    fit(*small, "--trainer.logger.name=mine", "--ckpt_path=last", "--trainer.max_steps=3")
    checkpoint = "runs/mine/version_1/checkpoints/last.ckpt"
    for flags in ([], ["--model.cache=NeuralCache", "--model.cache.size=9"]):
        main(["test", "--ckpt_path", checkpoint, "--trainer.limit_test_batches=2", *flags])
    first, record = (json.loads(Path(f"runs/mine/version_{i}/run.json").read_text()) for i in (0, 1))
    assert first["seed"] == "3"
    assert (first["continues"], record["continues"]) == ([], [first["command"]])
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
    assert record["commit"] is None or record["commit"][:7] in out


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
        ({"run.json": '{"steps": 1}'}, ["."], "run.json: not the record of a run (it has no command)"),
        ({"p.csv": "recipe,metric\na,b\n"}, [".", "--published=p.csv"], "p.csv:2: not the columns recipe,metric,value"),
        ({"p.csv": "recipe,metric,value\na,b,1\n"}, [".", "--published=p.csv"], "p.csv:2: not the columns recipe,"),
        ({}, [".", "--published=none.csv"], "none.csv: cannot read the published figures"),
    ],
)
def test_what_it_cannot_read_is_named(fails, workdir, files, args, message):
    for name, text in files.items():
        (workdir / name).write_text(text)
    assert message in fails("ledger", *args)
