"""`describe`: the table, against numbers worked out by hand and against a real training step."""

import re
from functools import partial

import pytest
import torch

from lightning_rnnattn import LanguageModel, TokenEmbedding
from lightning_rnnattn.cli import main
from lightning_rnnattn.cli.describe import Costs

LM = ["--model=LanguageModel", "--model.input.embedding_size=64", "--model.rnn.hidden_size=256"]
TAGGER = [
    "--model=SequenceTagger",
    "--model.input_size=50",
    "--model.num_labels=7",
    "--model.num_characters=30",
    "--model.characters=CharacterEncoder",
    "--model.attention=Attention",
    "--model.rnn=LSTM",
    "--model.rnn.bidirectional=true",
]


@pytest.fixture
def describe(capsys, monkeypatch):
    """Runs the command and gives its lines, and its rows by their first word."""
    monkeypatch.setenv("COLUMNS", "120")

    def run(*args):
        main(["describe", *args])
        out = capsys.readouterr().out
        return out, {line.split()[0]: line.split() for line in out.splitlines() if line.strip()}

    return run


def test_numbers_by_hand(describe, workdir):
    attention = ["--model.attention=Attention", "--model.attention.score=GeneralScore", "--model.attention.window=64"]
    out, rows = describe(*LM, *attention, "--vocab_size=1000")
    assert "64,000" in rows["input"]
    gates = 4 * 256 * (64 + 256)
    assert f"{gates + 2 * 4 * 256:,}" in rows["rnn"]
    assert " ".join(rows["rnn"]).endswith("655 K")  # 2 · gates
    assert "65,536" in rows["attention"]
    assert " ".join(rows["combine"]).endswith("262 K")  # 2 · 512 · 256
    total = 64_000 + gates + 2048 + 256 * 256 + 512 * 256 + 256 * 1000 + 1000
    assert f"{total:,}" in rows["all"]
    assert "32 rows of 64 tokens" in out


def test_everything_is_found_without_building_a_batch(describe, workdir):
    out, _ = describe("--config=quickstart.yaml", "--batch_size=4", "--length=16")
    assert "4 rows of 16 tokens" in out  # the vocabulary is that of the data, which is at hand
    out, _ = describe("--config=quickstart.yaml")
    assert "32 rows of 64 tokens" in out  # the data's


def test_of_a_checkpoint(describe, checkpoint):
    _, rows = describe(f"--ckpt_path={checkpoint}")
    weights = torch.load(checkpoint, weights_only=True)["state_dict"].values()
    count = sum(x.numel() for x in weights if x.is_floating_point())
    assert f"{count:,}" in rows["all"]


def test_what_looks_at_values_is_run_on_one_row(describe, workdir):
    out, rows = describe(*TAGGER, "--batch_size=3")
    assert "CharacterEncoder" in rows["characters"]
    assert re.search(r"activations\s[\d.]+\s[KM]B, optimizer\s[\d.]+\s[KM]B", out)


def test_the_vocabulary_is_asked_for(fails, workdir):
    line = fails("describe", *LM)
    assert line.endswith("LightningDataModule has no 'vocab_size'; or give --vocab_size")
    line = fails("describe", "--config=wikitext2/plain_small.yaml", "--data.dataset=null")
    assert line.endswith("; or give --vocab_size")
    assert fails("describe", *LM, "--length=0") == "--length is 0: it must be at least 1"
    assert fails("describe", *LM, "--vocab_siz=3").startswith("no option vocab_siz")


@pytest.mark.parametrize(
    "args",
    [
        ["--config=quickstart_g2p.yaml"],  # the data of this one come with the package
        ["--config=wikitext2/awd_lstm.yaml", "--vocab_size=33278"],  # logits in chunks
        ["--config=multi30k/bahdanau.yaml", "--vocab_size=90"],
    ],
    ids=lambda args: args[0],
)
def test_of_what_is_shipped(describe, args):
    out, rows = describe(*args)
    assert "all" in rows
    assert re.search(r"activations\s[\d.]+\s[KMG]B", out)


def test_memory_is_that_of_a_step():
    model = LanguageModel(100, partial(TokenEmbedding, embedding_size=8))
    costs = Costs(model, 3, 5)
    weights = sum(4 * p.numel() for p in model.parameters())
    assert costs.memory["weights"] == costs.memory["gradients"] == weights
    assert 2 * weights <= costs.memory["optimizer"] <= 2 * weights + 4 * len(list(model.parameters()))  # AdamW
    assert costs.memory["activations"] > 3 * 5 * 8 * 4


def test_activations_grow_with_the_batch():
    model = LanguageModel(100, partial(TokenEmbedding, embedding_size=8))
    one, four = (Costs(model, rows, 5).memory["activations"] for rows in (1, 4))
    assert 3.5 < four / one <= 4


def test_a_model_without_dry_loss_is_described_without_flops():
    from lightning_rnnattn.modules import SequenceModule

    class Plain(SequenceModule):
        def __init__(self):
            super().__init__()
            self.layer = torch.nn.Linear(2, 3)

        def step(self, batch, stage):
            raise AssertionError

    costs = Costs(Plain(), 2, 2)
    assert costs.flops is None
    assert costs.memory == {"weights": 36, "gradients": 36}
