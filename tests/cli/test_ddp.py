"""Two processes on the CPU, as a real command: the second one runs the same command line again."""

import csv
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch


def test_fit_with_two_processes(workdir):
    (workdir / "own.py").write_text(
        "from lightning_rnnattn import LanguageModel\nclass Own(LanguageModel):\n    '''Importable in both.'''\n"
    )
    program = Path(sys.executable).with_name("lightning_rnnattn")
    flags = """--import own --model Own --model.input.embedding_size 4 --model.rnn.hidden_size 8
        --config data/tinyshakespeare --config trainer/ddp.yaml --trainer.accelerator cpu --trainer.devices 2
        --data.seq_len 8 --trainer.max_steps 3
        --trainer.limit_val_batches 2 --trainer.val_check_interval 3 --trainer.enable_progress_bar false"""
    done = subprocess.run([program, "fit", *flags.split()], capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stderr
    assert "GLOBAL_RANK: 1, MEMBER: 2/2" in done.stderr
    last = torch.load("runs/version_0/checkpoints/last.ckpt", weights_only=True)
    assert last["global_step"] == 3
    assert last["hyper_parameters"]["_class_path"] == "own.Own"
    assert not Path("runs/version_1").exists()


COPYING = """\
from copy import deepcopy
from threading import Lock
import torch
from lightning.pytorch import Callback


class Copying(Callback):
    def setup(self, trainer, pl_module, stage):
        trainer.lock = Lock()  # the processes that Lightning's launcher starts have some
        copied = deepcopy(pl_module)
        assert copied.optimizer_factory is pl_module.optimizer_factory
        assert copied.lr_scheduler_factory is pl_module.lr_scheduler_factory
        assert copied._trainer is None
        for (name, tensor), other in zip(copied.named_parameters(), pl_module.parameters(), strict=True):
            assert torch.equal(tensor, other), name
            assert tensor.data_ptr() != other.data_ptr(), name
        print("copied")
"""


def test_a_copy_of_a_module_is_free_of_the_trainer(workdir, fit, small, capsys):
    (workdir / "copying.py").write_text(COPYING)
    flags = """--model.optimizer=SGD --model.optimizer.lr=0.1 --model.lr_scheduler=ExponentialLR
        --model.lr_scheduler.gamma=1 --import=copying --trainer.callbacks+=copying.Copying"""
    fit(*small, *flags.split())
    assert "copied" in capsys.readouterr().out


LSTM = """--model.rnn LSTM --model.rnn.hidden_size 8 --model.rnn.bidirectional true
    --model.optimizer SGD --model.optimizer.lr 0.3"""
TAGGER = f"""--model SequenceTagger --model.output CRFOutput --model.characters CharacterEncoder {LSTM}
    --data TaggedDataModule --data.train_files tags.txt --data.val_files tags.txt --data.format Columns"""
# Of its validation set, which is one batch, the second process has none.
CLASSIFIER = f"""--model SequenceClassifier --model.output SingleLabel --model.output.class_weights [0.3,0.2]
    --model.penalty 0.1 --model.auroc true {LSTM} --data ClassifiedDataModule --data.train_files labels.txt
    --data.val_files labels.txt --data.eval_batch_size 9 --trainer.callbacks+ ConfusionMatrix"""
SEQ2SEQ = """--model Seq2Seq --model.embedding_size 8 --model.encoder LSTM --model.encoder.hidden_size 8
    --model.decoder InputFeedingDecoder --model.decoder.rnn LSTM --model.decoder.rnn.hidden_size 8
    --model.text_metrics [BLEU,ChrF,PhoneErrorRate] --model.optimizer SGD --model.optimizer.lr 0.5
    --data PairDataModule --data.train_source source.txt --data.train_target target.txt
    --data.val_source source.txt --data.val_target target.txt --data.source_tokenizer WordTokenizer
    --trainer.callbacks+=SampledTranslations"""
TASKS = {"tagger": TAGGER, "classifier": CLASSIFIER, "seq2seq": SEQ2SEQ}
slow = pytest.mark.slow


@pytest.fixture
def nine(workdir):
    """Nine examples for each task: in batches of two, one process has none in the last step of an epoch."""
    words = [f"w{i % 4} {'AB'[i % 2]}\n" for i in range(9)]
    (workdir / "tags.txt").write_text("".join(word * (1 + i % 5) + "\n" for i, word in enumerate(words)))
    lines = [f"{'AB'[i * i % 3 % 2]} {' '.join(['v', f'w{i % 4}'][i % 2 :] * (1 + i % 5))}\n" for i in range(9)]
    (workdir / "labels.txt").write_text("".join(lines))
    lines = [" ".join("abc"[(i + j) % 3] for j in range(1 + i % 5)) + "\n" for i in range(9)]
    (workdir / "source.txt").write_text("".join(lines))
    (workdir / "target.txt").write_text("".join(line.upper()[::-1].lstrip() + "\n" for line in lines))


def run(command, flags, processes, strategy="ddp"):
    program = Path(sys.executable).with_name("lightning_rnnattn")
    common = f"""--trainer.accelerator cpu --trainer.enable_progress_bar false
        {f"--config trainer/{strategy}.yaml" if processes > 1 else ""} --trainer.devices {processes}"""
    args = [program, command, *flags.split(), *common.split()]
    done = subprocess.run(args, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stderr


def measured(file):
    """The last measurements of a run."""
    *_, row = csv.DictReader(file.read_text().splitlines())
    return {name: float(value) for name, value in row.items() if name.startswith(("val_", "test_"))}


def end(version):
    """The last checkpoint and the last measurements of a fit."""
    folder = Path(f"runs/version_{version}")
    return torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True), measured(folder / "metrics.csv")


def assert_one_end(steps):
    """Two runs ended with the same weights and measurements, each example being validated on once."""
    (one, one_metrics), (two, two_metrics) = end(0), end(1)
    assert one["global_step"] == two["global_step"] == steps
    for name, weight in one["state_dict"].items():
        torch.testing.assert_close(two["state_dict"][name], weight, atol=1e-5, rtol=0, msg=name)
    assert one_metrics["val_loss"] > 0
    assert two_metrics == pytest.approx(one_metrics, abs=1e-5)


@pytest.mark.parametrize(
    ("task", "strategy"),
    [
        pytest.param("tagger", "ddp", marks=slow),
        ("classifier", "ddp"),
        pytest.param("seq2seq", "ddp", marks=slow),
        pytest.param("classifier", "fsdp", marks=slow),
        pytest.param("seq2seq", "fsdp", marks=slow),
    ],
)
def test_two_processes_train_as_one_does(task, strategy, nine):
    run("fit", f"{TASKS[task]} --trainer.max_epochs 17 --data.batch_size 4", 1)
    run("fit", f"{TASKS[task]} --trainer.max_epochs 17 --data.batch_size 2", 2, strategy)
    assert_one_end(17 * 3)
    if task == "seq2seq":
        assert end(0)[1].keys() >= {"val_bleu", "val_chrf", "val_per"}
        assert 0 < end(0)[1]["val_chrf"] < 100
        assert Path("runs/version_1/translations.md").read_text().count("## Step") == 17


@slow
@pytest.mark.parametrize("average", ["EMAWeightAveraging", "EpochAverage"])
def test_two_processes_average_weights_as_one_does(average, nine):
    flags = f"{CLASSIFIER} --trainer.callbacks+={average} --trainer.max_epochs 3"
    run("fit", f"{flags} --data.batch_size 4", 1)
    run("fit", f"{flags} --data.batch_size 2", 2)
    assert "current_model_state" in end(1)[0]
    assert_one_end(3 * 3)


SPLITS = {
    "tagger": "--data.test_files tags.txt --data.predict_files tags.txt",
    "classifier": "--data.test_files labels.txt --data.predict_files labels.txt",
    "seq2seq": "--data.test_source source.txt --data.test_target target.txt --data.predict_source source.txt",
}


@slow
@pytest.mark.parametrize(("task", "strategy"), [*((task, "ddp") for task in TASKS), ("seq2seq", "fsdp")])
def test_one_batch_for_two_processes(task, strategy, nine):
    flags = f"{TASKS[task]} --data.batch_size 9 --trainer.max_epochs 3"
    for version, processes in enumerate((1, 2)):
        run("fit", flags, processes, strategy)
        given = f"--ckpt_path runs/version_0/checkpoints/last.ckpt {SPLITS[task]}"
        logged = "--trainer.logger CSVLogger --trainer.logger.save_dir . --trainer.logger.name"
        run("validate", f"{given} {logged} val", processes, strategy)
        run("test", f"{given} {logged} test", processes, strategy)
        run("predict", f"{given} --output {version}.jsonl", processes, strategy)
    assert_one_end(3)
    for name in "val", "test":
        one, two = (measured(Path(f"{name}/version_{version}/metrics.csv")) for version in (0, 1))
        assert one[f"{name}_loss"] > 0
        assert two == pytest.approx(one, abs=1e-5)
    one, two = ([json.loads(line) for line in Path(f"{version}.jsonl").read_text().splitlines()] for version in (0, 1))
    assert len(one) == 9
    assert [row["text"] for row in two] == [row["text"] for row in one]
