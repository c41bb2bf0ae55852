import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lightning_rnnattn.data.corpus import FileCorpus
from lightning_rnnattn.data.files import MAX_LINE
from lightning_rnnattn.data.padded import pad
from lightning_rnnattn.data.rows import Rows
from lightning_rnnattn.data.sides import Both, Chosen, ListCorpus, Side
from lightning_rnnattn.errors import UserError
from lightning_rnnattn.tokenizers import BPETokenizer, CharTokenizer, WordTokenizer

LINE = st.text(st.characters(codec="utf-8", exclude_characters="\n"), max_size=12)


@pytest.mark.parametrize("spec", [CharTokenizer(), BPETokenizer(300)])
@settings(max_examples=25)
@given(lines=st.lists(LINE, min_size=1, max_size=8), data=st.data())
def test_a_row_is_its_line_and_its_end(tmp_path_factory, spec, lines, data):
    side = Side(ListCorpus(lines, "x"), lowercase=False, forgiving=False)
    tokenizer = spec.train(lines).with_eos()
    rows = Rows.of(side, tokenizer, tmp_path_factory.mktemp("cache"))
    indices = data.draw(st.lists(st.integers(0, len(lines) - 1), min_size=1, max_size=5))
    for some, chosen in ((rows, indices), (rows.select(np.array(indices)), range(len(indices)))):
        padded = some.padded(chosen)
        expected = pad([torch.tensor([*tokenizer.encode(lines[i].strip()), tokenizer.eos_id]) for i in indices])
        assert torch.equal(padded.values, expected.values)
        assert torch.equal(padded.lengths, expected.lengths)


def test_very_long_lines_are_whole(tmp_path):
    long = "ab " * (MAX_LINE // 2)
    path = tmp_path / "long.txt"
    path.write_text(f"a\n{long}\nb\n")
    side = Side(FileCorpus([path]), lowercase=False, forgiving=False)
    assert [(len(line.text), line.number) for line in side.lines()] == [(2, 1), (len(long), 2), (2, 3)]
    tokenizer = WordTokenizer().train(["a ab b"])
    assert Rows.of(side, tokenizer, tmp_path).lengths.tolist() == [2, MAX_LINE // 2 + 1, 2]


def test_some_lines_and_both_sides():
    first, second = (Side(ListCorpus(texts, name), False, False) for name, texts in (("x", "abc"), ("y", "de")))
    some = Chosen(first, np.array([True, False, True]))
    assert [line.text for line in Both(some, second).lines()] == ["a\n", "c\n", "d\n", "e\n"]
    assert [line.position for line in Both(first, second).lines()] == [1, 2, 3, 4, 5]
    prints = [first, second, some, Chosen(first, np.array([True, True, False])), Both(first, second)]
    assert len({each.fingerprint() for each in [*prints, Both(second, first), Side(first, True, False)]}) == 7


def test_a_side_is_one_line_or_nothing():
    texts = ["a\nb", "\udc80", " C "]
    with pytest.raises(UserError, match=r"x:1: the text has a newline inside"):
        list(Side(ListCorpus(texts, "x"), False, False).lines())
    assert [line.text for line in Side(ListCorpus(texts, "x"), True, True).lines()] == ["\n", "\n", "c\n"]
