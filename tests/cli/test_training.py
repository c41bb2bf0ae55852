"""fit, validate, test and predict: where settings come from, and what a checkpoint contributes."""

import json
import re
from pathlib import Path

import pytest
import torch
import yaml

from lightning_rnnattn.cli import main

QUIET = ["--trainer.accelerator=cpu", "--trainer.enable_progress_bar=false"]


def saved(folder="runs/version_0"):
    """The configuration that a run saved."""
    return yaml.safe_load((Path(folder) / "config.yaml").read_text())


def hparams(path="runs/version_0/checkpoints/last.ckpt"):
    return torch.load(path, weights_only=True)["hyper_parameters"]


# -- what a run leaves ------------------------------------------------------------------------------------------------


def test_run_folder_has_best_last_and_the_complete_config(trained):
    names = {path.relative_to(trained).as_posix() for path in trained.rglob("*") if path.is_file()}
    assert {"config.yaml", "checkpoints/best.ckpt", "checkpoints/last.ckpt"} <= names
    config = saved(trained)
    assert config["seed_everything"] == 1
    assert config["model"]["init_args"]["label_smoothing"] == 0.0  # defaults too
    assert config["model"]["init_args"]["vocab_size"] is None  # derived from the data, whatever these are next time
    assert config["trainer"]["max_steps"] == 2
    callbacks = [callback["class_path"].rpartition(".")[2] for callback in config["trainer"]["callbacks"]]
    assert callbacks == ["BestCheckpoint", "LastCheckpoint", "Throughput", "MetricsPlot"]


def test_the_config_repeats_the_run(fit, small):
    fit(*small, "--seed_everything=3")
    main(["fit", "--config=runs/version_0/config.yaml"])
    first, second = (torch.load(f"runs/version_{i}/checkpoints/last.ckpt", weights_only=True) for i in (0, 1))
    assert all(torch.equal(first["state_dict"][name], tensor) for name, tensor in second["state_dict"].items())


def test_without_a_logger_the_config_that_was_given_stays(workdir, fit, small):
    text = "# mine\nseed_everything: 3\n"
    (workdir / "config.yaml").write_text(text)
    with pytest.warns(UserWarning, match="config.yaml is the run's --config, and stays as it is"):
        fit("--config=config.yaml", *small, "--trainer.logger=false")
    assert (workdir / "config.yaml").read_text() == text
    (workdir / "mine.yaml").write_text(text)
    (workdir / "part.yaml").write_text("class_path: LanguageModel\n")
    (workdir / "config.yaml").unlink()
    for seed in (3, 4):  # the second time over what the first has saved
        fit("--config=mine.yaml", "--config=part.yaml", *small, "--trainer.logger=false", f"--seed_everything={seed}")
        assert saved(".")["seed_everything"] == seed


def test_without_a_logger_the_best_of_an_earlier_run_is_kept(workdir, fit, small):
    best, earlier = (workdir / "checkpoints" / name for name in ("best.ckpt", "best-earlier.ckpt"))
    flags = [*small, "--trainer.logger=false", "--trainer.val_check_interval=1"]
    fit(*flags)
    fit(*flags, "--ckpt_path=checkpoints/last.ckpt", "--trainer.max_steps=3")
    assert not earlier.exists()  # a run replaces its own
    first = best.read_bytes()
    fit(*flags, "--seed_everything=5")
    assert earlier.read_bytes() == first != best.read_bytes()


def test_a_config_of_comments_alone_says_nothing(workdir, fit, small):
    (workdir / "none.yaml").write_text("# seed_everything: 3\n")
    fit("--config=none.yaml", *small)
    assert saved()["seed_everything"] == 0


def test_yaml_then_flags_in_their_order(workdir, fit, small):
    one = "model: {class_path: LanguageModel, init_args: {dropout: 0.1, label_smoothing: 0.1, tie_weights: true}}"
    (workdir / "one.yaml").write_text(one)
    (workdir / "two.yaml").write_text("model: {init_args: {dropout: 0.2, label_smoothing: 0.2}}")
    fit("--config=one.yaml", "--config=two.yaml", *small, "--model.dropout=0.3")
    init_args = saved()["model"]["init_args"]
    assert (init_args["dropout"], init_args["label_smoothing"], init_args["tie_weights"]) == (0.3, 0.2, True)


