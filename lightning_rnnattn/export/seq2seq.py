"""A sequence-to-sequence model as ONNX: the encoder, and one step of the decoder.

Letters: B batch, K hypotheses of a sentence, S source time, V target vocabulary.
"""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from lightning_rnnattn.export.graphs import Graph, check_equal, write_graph
from lightning_rnnattn.export.leaves import leaves, rebuild
from lightning_rnnattn.modules import Seq2Seq

_BATCH, _HYPOTHESES, _SOURCE = 11, 13, 17  # what no other size of a model is likely to be
_SIZES = {_BATCH: "batch", _HYPOTHESES: "hypotheses", _SOURCE: "source"}


def write_seq2seq(model: Seq2Seq, folder: Path) -> None:
    """Writes ``encoder.onnx`` and ``step.onnx``.

    - encoder: ``source`` (B, S) ids, ``lengths`` (B,) → ``memory.…``, one for each sentence, and the first ``state.…``,
      of K = 1 hypothesis a sentence.
    - step: ``tokens`` (B, K), ``state.…``, ``memory.…`` → ``logits`` (B, K, V), ``weights`` (B, K, S), and the next
      ``next.state.…``.
    """
    with torch.no_grad():
        source, lengths = _source(model, _BATCH, _SOURCE)
        cache = model.start(source, lengths)
        cache = cache.select(torch.zeros(_BATCH, _HYPOTHESES, dtype=torch.long))
    state, memory = leaves(cache.state, "state"), leaves(cache.memory, "memory")

    def step(tokens: Tensor, *tensors: Tensor) -> Sequence[Tensor]:
        logits, after, weights = model.decode_step(tokens, rebuild(cache, iter(tensors)), need_weights=True)
        assert weights is not None
        return [logits, weights, *leaves(after.state).values()]

    used = write_graph(
        folder / "step.onnx",
        model,
        step,
        {"tokens": _tokens(model, _BATCH, _HYPOTHESES), **state, **memory},
        ["logits", "weights", *(f"next.{name}" for name in state)],
        _SIZES,
    )
    given = [name for name in leaves(cache) if name in used]  # the step may not need all that the memory has

    def encoder(source: Tensor, lengths: Tensor) -> Sequence[Tensor]:
        found = leaves(model.start(source, lengths))
        return [found[name] for name in given]

    write_graph(folder / "encoder.onnx", model, encoder, {"source": source, "lengths": lengths}, given, _SIZES)


@torch.no_grad()
def check_seq2seq(model: Seq2Seq, folder: Path, batch_size: int = 4, source_length: int = 9) -> None:
    """Follows some hypotheses with the graphs and with the model, side by side.

    Raises:
        UserError: if they differ.
    """
    encoder, step = Graph(folder / "encoder.onnx"), Graph(folder / "step.onnx")
    source, lengths = _source(model, batch_size, source_length)
    cache = model.start(source, lengths)
    carried = encoder({"source": source, "lengths": lengths})
    for num_hypotheses in (1, 3, 2):
        index = torch.zeros(batch_size, num_hypotheses, dtype=torch.long)
        state = rebuild(cache.state, (carried[name] for name in leaves(cache.state, "state")))
        carried |= leaves(cache._replace(state=state).select(index).state, "state")
        cache = cache.select(index)
        tokens = _tokens(model, batch_size, num_hypotheses)
        logits, cache, weights = model.decode_step(tokens, cache, need_weights=True)
        assert weights is not None
        found = step({"tokens": tokens, **carried})
        check_equal("logits", found["logits"], logits)
        check_equal("weights", found["weights"], weights)
        carried |= {name.removeprefix("next."): x for name, x in found.items() if name.startswith("next.")}


def _source(model: Seq2Seq, batch_size: int, length: int) -> tuple[Tensor, Tensor]:
    """Sources of different lengths, the last the longest."""
    vocab_size = model.source_embedding.num_embeddings
    source = torch.arange(batch_size * length).view(batch_size, length) % vocab_size
    return source, torch.arange(length, length - batch_size, -1).clamp(min=1).flip(0)


def _tokens(model: Seq2Seq, batch_size: int, num_hypotheses: int) -> Tensor:
    tokens = torch.arange(batch_size * num_hypotheses).view(batch_size, num_hypotheses)
    return tokens % model.output.out_features
