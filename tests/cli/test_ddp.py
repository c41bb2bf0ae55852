"""Two processes on the CPU, as a real command: the second one runs the same command line again."""

import csv
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
    flags = """--import own --model Own --model.embedding_size 4 --model.rnn.hidden_size 8 --config data/tinyshakespeare
        --config trainer/ddp.yaml --trainer.accelerator cpu --trainer.devices 2 --data.seq_len 8 --trainer.max_steps 3
        --trainer.limit_val_batches 2 --trainer.val_check_interval 3 --trainer.enable_progress_bar false"""
    done = subprocess.run([program, "fit", *flags.split()], capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stderr
    assert "GLOBAL_RANK: 1, MEMBER: 2/2" in done.stderr
    last = torch.load("runs/version_0/checkpoints/last.ckpt", weights_only=True)
    assert last["global_step"] == 3
    assert last["hyper_parameters"]["_class_path"] == "own.Own"
    assert not Path("runs/version_1").exists()


TAGGER = """--model SequenceTagger --model.output CRFOutput --model.characters CharacterEncoder
    --data TaggedDataModule --data.train_files tags.txt --data.val_files tags.txt --data.format Columns"""
CLASSIFIER = """--model SequenceClassifier --model.output SingleLabel --model.output.class_weights [0.3,0.2]
    --model.penalty 0.1 --model.auroc true --data ClassifiedDataModule --data.train_files labels.txt
    --data.val_files labels.txt --trainer.callbacks+ ConfusionMatrix"""


@pytest.mark.parametrize("task", [TAGGER, CLASSIFIER], ids=["tagger", "classifier"])
def test_two_processes_train_as_one_does(task, workdir):
    # Nine sentences in batches of two: in the last step of an epoch one process has none.
    words = [f"w{i % 4} {'AB'[i % 2]}\n" for i in range(9)]
    (workdir / "tags.txt").write_text("".join(word * (1 + i % 5) + "\n" for i, word in enumerate(words)))
    lines = [f"{'AB'[i * i % 3 % 2]} {' '.join(['v', f'w{i % 4}'][i % 2 :] * (1 + i % 5))}\n" for i in range(9)]
    (workdir / "labels.txt").write_text("".join(lines))
    program = Path(sys.executable).with_name("lightning_rnnattn")
    flags = f"""{task} --model.rnn LSTM --model.rnn.hidden_size 8 --model.rnn.bidirectional true
        --model.optimizer SGD --model.optimizer.lr 0.3
        --trainer.accelerator cpu --trainer.max_epochs 17 --trainer.enable_progress_bar false"""
    weights, metrics = [], []
    for version, options in enumerate(("--data.batch_size 4", "--data.batch_size 2 --trainer.devices 2")):
        command = [program, "fit", *flags.split(), *options.split(), "--trainer.strategy", ("auto", "ddp")[version]]
        done = subprocess.run(command, capture_output=True, text=True, timeout=200, check=False)
        assert done.returncode == 0, done.stderr
        last = torch.load(f"runs/version_{version}/checkpoints/last.ckpt", weights_only=True)
        assert last["global_step"] == 17 * 3
        weights.append(last["state_dict"])
        *_, row = csv.DictReader(Path(f"runs/version_{version}/metrics.csv").read_text().splitlines())
        metrics.append({name: float(value) for name, value in row.items() if name.startswith("val_")})
    for name, weight in weights[0].items():
        torch.testing.assert_close(weights[1][name], weight, atol=1e-5, rtol=0, msg=name)
    assert metrics[0] == pytest.approx(metrics[1], abs=1e-5)  # each sentence is validated on once


@pytest.mark.slow
def test_two_processes_translate_as_one_does(workdir):
    # Nine pairs in batches of two: in the last step of an epoch one process has none.
    lines = [" ".join("abc"[(i + j) % 3] for j in range(1 + i % 5)) + "\n" for i in range(9)]
    (workdir / "source.txt").write_text("".join(lines))
    (workdir / "target.txt").write_text("".join(line.upper()[::-1].lstrip() + "\n" for line in lines))
    program = Path(sys.executable).with_name("lightning_rnnattn")
    flags = """--model Seq2Seq --model.embedding_size 8 --model.encoder LSTM --model.encoder.hidden_size 8
        --model.decoder InputFeedingDecoder --model.decoder.rnn LSTM --model.decoder.rnn.hidden_size 8
        --model.text_metrics [BLEU,ChrF,PhoneErrorRate] --model.optimizer SGD --model.optimizer.lr 0.5
        --data PairDataModule --data.train_source source.txt --data.train_target target.txt
        --data.val_source source.txt --data.val_target target.txt --data.source_tokenizer WordTokenizer
        --trainer.accelerator cpu --trainer.max_epochs 17 --trainer.enable_progress_bar false
        --trainer.callbacks+=SampledTranslations"""
    weights, metrics = [], []
    for version, options in enumerate(("--data.batch_size 4", "--data.batch_size 2 --trainer.devices 2")):
        command = [program, "fit", *flags.split(), *options.split(), "--trainer.strategy", ("auto", "ddp")[version]]
        done = subprocess.run(command, capture_output=True, text=True, timeout=200, check=False)
        assert done.returncode == 0, done.stderr
        last = torch.load(f"runs/version_{version}/checkpoints/last.ckpt", weights_only=True)
        assert last["global_step"] == 17 * 3
        weights.append(last["state_dict"])
        with Path(f"runs/version_{version}/metrics.csv").open() as file:
            *_, row = csv.DictReader(file)
        metrics.append({name: float(value) for name, value in row.items() if name.startswith("val_")})
        assert Path(f"runs/version_{version}/translations.md").read_text().count("## Step") == 17
    for name, weight in weights[0].items():
        torch.testing.assert_close(weights[1][name], weight, atol=1e-5, rtol=0, msg=name)
    assert metrics[1] == pytest.approx(metrics[0], abs=1e-5)  # each pair is validated on once
    assert metrics[0].keys() >= {"val_bleu", "val_chrf", "val_per"}
    assert 0 < metrics[0]["val_chrf"] < 100