def test_the_readme_s_variation_of_the_quickstart(fit):
    flags = ["--model.attention.score=AdditiveScore", "--model.rnn=GRU", "--model.rnn.hidden_size=8"]
    fit("--config=quickstart", *flags, "--data.seq_len=8", "--trainer.callbacks=null", "--trainer.val_check_interval=2")
    init_args = saved("runs/quickstart/version_0")["model"]["init_args"]
    assert init_args["rnn"]["class_path"].endswith(".GRU")
    assert init_args["attention"]["init_args"]["score"]["class_path"].endswith(".AdditiveScore")
    assert init_args["attention"]["init_args"]["window"] == 64  # the quickstart's


def test_a_callback_that_is_added_replaces_the_default_of_its_class(workdir, fit, small):
    flags = ["--trainer.callbacks+=LastCheckpoint", "--trainer.callbacks.every_n_train_steps=1"]
    flags += ["--trainer.callbacks+=BestCheckpoint", "--trainer.callbacks.monitor=val_perplexity"]
    fit(*small, *flags)
    every, of = "every_n_train_steps", "monitor"
    callbacks = [
        (one["class_path"].rpartition(".")[2], one["init_args"].get(every), one["init_args"].get(of))
        for one in saved()["trainer"]["callbacks"]
    ]
    last, best = ("LastCheckpoint", 1, None), ("BestCheckpoint", None, "val_perplexity")
    assert callbacks == [("Throughput", None, None), ("MetricsPlot", None, None), last, best]
    (workdir / "two.yaml").write_text(
        "trainer: {callbacks: [BestCheckpoint, {class_path: BestCheckpoint, init_args: {monitor: val_perplexity}}]}"
    )
    fit("--config=two.yaml", *small)  # what a config lists stays as it is
    two = saved("runs/version_1")["trainer"]["callbacks"]
    assert [one["init_args"]["monitor"] for one in two] == ["val_loss", "val_perplexity"]


def test_one_callback_is_a_list_of_one(fit, fails, small):
    fit(*small, "--trainer.callbacks=LastCheckpoint")
    assert [one["class_path"].rpartition(".")[2] for one in saved()["trainer"]["callbacks"]] == ["LastCheckpoint"]
    line = fails("fit", *small, "--trainer.callbacks=[LastCheckpoint, LastCheckpoint]")
    assert line.startswith("trainer: Found more than one stateful callback of type `LastCheckpoint`")


# -- sizes that the data knows ----------------------------------------------------------------------------------------


def test_vocab_size_comes_from_the_data_and_is_recorded(checkpoint):
    assert hparams(checkpoint)["vocab_size"] == 65


def test_a_right_vocab_size_by_hand_is_fine(fit, small):
    fit(*small, "--model.vocab_size=65")
    assert hparams()["vocab_size"] == 65


def test_a_wrong_vocab_size_by_hand_is_an_error(fails, small):
    line = fails("fit", *small, "--model.vocab_size=64")
    assert line == "model.vocab_size is 64, but TinyShakespeare has vocab_size = 65; leave it out to take that"


def test_any_required_argument_is_asked_of_the_data(workdir, fit, fails, small):
    (workdir / "labels.py").write_text(
        "from functools import partial\n"
        "from lightning_rnnattn import LanguageModel, TinyShakespeare, TokenEmbedding\n"
        "class Labelled(TinyShakespeare):\n"
        "    num_labels = 7\n"
        "class Tagger(LanguageModel):\n"
        "    def __init__(self, vocab_size: int, num_labels: int, size: int = 4):\n"
        "        super().__init__(vocab_size, partial(TokenEmbedding, embedding_size=size))\n"
    )
    fit("--import=labels", "--model=Tagger", "--data=Labelled", "--data.seq_len=8")
    assert hparams()["num_labels"] == 7
    line = fails("fit", "--import=labels", "--model=Tagger", "--data=TinyShakespeare")
    assert line == "model.num_labels is missing: Tagger requires it, and TinyShakespeare has no 'num_labels'"


REGULARISED = [
    "--model.rnn.num_layers=2",
    "--model.rnn.last_size=4",
    "--model.rnn.locked_dropout=0.1",
    "--model.rnn.weight_dropout=0.1",
    "--model.input.token_dropout=0.1",
    "--model.input.locked_dropout=0.1",
    "--model.locked_dropout=0.1",
    "--model.tie_weights=true",
    "--model.activation_penalty=2",
    "--model.slowness_penalty=1",
    "--data=TextDataModule",
    "--data.train_files=text.txt",
    "--data.val_fraction=0.5",
    "--data.seq_len_std=2",
    "--trainer.callbacks+=NTASGD",
    "--trainer.callbacks.nonmono=1",
    "--trainer.callbacks+=LengthScaledLR",
    "--model.cache=NeuralCache",
    "--model.cache.size=4",
]
STEPPED = ["--model.rnn=LayerNormLSTM", "--model.rnn.zoneout=0.1", "--model.rnn.cell_zoneout=0.1"]


