import dataclasses
import gzip
import json
import os
from collections.abc import Iterable
from itertools import chain
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lightning_rnnattn.data.files import read_lines
from lightning_rnnattn.errors import UserError
from lightning_rnnattn.tokenizers import (
    BPETokenizer,
    CharTokenizer,
    Tokenizer,
    TokenizerFile,
    TokenizerSpec,
    WordTokenizer,
)

ODD = "a\tb\n\n e\u0301 İß 日本 🙂 \u2028 <unk> <eos> it's  x\r\n"
TEXTS = st.text(st.characters(codec="utf-8"), min_size=1)


@pytest.mark.parametrize("spec", [CharTokenizer(), CharTokenizer(unk=True), BPETokenizer(300)])
def test_decode_undoes_encode(spec):
    tokenizer = spec.train(ODD.splitlines(keepends=True))
    assert tokenizer.decode(tokenizer.encode(ODD)) == ODD


@pytest.mark.parametrize("spec", [CharTokenizer(), BPETokenizer(300)])
@settings(deadline=None, max_examples=50)
@given(text=TEXTS)
def test_decode_undoes_encode_for_any_text(spec, text):
    tokenizer = spec.train([text])
    assert tokenizer.decode(tokenizer.encode(text)) == text


@pytest.mark.parametrize("spec", [CharTokenizer(), CharTokenizer(unk=True), WordTokenizer(), BPETokenizer(300)])
def test_json_is_the_whole_tokenizer(spec):
    tokenizer = spec.train([ODD])
    again = Tokenizer.from_str(tokenizer.to_str())
    assert again == tokenizer
    assert hash(again) == hash(tokenizer)
    assert again.encode(ODD) == tokenizer.encode(ODD)
    assert again.decode(again.encode(ODD)) == tokenizer.decode(tokenizer.encode(ODD))
    assert (again.vocab_size, again.unk_id, again.eos_id) == (tokenizer.vocab_size, tokenizer.unk_id, tokenizer.eos_id)


@pytest.mark.parametrize("spec", [CharTokenizer(), WordTokenizer(), BPETokenizer(300)])
def test_training_again_gives_the_same(spec):
    lines = [f"{word} {i % 7}\n" for i, word in enumerate(["the", "cat", "sat", "on", "the", "mat"] * 50)]
    assert spec.train(lines) == spec.train(iter(lines))


def test_characters_are_in_the_order_of_their_code_points():
    assert CharTokenizer().train(["ba\n", "c"]).encode("\nabc") == [0, 1, 2, 3]
    assert CharTokenizer(unk=True).train(["ba"]).encode("abz") == [1, 2, 0]


def test_words_are_in_the_order_of_their_frequency():
    tokenizer = WordTokenizer().train(["b a <unk> a\n", "\n", "c c c\n"])
    assert tokenizer.tokens(range(tokenizer.vocab_size)) == ["<unk>", "\n", "c", "a", "b"]
    assert (tokenizer.unk_id, tokenizer.eos_id, tokenizer.pad_id) == (0, 1, None)


def test_words_by_count_and_size():
    lines = ["a a a b b c\n"]
    assert WordTokenizer(min_count=2).train(lines).encode("a b c\n") == [2, 3, 0, 1]
    assert WordTokenizer(max_size=3).train(lines).encode("a b c\n") == [2, 0, 0, 1]
    assert WordTokenizer(eos=False).train(lines).encode("a\nb\n") == [1, 2]


def test_more_words_join_the_vocabulary(tmp_path):
    vectors = tmp_path / "vectors.txt"
    vectors.write_bytes(b"4 2\nc 0.1 0.2\na 0.3 0.4\n<unk> 0 0\nnew york 1 2\n\xff 1 2\nd 0.5 0.6\n")
    tokenizer = WordTokenizer(min_count=2, more_words=str(vectors)).train(["a a b\n"])
    assert tokenizer.tokens(range(tokenizer.vocab_size)) == ["<unk>", "\n", "a", "c", "d"]
    (tmp_path / "list.gz").write_bytes(gzip.compress(b"c\nd\n\nc\n"))
    tokenizer = WordTokenizer(eos=False, max_size=3, more_words=str(tmp_path / "list.gz")).train(["a\n"])
    assert tokenizer.tokens(range(tokenizer.vocab_size)) == ["<unk>", "a", "c"]
    with pytest.raises(UserError, match=r"nowhere\.txt: cannot read"):
        WordTokenizer(more_words="nowhere.txt").train(["a\n"])


def test_words_come_back_line_by_line():
    tokenizer = WordTokenizer().train(["a b\n"])
    assert tokenizer.decode(tokenizer.encode("\n  a   b\n\nb zz\n")) == "\na b\n\nb <unk>\n"
    assert tokenizer.decode(tokenizer.encode("a b")) == "a b"


@settings(deadline=None, max_examples=50)
@given(text=TEXTS)
def test_bpe_of_lines_is_bpe_of_the_text(text):
    tokenizer = BPETokenizer(280, min_count=1).train(["\n\n  to be  or not\n\n", text])
    lines = text.split("\n")
    lines = [line + "\n" for line in lines[:-1]] + lines[-1:]
    assert list(chain.from_iterable(tokenizer.encode_batch(lines))) == tokenizer.encode(text)


