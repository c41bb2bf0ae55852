"""Files that are no good checkpoints, by mistake or by malice: one line and exit code 2, whatever opens them."""

import pickle
import resource
from pathlib import Path

import pytest
import torch

from lightning_rnnattn.errors import UserError
from lightning_rnnattn.modules import load

COMMANDS = {
    "test": ["test", "--trainer.accelerator=cpu"],
    "predict": ["predict", "--trainer.accelerator=cpu", "--data.predict_files=text.txt"],
    "resume": ["fit", "--trainer.accelerator=cpu", "--trainer.max_steps=4"],
    "generate": ["generate", "--prompt=To", "--max_new_tokens=2"],
}


class Payload:
    """Runs code where it is unpickled without care."""

    def __reduce__(self):
        return (Path.touch, (Path("ran"),))


def argument(**changes):
    def change(checkpoint):
        checkpoint["hyper_parameters"] |= changes

    return change


def embedding(**changes):
    def change(checkpoint):
        checkpoint["hyper_parameters"]["input"]["init_args"] |= changes

    return change


def weight(name, make):
    def change(checkpoint):
        checkpoint["state_dict"][name] = make(checkpoint["state_dict"][name])

    return change


def without(*path):
    def change(checkpoint):
        *parents, last = path
        for parent in parents:
            checkpoint = checkpoint[parent]
        del checkpoint[last]

    return change


def both_huge(checkpoint):
    """Weights and arguments agree; the weights are one number, said to be many."""
    checkpoint["hyper_parameters"]["vocab_size"] = 10**12
    for name in ("input.embedding.weight", "output.weight", "output.bias"):
        shape = checkpoint["state_dict"][name].shape
        checkpoint["state_dict"][name] = torch.zeros(1).expand(10**12, *shape[1:])


HOSTILE = {
    "a payload beside the weights": lambda checkpoint: checkpoint.update(extra=Payload()),
    "a payload as a weight": weight("output.bias", lambda tensor: Payload()),
    "a class that runs code": argument(_class_path="os.system"),
    "a nested class that runs code": argument(rnn={"class_path": "evil.Network", "init_args": {}}),
    "a class as text": argument(optimizer="evil.Optimizer"),
    "a class that is none of a score": argument(
        attention={"class_path": "lightning_rnnattn.Attention", "init_args": {"score": "torch.nn.Linear"}}
    ),
    "an instantiator": argument(_instantiator="os.system"),
    "a wrong shape": weight("output.bias", lambda tensor: torch.zeros(3)),
    "a huge vocabulary": argument(vocab_size=10**12),
    "a huge embedding": embedding(embedding_size=10**12),
    "a huge network": argument(rnn={"class_path": "lightning_rnnattn.LSTM", "init_args": {"hidden_size": 10**9}}),
    "huge weights that are not there": both_huge,
    "a negative size": embedding(embedding_size=-3),
    "no weights": without("state_dict"),
    "a weight too few": without("state_dict", "output.bias"),
    "a weight too many": lambda checkpoint: checkpoint["state_dict"].update(extra=torch.zeros(3)),
    "weights that are no tensors": weight("output.bias", lambda tensor: [1.0, 2.0]),
    "a sparse weight": weight("output.bias", lambda tensor: tensor.to_sparse()),
    "no arguments": without("hyper_parameters"),
    "no size": without("hyper_parameters", "vocab_size"),
    "an argument that nobody knows": argument(typo=1),
    "an argument of another type": embedding(embedding_size="many"),
    "another vocabulary": lambda checkpoint: checkpoint.update(
        vocabularies={"tokenizer": '{"version": "1.0", "model": {"type": "Nothing"}}'}
    ),
    "a vocabulary that is no text": lambda checkpoint: checkpoint.update(vocabularies={"tokenizer": 7}),
    "arguments that are no mapping": lambda checkpoint: checkpoint.update(hyper_parameters=[1, 2]),
}


ELSEWHERE = ("no arguments", "no size", "an instantiator")
"""What training commands do not take from the checkpoint."""


@pytest.fixture
def hostile(checkpoint, workdir):
    """Writes the checkpoint of the tests with a change."""
    (workdir / "text.txt").write_text("To be or not to be\n" * 20)
    (workdir / "evil.py").write_text("import pathlib; pathlib.Path('ran').touch()")

    def write(change):
        contents = torch.load(checkpoint, weights_only=True)
        change(contents)
        torch.save(contents, "hostile.ckpt")

    return write


DEFAULT = (
    "a payload beside the weights",
    "a nested class that runs code",
    "a class as text",
    "a huge network",
    "huge weights that are not there",
    "another vocabulary",
    "no arguments",
)
"""The kinds of the default run."""


@pytest.mark.parametrize("what", [pytest.param(w, marks=() if w in DEFAULT else pytest.mark.slow) for w in HOSTILE])
def test_one_line(what, hostile, fails, workdir):
    hostile(HOSTILE[what])
    before = sorted(workdir.rglob("*"))
    # Enough to load what is right, several times; what is asked for in vain must not even be tried to get.
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    limits = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (used + (1 << 30), limits[1]))
    try:
        for name, command in COMMANDS.items():
            if what in ELSEWHERE and name != "generate":
                continue
            line = fails(*command, "--ckpt_path=hostile.ckpt")
            assert len(line) < 400, (name, line)
            assert "out of memory" not in line, (name, line)
        with pytest.raises(UserError):
            load("hostile.ckpt")
    finally:
        resource.setrlimit(resource.RLIMIT_AS, limits)
    assert sorted(workdir.rglob("*")) == before, "it ran, or left a folder"


@pytest.mark.parametrize(
    "command", [pytest.param(name, marks=() if name == "generate" else pytest.mark.slow) for name in COMMANDS]
)
def test_cut_at_every_tenth(command, checkpoint, fails, workdir):
    (workdir / "text.txt").write_text("To be or not to be\n" * 20)
    whole = Path(checkpoint).read_bytes()
    for tenth in range(10):
        Path("cut.ckpt").write_bytes(whole[: len(whole) * tenth // 10])
        line = fails(*COMMANDS[command], "--ckpt_path=cut.ckpt")
        assert line.startswith("cut.ckpt: not a checkpoint that can be opened safely")


def test_a_bare_pickle(fails, workdir):
    with open("bare.ckpt", "wb") as file:
        pickle.dump({"state_dict": {}, "payload": Payload()}, file)
    assert "not a checkpoint" in fails("test", "--ckpt_path=bare.ckpt")
    assert not Path("ran").exists()