@pytest.mark.parametrize("flags", [REGULARISED, STEPPED], ids=["kernel", "stepped"])
def test_each_regulariser_is_a_name_or_a_number(workdir, fit, small, flags):
    (workdir / "text.txt").write_text("to be or not to be\n" * 20)
    fit(*small, *flags)
    main(
        ["test", "--ckpt_path=runs/version_0/checkpoints/last.ckpt", *(f for f in flags if "cache" in f)]
        + (["--data.test_files=text.txt"] if flags is REGULARISED else [])
    )


# -- checkpoints ------------------------------------------------------------------------------------------------------


def test_test_needs_only_the_checkpoint(checkpoint, capsys):
    main(["test", *QUIET, f"--ckpt_path={checkpoint}", "--trainer.limit_test_batches=2"])
    assert "test_perplexity" in capsys.readouterr().out
    assert not Path("runs").exists()  # a test is no run


def test_validate_too(checkpoint, capsys):
    main(["validate", *QUIET, f"--ckpt_path={checkpoint}", "--trainer.limit_val_batches=2"])
    assert "val_bpc" in capsys.readouterr().out


def test_other_files_are_scored_with_the_checkpoint_s_tokenizer(workdir, checkpoint, fails, capsys):
    (workdir / "other.txt").write_text("To be, or not to be\n" * 20)
    (workdir / "greek.txt").write_text("Ὦ ξεῖν’\n" * 20)
    test = ["test", *QUIET, f"--ckpt_path={checkpoint}", "--data=TextDataModule"]
    main([*test, "--data.test_files=other.txt"])
    assert "test_perplexity" in capsys.readouterr().out
    assert "greek.txt:1: character 'Ὦ'" in fails(*test, "--data.test_files=greek.txt")


def test_checkpoint_is_the_default_which_yaml_and_flags_override(workdir, checkpoint):
    (workdir / "more.yaml").write_text("model: {init_args: {label_smoothing: 0.2}}\ntrainer: {max_steps: 3}")
    main(["fit", *QUIET, f"--ckpt_path={checkpoint}", "--config=more.yaml", "--model.dropout=0.3", "--data.seq_len=8"])
    resumed = torch.load("runs/version_0/checkpoints/last.ckpt", weights_only=True)
    assert resumed["global_step"] == 3
    arguments = resumed["hyper_parameters"]
    assert (arguments["label_smoothing"], arguments["dropout"]) == (0.2, 0.3)
    assert arguments["rnn"] == hparams(checkpoint)["rnn"]  # the checkpoint's
    assert resumed["datamodule_hyper_parameters"]["batch_size"] == 2


def test_the_checkpoint_may_be_named_in_yaml(workdir, checkpoint, capsys):
    (workdir / "test.yaml").write_text(f"ckpt_path: {checkpoint}\ntrainer: {{limit_test_batches: 1}}")
    main(["test", *QUIET, "--config=test.yaml"])
    assert "test_loss" in capsys.readouterr().out


def test_a_model_that_does_not_fit(checkpoint, fails):
    line = fails("test", *QUIET, f"--ckpt_path={checkpoint}", "--model.rnn.hidden_size=9")
    assert line.startswith("the checkpoint does not fit the model: size mismatch for ")


def test_init_from_starts_anew_from_weights_and_tokenizer(workdir, checkpoint, fit):
    (workdir / "mine.txt").write_text("To be, or not to be\n" * 40)
    fit(f"--init_from={checkpoint}", "--data=TextDataModule", "--data.train_files=mine.txt", "--model.optimizer=SGD",
        "--model.optimizer.lr=0", "--data.batch_size=2", "--data.seq_len=8")  # fmt: skip
    before, after = (
        torch.load(path, weights_only=True) for path in (checkpoint, "runs/version_0/checkpoints/last.ckpt")
    )
    assert after["global_step"] == 2
    assert after["vocabularies"] == before["vocabularies"]  # 65 characters, of which mine.txt has few
    assert all(torch.equal(before["state_dict"][name], tensor) for name, tensor in after["state_dict"].items())