@pytest.mark.parametrize("spec", [CharTokenizer(), BPETokenizer(300)])
def test_num_chars_add_up_to_the_text(spec):
    tokenizer = spec.train([ODD])
    assert tokenizer.num_chars.shape == (tokenizer.vocab_size,)
    assert tokenizer.num_chars[tokenizer.encode(ODD)].sum() == len(ODD)


@pytest.mark.parametrize("spec", [CharTokenizer(), CharTokenizer(unk=True), BPETokenizer(300), WordTokenizer()])
@pytest.mark.parametrize("texts", [["to be .\n", "or not to be .\n"], ["to be .", "or not to be ."]])
def test_the_end_of_a_line_is_a_token_that_is_the_newline(spec, texts):
    before = spec.train(texts)
    tokenizer = Tokenizer.from_str(before.with_eos().to_str())
    end = tokenizer.eos_id
    assert tokenizer.with_eos() is tokenizer
    assert tokenizer.bos_id == end
    for line in ("to be", "or be .", ""):
        ids = tokenizer.encode(line)
        assert ids == before.encode(line)
        assert end not in ids
        assert tokenizer.encode(line + "\n") == [*ids, end]
        assert tokenizer.decode(ids) == line
        assert tokenizer.decode([*ids, end, *ids, end]) == f"{line}\n{line}\n"
    assert tokenizer.tokens([end]) == ["\n"]
    assert before.eos_id == (end if spec == WordTokenizer() else None)


@pytest.mark.parametrize("spec", [CharTokenizer(), BPETokenizer(300)])
@settings(deadline=None, max_examples=50)
@given(text=TEXTS)
def test_only_the_newline_ends_a_line(spec, text):
    tokenizer = spec.train([text]).with_eos()
    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids) == text
    assert ids.count(tokenizer.eos_id) == text.count("\n")
    assert tokenizer.num_chars[ids].sum() == len(text)


def test_a_beginning_of_its_own():
    import tokenizers

    words = {"<s>": 0, "</s>": 1, "<unk>": 2}
    model = tokenizers.Tokenizer(tokenizers.models.WordLevel(words, unk_token="<unk>"))
    assert (Tokenizer(model).bos_id, Tokenizer(model).eos_id) == (0, 1)


@pytest.mark.parametrize("spec", [CharTokenizer(unk=True), WordTokenizer()])
def test_num_chars_unknown(spec):
    assert spec.train([ODD]).num_chars is None


def test_unseen_character_is_named():
    tokenizer = CharTokenizer().train(["abc"])
    with pytest.raises(UserError, match=r"character 'é' \(U\+00E9\) is not in the vocabulary.*unk: true"):
        tokenizer.encode("abé")
    with pytest.raises(UserError, match=r"character 'B'.*: write 'b', which is, or remove it"):
        tokenizer.encode("aB")
    with pytest.raises(UserError, match="not valid Unicode"):
        tokenizer.encode("a\udc80")


def test_tensors_decode():
    import torch

    tokenizer = CharTokenizer().train(["abc"])
    assert tokenizer.decode(torch.tensor([2, 0])) == "ca"


def test_file(tmp_path):
    tokenizer = BPETokenizer(300).train([ODD])
    path = tmp_path / "tokenizer.json"
    path.write_text(tokenizer.to_str())
    assert TokenizerFile(str(path)).train(()) == tokenizer
    with pytest.raises(UserError, match=r"data.tokenizer.path: cannot read"):
        TokenizerFile(str(tmp_path / "none.json")).train(())
    path.write_text("{}")
    with pytest.raises(UserError, match=r"not a tokenizer of HF"):
        TokenizerFile(str(path)).train(())


def test_options_out_of_range():
    with pytest.raises(UserError, match="at least 256"):
        BPETokenizer(100)
    with pytest.raises(UserError, match="max_size"):
        WordTokenizer(max_size=2)


@dataclasses.dataclass(frozen=True)
class UpperTokenizer(TokenizerSpec):
    unk: bool = True

    def train(self, texts: Iterable[str]) -> Tokenizer:
        return CharTokenizer(self.unk).train(text.upper() for text in texts)


def test_specification_of_a_users_own_is_plain():
    spec = UpperTokenizer(unk=False).to_spec()
    assert spec == {"class_path": f"{__name__}.UpperTokenizer", "init_args": {"unk": False}}
    assert json.loads(json.dumps(spec)) == spec


@pytest.mark.slow
def test_wikitext_2_has_the_published_sizes():
    folder = Path(os.environ.get("LIGHTNING_RNNATTN_DATA", "")) / "wikitext-2"
    if not folder.is_dir() or "LIGHTNING_RNNATTN_DATA" not in os.environ:
        pytest.skip("set LIGHTNING_RNNATTN_DATA to a folder with wikitext-2/{train,valid,test}.txt.gz")
    lines = {
        split: [line.text for line in read_lines(folder / f"{split}.txt.gz")] for split in ("train", "valid", "test")
    }
    tokenizer = WordTokenizer().train(lines["train"])
    assert tokenizer.vocab_size == 33_278
    counts = {split: sum(map(len, tokenizer.encode_batch(texts))) for split, texts in lines.items()}
    assert counts == {"train": 2_088_628, "valid": 217_646, "test": 245_569}
