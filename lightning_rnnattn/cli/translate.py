"""`lightning_rnnattn translate`: write a line for each line, with the sequence-to-sequence model in a checkpoint."""

import json
import sys
import time
from argparse import Namespace
from collections.abc import Iterable, Iterator
from contextlib import nullcontext
from dataclasses import fields, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from lightning_rnnattn.cli.loading import add_int8_option, add_model_options, load_model, reads_lowercase, stdin_lines
from lightning_rnnattn.cli.outputs import check_output
from lightning_rnnattn.cli.plain import PlainParser
from lightning_rnnattn.errors import UserError, require_at_least_one

if TYPE_CHECKING:  # torch takes seconds to import, which --help can do without
    from lightning_rnnattn.decoding import Hypothesis, Search

Item = TypeVar("Item")

BUFFERED_BATCHES = 16
"""Batches whose lines are read before the first is translated, so that each gets lines of like length."""


class Translation(NamedTuple):
    """What was found for a line.

    Attributes:
        source: the ids of the line and its end; none for an empty line.
        hypotheses: the best first; none for an empty line.
    """

    source: list[int]
    hypotheses: "list[Hypothesis]"


def make_parser() -> PlainParser:
    """Makes the parser of the options."""
    parser = PlainParser(
        "translate",
        "Write a line for each line of standard input, in order, an empty one for an empty one. What is not given "
        "about the search is as it was in training (--model.search).",
    )
    add_model_options(parser, "a sequence-to-sequence model")
    parser.add_argument("--beam_size", type=int, help="texts that are followed side by side; 1: greedy (default: 5)")
    parser.add_argument("--nbest", type=int, help="write the best n, as line number, score and text, tabs between them")
    parser.add_argument("--length_penalty", type=float, help="0 ranks by log-probability; more favours longer texts")
    parser.add_argument("--coverage_penalty", type=float, help="more favours texts that attend to all of the source")
    parser.add_argument("--max_length", type=int, help="tokens of a text at most")
    parser.add_argument("--max_ratio", type=float, help="the same, as a multiple of the source's")
    parser.add_argument("--min_length", type=int, help="tokens of a text at least")
    parser.add_argument("--no_repeat_ngram", type=int, help="n, where no n tokens in a row may come twice in a text")
    parser.add_argument("--alignments", metavar="FILE", help="also write JSON lines: tokens of both sides, weights")
    parser.add_argument("--batch_size", type=int, default=64, help="lines that are translated at once (default: 64)")
    add_int8_option(parser)
    return parser


def run(command: str, args: list[str]) -> None:
    """Translates standard input to standard output.

    Raises:
        UserError: for options, lines or a checkpoint that cannot be used.
    """
    options = make_parser().parse_args(args)
    require_at_least_one("--", batch_size=options.batch_size)
    check_output("alignments", options.alignments, vars(options).items())
    model = load_model(options)
    if not hasattr(model, "decode") or not hasattr(model, "source_tokenizer"):
        raise UserError(f"--ckpt_path {options.ckpt_path}: {type(model).__name__} cannot translate")
    if model.source_tokenizer is None or model.target_tokenizer is None:
        raise UserError(f"--ckpt_path {options.ckpt_path}: has no tokenizers: it was saved before a trainer had it")
    model.search = _search(model.search, options)
    show_progress = sys.stderr.isatty() and not sys.stdout.isatty()
    start = time.monotonic()
    with _open(options.alignments) as alignments:
        found = translations(
            model,
            _lines(reads_lowercase(options.ckpt_path)),
            batch_size=options.batch_size,
            buffer_size=1 if sys.stdin.isatty() else BUFFERED_BATCHES * options.batch_size,
            need_weights=alignments is not None,
        )
        for number, translation in enumerate(found, start=1):
            print(_shown(model, number, translation, numbered=options.nbest is not None), flush=True)
            if alignments is not None:
                for alignment in _alignments(model, number, translation):
                    alignments.write(json.dumps(alignment, ensure_ascii=False) + "\n")
            if show_progress:
                rate = number / (time.monotonic() - start)
                sys.stderr.write(f"\r{number:,} lines, {rate:,.0f} a second")
    if show_progress:
        sys.stderr.write("\n")


def translations(
    model: Any, lines: Iterable[str], *, batch_size: int, buffer_size: int, need_weights: bool = False
) -> Iterator[Translation]:
    """Translates lines, in order; those of like length in one batch.

    Args:
        model: a `Seq2Seq`, or its like.
        lines: the lines.
        batch_size: lines that are translated at once.
        buffer_size: lines that are read, and sorted by length, before the first is translated.
        need_weights: also give the attention's weights.

    Raises:
        UserError: if a line cannot be encoded; it is named by its number.
    """
    import torch

    from lightning_rnnattn.data.padded import pad

    tokenizer = model.source_tokenizer
    for buffer in _batched(enumerate(lines, start=1), buffer_size):
        sources = []
        for number, line in buffer:
            try:
                ids = tokenizer.encode(line)
            except UserError as error:
                raise UserError(f"standard input:{number}: {error}") from error
            sources.append([*ids, tokenizer.eos_id] if ids else [])
        found: dict[int, list[Any]] = {}
        order = sorted((i for i, source in enumerate(sources) if source), key=lambda i: len(sources[i]))
        for places in _batched(order, batch_size):
            source = pad([torch.tensor(sources[i]) for i in places]).to(model.device)
            found.update(zip(places, model.decode(source.values, source.lengths, need_weights), strict=True))
        yield from (Translation(source, found.get(i, [])) for i, source in enumerate(sources))


def _search(own: "Search", options: Namespace) -> "Search":
    """Beam search with the limits of the model's own search, and what the options change."""
    from lightning_rnnattn.decoding import BeamSearch, Search

    if not isinstance(own, BeamSearch):
        own = BeamSearch(**{field.name: getattr(own, field.name) for field in fields(Search)})
    given = {field.name: value for field in fields(own) if (value := getattr(options, field.name, None)) is not None}
    return replace(own, **{"nbest": 1, **given})


def _lines(lowercase: bool) -> Iterator[str]:
    """Standard input, as `PairDataModule` reads its files."""
    for line in stdin_lines("lines to translate"):
        text = line.strip()
        yield text.lower() if lowercase else text


def _batched(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    remaining = iter(items)
    while batch := list(islice(remaining, size)):
        yield batch


def _open(path: str | None) -> Any:
    if path is None:
        return nullcontext()
    try:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        return open(path, "w", encoding="utf-8")  # as lines come, so that it may be a pipe
    except OSError as error:
        raise UserError(f"--alignments {path}: {error.strerror}") from None


def _shown(model: Any, number: int, translation: Translation, numbered: bool) -> str:
    # A vocabulary may have line breaks, but a translation is one line.
    texts = [" ".join(model.text(hypothesis.tokens).splitlines()) for hypothesis in translation.hypotheses]
    if not numbered:
        return texts[0] if texts else ""
    scores = [hypothesis.score for hypothesis in translation.hypotheses]
    rows = zip(scores or [0.0], texts or [""], strict=True)
    return "\n".join(f"{number}\t{score:.6f}\t{text}" for score, text in rows)


def _alignments(model: Any, number: int, translation: Translation) -> Iterator[dict[str, Any]]:
    source = model.source_tokenizer.tokens(translation.source)
    for hypothesis in translation.hypotheses:
        assert hypothesis.weights is not None
        yield {
            "line": number,
            "source": source,
            "target": model.target_tokenizer.tokens(hypothesis.tokens),
            "weights": [[round(weight, 6) for weight in row] for row in hypothesis.weights.tolist()],
        }