def test_init_from_leaves_the_schedule_of_the_other_run(fit, small):
    fit(*small, "--model.optimizer=SGD", "--model.optimizer.lr=0.5", "--model.lr_scheduler=WarmupCosine",
        "--model.lr_scheduler.num_steps=2")  # fmt: skip
    fit("--init_from=runs/version_0/checkpoints/last.ckpt", "--data=TinyShakespeare", "--data.seq_len=8")
    arguments = yaml.safe_load(Path("runs/version_1/config.yaml").read_text())["model"]["init_args"]
    assert arguments["lr_scheduler"] is None
    assert arguments["optimizer"]["init_args"]["lr"] == 0.5
    config, last = "runs/version_1/config.yaml", "runs/version_1/checkpoints/last.ckpt"  # as `NextSteps` says it
    main(["fit", f"--config={config}", f"--ckpt_path={last}", "--trainer.max_steps=4"])
    assert torch.load("runs/version_2/checkpoints/last.ckpt", weights_only=True)["global_step"] == 4


def test_early_stopping_goes_on(fit, small):
    stop = ["--config=trainer/early_stopping.yaml", *small, "--trainer.limit_val_batches=1"]
    fit(*stop, "--trainer.max_steps=-1", "--trainer.max_epochs=2", "--trainer.limit_train_batches=3")
    fit(
        *stop, "--trainer.max_steps=-1", "--trainer.max_epochs=4", "--trainer.limit_train_batches=3", "--ckpt_path=last"
    )
    assert torch.load("runs/version_1/checkpoints/last.ckpt", weights_only=True)["global_step"] == 12


def test_init_from_what_does_not_fit(checkpoint, fails, small):
    line = fails("fit", *QUIET, *small, f"--init_from={checkpoint}", "--model.input.embedding_size=5")
    assert line.endswith(
        "does not fit this LanguageModel: input.embedding.weight, core.rnn.kernels.0.weight_ih_l0 differ"
    )


def test_a_monitor_that_is_not_there(fails, small):
    stop = ["--trainer.callbacks+=EarlyStopping", "--trainer.callbacks.monitor=val_los"]
    line = fails("fit", *QUIET, *small, "--trainer.max_steps=2", "--trainer.limit_val_batches=1", *stop)
    assert line.startswith("trainer.callbacks: Early stopping conditioned on metric `val_los` which is not available")


@pytest.mark.parametrize(
    ("model", "data", "sizes"),
    [
        ("LanguageModel", "CMUDict", ["vocab_size"]),
        ("Seq2Seq", "TinyShakespeare", ["source_vocab_size", "target_vocab_size"]),
    ],
)
def test_data_of_another_kind(fails, model, data, sizes):
    flags = [f"--model={model}", f"--data={data}", *(f"--model.{size}=30" for size in sizes)]
    line = fails("fit", *QUIET, *flags, "--trainer.max_steps=1")
    assert re.match(rf"the data gives \w+, and {model} learns from .*: set data to \w+$", line)


def test_last_is_the_newest_earlier_run_of_this_model(fit, fails, small, caplog):
    fit(*small)
    fit(*small, "--model.rnn.hidden_size=5")  # newer, but another model
    fit(*small, "--ckpt_path=last", "--trainer.max_steps=3")
    assert "--ckpt_path last: runs/version_0/checkpoints/last.ckpt" in caplog.messages
    resumed = torch.load("runs/version_2/checkpoints/last.ckpt", weights_only=True)
    assert resumed["global_step"] == 3
    line = fails("fit", *small, "--model.rnn.hidden_size=6", "--ckpt_path=last")
    assert line == (
        "--ckpt_path last: none of the 3 fits this model under runs "
        "(the newest is runs/version_2/checkpoints/last.ckpt: rnn differs); leave it out to start anew"
    )


def test_last_goes_on_where_only_what_may_change_does(fit, small):
    changed = ["--model.locked_dropout=0.1", "--model.slowness_penalty=0.5", "--model.cache=NeuralCache"]
    fit(*small)
    fit(*small, *changed, "--ckpt_path=last", "--trainer.max_steps=3")
    assert torch.load("runs/version_1/checkpoints/last.ckpt", weights_only=True)["global_step"] == 3


def test_last_passes_over_what_it_cannot_use(workdir, fit, fails, small, caplog):
    dot = [*small, "--model.attention=Attention", "--model.attention.window=4", "--model.attention.score=DotScore"]
    fit(*dot, "--model.optimizer=SGD", "--model.optimizer.lr=0.1")
    fit(*dot, "--model.attention.score=ScaledDotScore")  # the same shapes
    (workdir / "runs" / "last.ckpt").write_text("damaged")
    fit(*dot, "--ckpt_path=last", "--trainer.max_steps=3", "--model.optimizer=SGD", "--model.optimizer.lr=0.2")
    assert "--ckpt_path last: runs/version_0/checkpoints/last.ckpt" in caplog.messages
    (workdir / "runs" / "last-v1.ckpt").write_text("damaged")
    line = fails("fit", *small, "--ckpt_path=last")
    assert "(the newest is runs/last-v1.ckpt: not a checkpoint that can be opened safely" in line


