"""A trained tokenizer."""

import functools
import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import tokenizers
import torch
from tokenizers import pre_tokenizers
from torch import Tensor

from lightning_rnnattn.errors import UserError

_BOS_NAMES = ("<bos>", "<s>")
_EOS_NAMES = ("<eos>", "</s>", "<|endoftext|>")
_NEWLINE = "\n"  # ends lines as a special token, where `with_eos` has added it: nothing in a line is taken for it
_PAD_NAMES = ("<pad>", "[PAD]")


class Tokenizer:
    """A trained tokenizer: text to token ids and back, by a tokenizer of HF ``tokenizers``.

    All that it knows is in the JSON of :meth:`to_str`, so that ``Tokenizer.from_str(t.to_str()) == t``.

    Args:
        model: the trained tokenizer. Padding, truncation and templates of special tokens are not used.

    Example:
        >>> from lightning_rnnattn.tokenizers import CharTokenizer
        >>> tokenizer = CharTokenizer().train(["to be or not to be"])
        >>> tokenizer.decode(tokenizer.encode("not to be"))
        'not to be'
    """

    def __init__(self, model: tokenizers.Tokenizer) -> None:
        model.no_padding()
        model.no_truncation()
        self._model = model

    @classmethod
    def from_str(cls, text: str) -> "Tokenizer":
        """The tokenizer that :meth:`to_str` wrote.

        Raises:
            UserError: if ``text`` is not the JSON of a tokenizer.
        """
        try:
            return cls(tokenizers.Tokenizer.from_str(text))
        except Exception as error:  # HF raises bare Exceptions
            raise UserError(f"not a tokenizer of HF `tokenizers`: {error}") from error

    def to_str(self) -> str:
        """The whole tokenizer as JSON."""
        return self._model.to_str()

    def with_eos(self) -> "Tokenizer":
        r"""The tokenizer with a token that ends a line, the newline: itself, or one token larger if it has none.

        Then ``encode(line + "\n")`` is ``encode(line)`` and `eos_id`, which is decoded to the newline.
        """
        if self.eos_id is not None:
            return self
        larger = tokenizers.Tokenizer.from_str(self.to_str())
        larger.add_special_tokens([_NEWLINE])
        return Tokenizer(larger)

    @functools.cached_property
    def vocab_size(self) -> int:
        """The size V of the vocabulary: every id is below it."""
        return 1 + max(self._model.get_vocab().values())

    @property
    def unk_id(self) -> int | None:
        """The id that stands for what the vocabulary lacks."""
        name = self._json["model"].get("unk_token")
        return None if name is None else self._model.token_to_id(name)

    @property
    def eos_id(self) -> int | None:
        """The id that ends a sentence or, in a stream, a line; `with_eos` sees to it that there is one."""
        special = {token["content"] for token in self._json["added_tokens"] if token["special"]}
        return self._first_id([*_EOS_NAMES, *special.intersection([_NEWLINE])])

    @property
    def bos_id(self) -> int | None:
        """The id that a decoder reads first; the end of a sentence begins the next where there is none of its own."""
        bos = self._first_id(_BOS_NAMES)
        return self.eos_id if bos is None else bos

    @property
    def pad_id(self) -> int | None:
        """The id that fills short rows."""
        return self._first_id(_PAD_NAMES)

    def encode(self, text: str) -> list[int]:
        """The ids of ``text``; nothing is added before or after it.

        Raises:
            UserError: if a character (or a word) is not in the vocabulary and there is no token for the unknown.
        """
        return self.encode_batch([text])[0]

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """The ids of each text, as of :meth:`encode`, on all cores."""
        try:
            return [encoding.ids for encoding in self._model.encode_batch_fast(texts, add_special_tokens=False)]
        except Exception as error:  # HF raises bare Exceptions, which do not say what was unseen
            raise UserError(next(self._reasons(texts), f"the tokenizer cannot encode the text: {error}")) from error

    def ids(self, tokens: Iterable[str]) -> list[int]:
        """The id of each text as one token, whole; `unk_id` where it is none.

        Raises:
            UserError: if one is no token and there is none for the unknown.
        """
        found, unknown = [], self.unk_id
        for token in tokens:
            i = self._model.token_to_id(token)
            i = unknown if i is None else i
            if i is None:
                raise UserError(f"{token!r} is not in the vocabulary, which has no token for the unknown")
            found.append(i)
        return found

    def decode(self, ids: Iterable[int]) -> str:
        """The text of ``ids`` (integers, or a tensor of them)."""
        return self._model.decode([int(i) for i in ids], skip_special_tokens=False)

    def tokens(self, ids: Iterable[int]) -> list[str]:
        """The text of each id on its own."""
        return [self.decode([i]) for i in ids]

    def pieces(self, text: str) -> list[str]:
        """The part of ``text`` that each token of :meth:`encode` stands for: of an unknown word, the word itself.

        Where several tokens of bytes make one character, the first of them has it, and the others have nothing.
        """
        pieces, place = [], 0
        for start, end in self._model.encode(text, add_special_tokens=False).offsets:
            pieces.append(text[max(start, place) : end])
            place = max(place, end)
        return pieces

    @functools.cached_property
    def num_chars(self) -> Tensor | None:
        """How many characters each token stands for, (V,) int64: what bits per character are divided by.

        None where a token does not say: a word may have had any white space around it, ``<unk>`` any length. A token of
        bytes stands for the characters that begin in it, so that the sum over a text is right wherever it is cut.
        """
        decoder = (self._json.get("decoder") or {}).get("type")
        if self.unk_id is not None or decoder not in ("Fuse", "ByteLevel"):
            return None
        added = {token["content"] for token in self._json["added_tokens"]}
        count = torch.zeros(self.vocab_size, dtype=torch.int64)
        for token, i in self._model.get_vocab().items():
            count[i] = len(token) if decoder == "Fuse" or token in added else _first_bytes(token)
        return count

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Tokenizer) and self.to_str() == other.to_str()

    def __hash__(self) -> int:
        return hash(self.to_str())

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._json['model']['type']}, vocab_size={self.vocab_size})"

    @functools.cached_property
    def _json(self) -> dict[str, Any]:
        content: dict[str, Any] = json.loads(self.to_str())
        return content

    def _first_id(self, names: Iterable[str]) -> int | None:
        return next((i for name in names if (i := self._model.token_to_id(name)) is not None), None)

    def _reasons(self, texts: Iterable[str]) -> Iterator[str]:
        """Why each of the texts cannot be encoded."""
        for text in texts:
            if any("\ud800" <= character <= "\udfff" for character in text):
                yield "the text is not valid Unicode: it has lone surrogates (bytes that were not UTF-8)"
                continue
            normalizer, splitter = self._model.normalizer, self._model.pre_tokenizer
            normalized = text if normalizer is None else normalizer.normalize_str(text)
            for piece, _ in splitter.pre_tokenize_str(normalized) if splitter is not None else [(normalized, None)]:
                if self._model.token_to_id(piece) is None:
                    what = f"character {piece!r} (U+{ord(piece):04X})" if len(piece) == 1 else f"token {piece!r}"
                    known = next((x for x in (piece.upper(), piece.lower()) if self._model.token_to_id(x)), None)
                    hint = "remove it, train on text that has it, or use CharTokenizer with unk: true"
                    yield (
                        f"{what} is not in the vocabulary, which has no token for the unknown: "
                        + (f"write {known!r}, which is, or {hint}" if known else hint)
                    )


@functools.cache
def _continuation_bytes() -> frozenset[str]:
    """What UTF-8's continuation bytes, 0x80 to 0xBF, look like in the byte-level alphabet."""
    # Each of these characters is the byte 0xC2 and its own number.
    text = "".join(map(chr, range(0x80, 0xC0)))
    [(letters, _)] = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False).pre_tokenize_str(text)
    return frozenset(letters[1::2])


def _first_bytes(token: str) -> int:
    """How many characters begin in a token of the byte-level alphabet."""
    return sum(letter not in _continuation_bytes() for letter in token)
