"""Pairs of a source and a target, wherever they come from."""

from abc import abstractmethod
from collections.abc import Iterable
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from lightning.pytorch.utilities import rank_zero_info

from lightning_rnnattn.data.cache import default_cache_dir
from lightning_rnnattn.data.corpus import Corpus
from lightning_rnnattn.data.examples import ExampleDataModule, Split
from lightning_rnnattn.data.pair_batch import PairExamples, PairText
from lightning_rnnattn.data.rows import Rows
from lightning_rnnattn.data.sides import Both, Chosen, Side
from lightning_rnnattn.data.streams import train_tokenizer
from lightning_rnnattn.errors import UserError, require_at_least_one
from lightning_rnnattn.tokenizers import BPETokenizer, Tokenizer, TokenizerSpec

Corpora = tuple[Corpus, Corpus | None]
"""The sources of a split and their targets; None where there is nothing but sources."""


class BasePairDataModule(ExampleDataModule):
    """The base of data modules with pairs: line n of one text belongs to line n of the other.

    A subclass says where the texts of a split come from. Each is encoded once, to a file in ``cache_dir`` that is
    mapped into memory, and is found again by its content. White space around a line is no part of it.

    Pairs with an empty side, with bytes that are not UTF-8, or longer than ``max_length`` are an error, or are left out
    and counted. In prediction every line is kept: there are as many predictions as lines.

    Args:
        source_tokenizer: how to make the sources' tokenizer; one that has no token for the end of a line gets one.
        target_tokenizer: how to make the targets', likewise; null for one vocabulary, learnt from both.
        lowercase: whether everything is read in lower case, references included.
        max_length: the most tokens of a source or a target, the end of the line not counted; null is no limit. By
            default more than sentences have: one line that is a whole book would take the memory of many batches.
        skip: whether pairs that cannot be used are left out, and how many is logged.
        cache_dir: where encoded text is kept; null is ``$LIGHTNING_RNNATTN_CACHE`` or ``~/.cache/lightning_rnnattn``.
        options: see `ExampleDataModule`.
    """

    def __init__(
        self,
        *,
        source_tokenizer: TokenizerSpec = BPETokenizer(),  # noqa: B008  (frozen)
        target_tokenizer: TokenizerSpec | None = None,
        lowercase: bool = False,
        max_length: int | None = 1024,
        skip: bool = False,
        cache_dir: str | None = None,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        require_at_least_one("data.", max_length=max_length)
        self.source_spec, self.target_spec = source_tokenizer, target_tokenizer
        self.lowercase, self.max_length, self.skip = lowercase, max_length, skip
        self.cache_dir = default_cache_dir() if cache_dir is None else Path(cache_dir).expanduser()
        self._source_tokenizer: Tokenizer | None = None
        self._target_tokenizer: Tokenizer | None = None

    @abstractmethod
    def corpora(self, split: Split) -> Corpora:
        """The texts of a split that `has` says there is.

        Raises:
            UserError: if files are missing.
        """

    def references(self, split: Split, targets: Corpus) -> Iterable[tuple[str, ...]]:
        """What is right for each line of a split; override it where that is more than one text."""
        return ((line.text[:-1],) for line in targets.lines())

    def errors(self, split: Split) -> str:
        """How bytes that are not UTF-8 are read, as of ``bytes.decode``."""
        return "surrogateescape" if self._forgives(split) else "strict"

    @property
    def source_tokenizer(self) -> Tokenizer:
        """The sources' tokenizer, learnt from the training text when it is first asked for, or found in the cache.

        Raises:
            UserError: if there is no training text, and none was set.
        """
        if self._source_tokenizer is None:
            self._source_tokenizer = self._learnt(self.source_spec, "source_tokenizer")
        return self._source_tokenizer

    @source_tokenizer.setter
    def source_tokenizer(self, tokenizer: Tokenizer) -> None:
        self._source_tokenizer = tokenizer
        self._examples.clear()

    @property
    def target_tokenizer(self) -> Tokenizer:
        """The targets' tokenizer, likewise; the sources' own where there is one vocabulary."""
        if self._target_tokenizer is None:
            if self.target_spec is None:
                return self.source_tokenizer
            self._target_tokenizer = self._learnt(self.target_spec, "target_tokenizer")
        return self._target_tokenizer

    @target_tokenizer.setter
    def target_tokenizer(self, tokenizer: Tokenizer) -> None:
        self._target_tokenizer = self._source_tokenizer if tokenizer == self._source_tokenizer else tokenizer
        self._examples.clear()

    @property
    def source_vocab_size(self) -> int:
        """The number of tokens that a source may have."""
        return self.source_tokenizer.vocab_size

    @property
    def target_vocab_size(self) -> int:
        """The number of tokens that a target may have."""
        return self.target_tokenizer.vocab_size

    def encode(self, split: Split) -> PairExamples:
        """See `ExampleDataModule.encode`."""
        whole: Split = "train" if split == "val" and self.is_cut else split
        source_side, target_side = self._sides(whole)
        source = Rows.of(source_side, self.source_tokenizer, self.cache_dir)
        keep = self.part(split, len(source), source_side.name)
        target = None
        if target_side is not None:
            target = Rows.of(target_side, self.target_tokenizer, self.cache_dir)
            keep = self._usable(split, keep, [(source_side, source), (target_side, target)])
        texts = None
        if split != "train":
            sources = (line.text[:-1] for line in source_side.lines())
            answers = ((),) * len(source) if target_side is None else self.references(whole, target_side)
            kept = set(keep.tolist())
            pairs = enumerate(zip(sources, answers, strict=True))
            texts = [PairText(text, references) for n, (text, references) in pairs if n in kept]
        return PairExamples(source.select(keep), None if target is None else target.select(keep), texts)

    def _forgives(self, split: Split) -> bool:
        return self.skip and split != "predict"

    def _sides(self, split: Split) -> tuple[Side, Side | None]:
        side = partial(Side, lowercase=self.lowercase, forgiving=self._forgives(split))
        source, target = self.corpora(split)
        return side(source), None if target is None else side(target)

    def _learnt(self, spec: TokenizerSpec, name: str) -> Tokenizer:
        if not spec.needs_text:
            return spec.train(()).with_eos()
        if not self.has("train"):
            raise UserError(
                f"there is no text to learn the {name.replace('_', ' ')} from: give {self.ways['train']}, or a"
                f" checkpoint's (in Python: data.{name} = model.{name})"
            )
        return train_tokenizer(spec, self._training(name), self.cache_dir, of_lines=True)

    def _training(self, name: str) -> Corpus:
        """The text that a tokenizer is learnt from: what is validated on is no part of it."""
        source, target = self._sides("train")
        assert target is not None
        sides: list[Corpus] = [source, target]
        if self.is_cut:
            count = sum(1 for _ in source.lines())
            chosen = np.isin(np.arange(count), self.part("train", count, source.name))
            sides = [Chosen(source, chosen), Chosen(target, chosen)]
        if self.target_spec is None:
            return Both(*sides)
        return sides[name == "target_tokenizer"]

    def _usable(
        self, split: Split, indices: npt.NDArray[np.int64], sides: list[tuple[Side, Rows]]
    ) -> npt.NDArray[np.int64]:
        """Those of some pairs that are fit to be used.

        Raises:
            UserError: if the sides have different numbers of lines, or there are unfit pairs that are not to be left
                out: naming the first.
        """
        (shorter, fewer), (longer, more) = sorted(sides, key=lambda side: len(side[1]))
        if len(fewer) < len(more):
            raise UserError(
                f"{_place(longer, len(fewer))}: the line has no counterpart: {longer.name} has {len(more)} lines,"
                f" {shorter.name} has {len(fewer)}"
            )
        lengths = np.stack([rows.lengths[indices] for _, rows in sides]) - 1  # (2, N), without the ends of lines
        empty, unfit = lengths == 0, np.zeros(len(indices), dtype=bool)
        faults = [(empty, f"an empty{' or unreadable' * self.skip} side", "correct them")]
        if self.max_length is not None:
            too_long = (lengths > self.max_length) & ~empty.any(0)
            faults.append((too_long, f"more than {self.max_length} tokens on a side", "raise data.max_length"))
        for fault, name, way in faults:
            bad = fault.any(0)
            unfit |= bad
            if not bad.any():
                continue
            n = int(bad.argmax())
            place = _place(sides[int(fault[:, n].argmax())][0], int(indices[n]))
            of = f"{bad.sum()} of the {len(indices)} pairs of {split}"
            if not self.skip:
                source, target = lengths[:, n]
                raise UserError(
                    f"{place}: the pair has {name} ({source} and {target} tokens), as {of} have: {way}, or set"
                    " data.skip to true to leave them out"
                )
            rank_zero_info(f"data.skip: left out {of} with {name}; the first is {place}")
        return indices[~unfit]


def _place(side: Side, n: int) -> str:
    """``file:line`` of a line, counted from 0."""
    line = next(islice(side.lines(), n, None))
    return f"{line.source}:{line.number}"