def test_an_optimizer_does_not_go_on_from_the_state_of_another(fit, fails, small, caplog):
    fit(*small)
    options = [*small, *QUIET, "--ckpt_path=runs/version_0/checkpoints/last.ckpt", "--trainer.max_steps=3"]
    line = fails("fit", *options, "--model.optimizer=SGD", "--model.optimizer.lr=0.1")
    assert line == (
        "model.optimizer: the checkpoint has the state of another optimizer than SGD (it lacks 'momentum'): go on with"
        " the same, or start anew from its weights with --init_from"
    )
    assert not [message for message in caplog.messages if message.startswith("Interrupted")]
    fit(*options, "--model.optimizer=Adam", "--model.optimizer.lr=0.1")  # which AdamW's state fits


def test_a_result_that_cannot_be_added_to_a_run_is_shown_all_the_same(fit, small, capsys):
    fit(*small)
    Path("runs/version_0/run.json").write_text("{")
    with pytest.warns(UserWarning, match="run.json: the result is not added: JSONDecodeError"):
        main(["test", *QUIET, "--ckpt_path=runs/version_0/checkpoints/last.ckpt"])
    assert "test_loss" in capsys.readouterr().out


def test_the_weights_alone(workdir, fit, fails, small, capsys):
    """What `export --format safetensors` wrote can be evaluated, and begun from, but there is nothing to go on with."""
    fit(*small)
    main(["export", "--ckpt_path=runs/version_0/checkpoints/last.ckpt", "--format=safetensors", "--output=weights"])
    tables = []
    for path in ("runs/version_0/checkpoints/last.ckpt", "weights"):
        capsys.readouterr()
        main(["test", *QUIET, "--data=TinyShakespeare", f"--ckpt_path={path}", "--trainer.limit_test_batches=3"])
        tables.append([line for line in capsys.readouterr().out.splitlines() if "test_" in line])
    assert tables[0] == tables[1] != []
    line = fails("fit", *small, *QUIET, "--ckpt_path=weights")
    assert line == "--ckpt_path weights: has weights alone, from which --init_from starts a run"


def test_last_without_an_earlier_run(fit, fails, small, caplog):
    line = fails("test", *small, *QUIET, "--ckpt_path=last")
    assert line.startswith("--ckpt_path last: there is none of an earlier run under ")
    fit(*small, "--ckpt_path=last")  # so that one command starts a run and goes on with it
    assert "--ckpt_path last: there is no earlier run, so this starts anew" in caplog.messages


def test_last_uses_the_file_before_one_that_was_cut(fit, small, caplog):
    fit(*small, "--trainer.val_check_interval=1")
    last = Path("runs/version_0/checkpoints/last.ckpt")
    last.write_bytes(last.read_bytes()[:1000])
    with pytest.warns(UserWarning, match="passes over .*last.ckpt: not a checkpoint that can be opened safely"):
        fit(*small, "--ckpt_path=last", "--trainer.val_check_interval=1")
    assert "--ckpt_path last: runs/version_0/checkpoints/last-previous.ckpt" in caplog.messages
    assert torch.load("runs/version_1/checkpoints/last.ckpt", weights_only=True)["global_step"] == 2


# -- predict ----------------------------------------------------------------------------------------------------------


def test_predict_writes_a_line_for_each_document(workdir, checkpoint):
    (workdir / "a.txt").write_text("To be\n")
    (workdir / "b.txt").write_text("or not to be\n")
    main(
        ["predict", *QUIET, f"--ckpt_path={checkpoint}", "--data.predict_files=[a.txt, b.txt]", "--output=out/p.jsonl"]
    )
    first, second = map(json.loads, Path("out/p.jsonl").read_text().splitlines())
    assert (first["document"], second["document"]) == ("a.txt", "b.txt")
    assert "".join(first["tokens"]) == "o be\n"  # the first token is given
    assert len(first["ids"]) == len(first["tokens"])
    nats = -sum(second["log_probs"])
    assert second["perplexity"] == pytest.approx(torch.tensor(nats / len(second["log_probs"])).exp().item(), rel=1e-4)
