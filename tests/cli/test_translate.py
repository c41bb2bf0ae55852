"""`lightning_rnnattn translate`."""

import io
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from lightning_rnnattn import load
from lightning_rnnattn.cli import main

TEXT = "ab cde\nghij\n\nf\n  jef ab \n \nabc f\ncde cde"


@pytest.fixture
def translate(translator, capsys, monkeypatch):
    """Runs it on a text and gives what it writes."""

    def run(*args, text=TEXT):
        capsys.readouterr()
        data = text if isinstance(text, bytes) else text.encode()
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(data)))
        main(["translate", f"--ckpt_path={translator}", *args])
        out, err = capsys.readouterr()
        assert err == ""  # no progress where nobody looks
        return out

    return run


def test_a_line_for_each_line_in_order(translate):
    lines = translate().split("\n")
    assert len(lines) == 9
    assert lines[-1] == ""  # the last line ends, too
    assert [bool(line) for line in lines[:-1]] == [True, True, False, True, True, False, True, True]


def test_the_batch_and_the_companions_do_not_matter(translate):
    together = translate()
    assert translate("--batch_size=1") == together
    assert translate("--batch_size=3") == together
    first = TEXT.split("\n")[0]
    assert translate(text=first) == together.split("\n")[0] + "\n"


def test_windows_lines_and_none_at_all(translate):
    assert translate(text="\ufeff" + TEXT.replace("\n", "\r\n")) == translate()
    assert translate(text="") == ""


def test_a_beam_of_one_is_the_models_own_greedy_search(translate, translator):
    model = load(translator)
    source = [*model.source_tokenizer.encode("ghij"), model.source_tokenizer.eos_id]
    [[best]] = model.decode(torch.tensor([source]), torch.tensor([5]))
    assert translate("--beam_size=1", text="ghij") == model.text(best.tokens) + "\n"


def test_nbest_with_scores(translate):
    rows = [line.split("\t") for line in translate("--nbest=3", text="ab cde\n\nf\n").splitlines()]
    assert [number for number, _, _ in rows] == ["1"] * 3 + ["2"] + ["3"] * 3
    assert rows[3] == ["2", "0.000000", ""]
    assert float(rows[0][1]) > float(rows[1][1]) > float(rows[2][1])
    assert rows[0][2] == translate(text="ab cde").strip()


def test_the_limits_of_the_search(translate):
    assert len(translate("--max_length=3", "--min_length=3", text="ghij").strip("\n")) == 3
    assert len(translate("--max_ratio=0.5", text="ghij").strip()) <= 3
    long = translate("--min_length=20", "--no_repeat_ngram=1", text="ghij").strip("\n")
    assert len(set(long)) == len(long)


def test_in_8_bits_it_is_nearly_the_same(translate):
    exact, rounded = translate("--nbest=1").splitlines(), translate("--nbest=1", "--int8").splitlines()
    assert exact != rounded
    for one, other in zip(exact, rounded, strict=True):
        assert float(one.split("\t")[1]) == pytest.approx(float(other.split("\t")[1]), abs=0.05)


def test_alignments(translate, workdir):
    lines = translate("--alignments=made/out.jsonl").splitlines()
    records = [json.loads(line) for line in Path("made/out.jsonl").read_text().splitlines()]
    assert [record["line"] for record in records] == [1, 2, 4, 5, 7, 8]
    for record in records:
        assert "".join(record["target"]) == lines[record["line"] - 1]
        weights = torch.tensor(record["weights"])
        assert weights.shape == (len(record["target"]), len(record["source"]))
        torch.testing.assert_close(weights.sum(-1), torch.ones(len(weights)), atol=1e-4, rtol=0)
    assert "".join(records[3]["source"]) == "jef ab\n"  # the end of the line is read, too


def test_text_is_lowered_where_the_data_was(translator, translate, tmp_path, monkeypatch):
    checkpoint = torch.load(translator, weights_only=True)
    checkpoint["datamodule_hyper_parameters"]["lowercase"] = True
    torch.save(checkpoint, tmp_path / "lower.ckpt")
    assert translate(f"--ckpt_path={tmp_path / 'lower.ckpt'}", text="GhIj") == translate(text="ghij")
    pages = []
    for path, text in ((tmp_path / "lower.ckpt", "GhIj"), (translator, "ghij")):
        main(["inspect", f"--ckpt_path={path}", f"--input={text}", f"--output={tmp_path / 'made' / 'page.html'}"])
        pages.append((tmp_path / "made" / "page.html").read_text().replace(str(path), ""))
    assert pages[0] == pages[1]


def test_data_that_are_read_otherwise_than_the_weights_were_trained(translator, tmp_path):
    checkpoint = torch.load(translator, weights_only=True)
    checkpoint["datamodule_hyper_parameters"]["lowercase"] = True
    torch.save(checkpoint, tmp_path / "lower.ckpt")
    (tmp_path / "pairs.tsv").write_text("source\ttarget\nab\tab\n")
    test = ["test", f"--ckpt_path={tmp_path / 'lower.ckpt'}", "--trainer.accelerator=cpu", "--data=PairTableDataModule",
            f"--data.test_files={tmp_path / 'pairs.tsv'}"]  # fmt: skip
    with pytest.warns(UserWarning, match="data.lowercase is false, but the checkpoint's model knows"):
        main(test)
    with pytest.warns(UserWarning, match="--data.source_tokenizer changes nothing"):
        main([*test, "--data.lowercase=true", "--data.source_tokenizer=WordTokenizer"])


@pytest.mark.parametrize(
    ("args", "text", "line"),
    [
        ([], b"ab\ncd\xff\n", "standard input:2: not UTF-8 (invalid start byte at byte 2)"),
        ([], b"ab\n\nxyz\n", "standard input:3: character 'x'"),
        (["--nbest=6"], b"", "nbest=6 must lie between 1 and beam_size=5"),
        (["--beam_size=0"], b"", "beam_size=0"),
        (["--batch_size=0"], b"", "--batch_size is 0: it must be at least 1"),
        (["--beams=3"], b"", "no option --beams=3; did you mean --beam_size?"),
        (["--alignments=/dev/null/x.jsonl"], b"", "--alignments /dev/null/x.jsonl: "),
        (["--device=foo"], b"", "--device foo: "),
    ],
)
def test_mistakes(fails, translator, monkeypatch, args, text, line):
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(text)))
    assert line in fails("translate", f"--ckpt_path={translator}", *args)


def test_other_models_say_so(fails, checkpoint):
    assert fails("translate", f"--ckpt_path={checkpoint}").endswith("LanguageModel cannot translate")


@pytest.mark.slow
def test_a_reader_that_has_enough_is_no_error(translator):
    command = [sys.executable, "-m", "lightning_rnnattn", "translate", "--ckpt_path", translator, "--batch_size=1"]
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    process.stdout.close()
    _, err = process.communicate("ab\n" * 200)
    assert err == ""
