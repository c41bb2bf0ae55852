"""`lightning_rnnattn generate`."""

import io

import pytest

from lightning_rnnattn import Int8Linear, UserError
from lightning_rnnattn.cli import main
from lightning_rnnattn.cli.generate import SEPARATOR


@pytest.fixture
def generate(checkpoint, capsys):
    """Runs it on the small model and gives the texts."""

    def run(*args):
        capsys.readouterr()
        main(["generate", f"--ckpt_path={checkpoint}", "--max_new_tokens=6", *args])
        return capsys.readouterr().out.removesuffix("\n").split(SEPARATOR)

    return run


def test_continues_the_prompt(generate):
    (text,) = generate("--prompt=ROMEO:")
    assert text.startswith("ROMEO:")
    assert len(text) == len("ROMEO:") + 6


def test_batched_equals_one_by_one(generate):
    prompts = ["--prompt=ROMEO:", "--prompt=To be, or", "--prompt=a"]
    together = generate(*prompts, "--seed=3")
    assert together == generate(*prompts, "--seed=3", "--batch_size=2")
    assert together == [generate(prompt, f"--seed={3 + i}")[0] for i, prompt in enumerate(prompts)]


def test_temperature_zero_is_greedy_whatever_the_seed(generate):
    assert generate("--prompt=To", "--temperature=0") == generate("--prompt=To", "--temperature=0", "--seed=9")
    assert generate("--prompt=To", "--temperature=0") == generate("--prompt=To", "--top_k=1")
    assert generate("--prompt=To", "--temperature=0") == generate("--prompt=To", "--top_p=1e-9")


def test_in_8_bits(generate, fails, checkpoint, monkeypatch):
    (rounded,) = generate("--int8", "--prompt=To be", "--max_new_tokens=9", "--temperature=0")
    assert [rounded] == generate("--int8", "--prompt=To be", "--max_new_tokens=9", "--temperature=0")
    assert rounded.startswith("To be")
    monkeypatch.setattr(Int8Linear, "__init__", _refuse)
    line = fails("generate", f"--ckpt_path={checkpoint}", "--int8", "--prompt=To be")
    assert line == "--int8: this build of torch has no products in 8 bits"


def _refuse(self, linear):
    raise UserError("this build of torch has no products in 8 bits")


def test_samples_differ(generate):
    first, second = generate("--prompt=To", "--num_samples=2")
    assert first != second


def test_prompts_from_standard_input(generate, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"\xef\xbb\xbfROMEO:\r\n\nTo be\n\n")))
    from_stdin = generate()  # empty lines are no prompts
    assert from_stdin == generate("--prompt=ROMEO:", "--prompt=To be")


@pytest.mark.parametrize(
    ("args", "line"),
    [
        (["--prompt=Ω"], "character 'Ω'"),
        (["--prompt="], "prompt"),
        (["--prompt=a", "--temperature=-1"], "temperature"),
        (["--prompt=a", "--max_new_token=3"], "no option --max_new_token=3; did you mean --max_new_tokens?"),
        (["--prompt=a", "--top_k=x"], "--top_k: invalid int value: 'x'"),
        (["--prompt=a", "--num_samples=0"], "--num_samples is 0: it must be at least 1"),
        (["--prompt=a", "--device=foo"], "--device foo: "),
        (["--prompt=a", "--device=meta"], "--device meta: "),
    ],
)
def test_mistakes(fails, checkpoint, args, line):
    assert line in fails("generate", f"--ckpt_path={checkpoint}", *args)


def test_no_checkpoint(fails):
    assert fails("generate", "--prompt=a") == "the following arguments are required: --ckpt_path"
    assert fails("generate", "--ckpt_path=nowhere.ckpt", "--prompt=a") == "nowhere.ckpt: no such checkpoint file"


def test_a_prompt_that_is_not_utf8(fails, checkpoint, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"To\ncaf\xe9\n")))
    line = fails("generate", f"--ckpt_path={checkpoint}")
    assert line == "standard input:2: not UTF-8 (invalid continuation byte at byte 3)"


@pytest.mark.parametrize("text", ["", "\n\n"])
def test_no_prompt(fails, checkpoint, monkeypatch, text):
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(text.encode())))
    assert fails("generate", f"--ckpt_path={checkpoint}").startswith("nothing to continue")
