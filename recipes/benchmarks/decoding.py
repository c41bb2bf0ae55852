"""Greedy and beam search of a translation model against a plain torch loop.

    python recipes/benchmarks/decoding.py [--quick] [--threads N] [--device cuda]

The shapes are those of Multi30k: 64 sentences of up to 25 tokens, a vocabulary of 10,000, a bidirectional LSTM that
reads and an LSTM with input feeding and additive attention that writes. The plain loop has the same weights: an
nn.LSTMCell, keys that are projected once and copied for each hypothesis, the attention as its equation reads,
log-softmax and top-k over everything, and a batch that stays whole until its last sentence has ended. So has JoeyNMT,
where it is installed; see peers.py. What all write is compared, but for ours with its output layer in 8 bits, whose
rounding decides between the words that random weights cannot tell apart.
"""

from collections.abc import Callable
from copy import deepcopy
from functools import partial
from typing import Any, NamedTuple

import torch
from harness import environment, interleave, parser, peak_memory, save, table
from peers import BOS, EOS, JOEYNMT, LIKELY, JoeyNMT
from torch import Tensor, nn

from lightning_rnnattn import (
    LSTM,
    AdditiveScore,
    Attention,
    BeamSearch,
    Greedy,
    InputFeedingDecoder,
    Int8Linear,
    Search,
    Seq2Seq,
    ZeroBridge,
)

BATCH, VOCAB, STEPS = 64, 10_000, 20
SIZES = [(512, 256), (128, 128)]  # hidden size, embedding
QUICK_SIZES = [(32, 32)]
NEVER = [1, BOS]  # what JoeyNMT does not write


class Ends(NamedTuple):
    """A cache that knows when its sentences end."""

    inner: Any
    lengths: Tensor
    step: int

    def select(self, hypotheses: Tensor) -> "Ends":
        return self._replace(inner=self.inner.select(hypotheses))

    def keep(self, sentences: Tensor) -> "Ends":
        return Ends(self.inner.keep(sentences), self.lengths[sentences], self.step)


class Ending(nn.Module):
    """A model whose texts end after given lengths, as those of a trained one do; random weights do not care to.

    Args:
        model: any.
        lengths: (B,) tokens of each sentence's text.
    """

    def __init__(self, model: Seq2Seq, lengths: Tensor) -> None:
        super().__init__()
        self.model, self.lengths = model, lengths

    def start(self, source: Tensor, lengths: Tensor) -> Ends:
        return Ends(self.model.start(source, lengths), self.lengths, 0)

    def decode_step(self, tokens: Tensor, cache: Ends, need_weights: bool = False) -> tuple[Tensor, Ends, Any]:
        logits, inner, weights = self.model.decode_step(tokens, cache.inner, need_weights)
        logits[..., EOS] = torch.where(cache.step >= cache.lengths, LIKELY, -LIKELY).unsqueeze(-1)
        return logits, cache._replace(inner=inner, step=cache.step + 1), weights


class PlainLoop:
    """What one writes without a library; it shares the encoder of a model, and has its decoder's weights.

    Args:
        model: a model of `our_model`.
        ends: (B,) tokens of each sentence's text.
    """

    def __init__(self, model: Seq2Seq, ends: Tensor) -> None:
        kernel = model.decoder.rnn.kernels[0]
        self.model, self.ends, self.score = model, ends, model.decoder.attention.score
        self.cell = nn.LSTMCell(kernel.input_size, kernel.hidden_size).to(ends.device)
        self.cell.load_state_dict({name.removesuffix("_l0"): weight for name, weight in kernel.state_dict().items()})

    @torch.inference_mode()
    def __call__(self, source: Tensor, lengths: Tensor, beam_size: int) -> Tensor:
        """The best text of each sentence, (B, T), ends included."""
        model, batch, rows = self.model, len(source), len(source) * beam_size
        encoded, last = model.encoder(model.source_embedding(source), None, lengths)
        h, c = (state[0].repeat_interleave(beam_size, 0) for state in model.bridge(last))
        memory = encoded.repeat_interleave(beam_size, 0)
        keys = self.score.key_proj(encoded).repeat_interleave(beam_size, 0)
        hidden = torch.arange(source.shape[1])[None] >= lengths[:, None]
        hidden = hidden.repeat_interleave(beam_size, 0).to(source.device)
        fed = torch.zeros_like(h)
        tokens = torch.full((rows,), BOS, device=source.device)
        texts = torch.empty(rows, 0, dtype=torch.long, device=source.device)
        total = torch.full((batch, beam_size), float("-inf"), device=source.device)
        total[:, 0] = 0.0
        for step in range(int(self.ends.max()) + 1):
            h, c = self.cell(torch.cat([model.target_embedding(tokens), fed], -1), (h, c))
            units = torch.tanh(self.score.query_proj(h).unsqueeze(1) + keys)  # (B·K, S, D)
            scores = (units @ self.score.v[0]).masked_fill(hidden, float("-inf"))
            context = (scores.softmax(-1).unsqueeze(1) @ memory).squeeze(1)
            fed = torch.tanh(model.decoder.combine.proj(torch.cat([context, h], -1)))
            logits = model.output(fed).view(batch, beam_size, -1)
            logits[..., EOS] = torch.where(step >= self.ends, LIKELY, -LIKELY).unsqueeze(-1)
            log_probs = logits.log_softmax(-1)
            total, best = (total.unsqueeze(-1) + log_probs).flatten(1).topk(beam_size)
            parents = (best // VOCAB + torch.arange(batch, device=best.device)[:, None] * beam_size).flatten()
            tokens = (best % VOCAB).flatten()
            h, c, fed = h[parents], c[parents], fed[parents]
            texts = torch.cat([texts[parents], tokens[:, None]], -1)
        return texts.view(batch, beam_size, -1)[:, 0]


def our_model(hidden: int, embedding: int) -> Seq2Seq:
    attention = partial(Attention, score=AdditiveScore)
    decoder = partial(InputFeedingDecoder, rnn=partial(LSTM, hidden_size=hidden), attention=attention)
    encoder = partial(LSTM, hidden_size=hidden // 2, bidirectional=True)
    model = Seq2Seq(VOCAB, VOCAB, embedding, encoder=encoder, decoder=decoder, bridge=ZeroBridge).eval()
    nn.init.zeros_(model.decoder.attention.score.query_proj.bias)
    model.output.bias.data[NEVER] = -LIKELY
    return model


def like_multi30k(mean: int = 13, spread: int = 4, longest: int = 25) -> Tensor:
    """Lengths (B,) of sentences as they come, spread as in the test sets."""
    return (torch.randn(BATCH) * spread + mean).round().long().clamp(4, longest)


def search(how: Search, model: Seq2Seq, source: Tensor, lengths: Tensor, ends: Tensor) -> list[list[int]]:
    found = how.search(Ending(model, ends), source, lengths, bos_id=BOS, eos_id=EOS)
    return [best.tokens for best, *_ in found]


def same_texts(ours: list[list[int]], theirs: Tensor) -> float:
    """The share of sentences for which both found the same."""
    same = [text == row[: len(text)].tolist() for text, row in zip(ours, theirs, strict=True)]
    return sum(same) / len(same)


def speeds(hidden: int, embedding: int, device: str, seconds: float) -> list[dict[str, Any]]:
    """Sentences per second of all."""
    torch.manual_seed(0)
    model = our_model(hidden, embedding).to(device)
    rounded = deepcopy(model) if device == "cpu" else None
    if rounded is not None:
        rounded.output = Int8Linear(model.output)
    lengths = like_multi30k().sort(descending=True).values  # as JoeyNMT's encoder needs it
    source = torch.randint(4, VOCAB, (BATCH, int(lengths.max())), device=device)
    rows = []
    for ends_name, ends in (("20 tokens", torch.full((BATCH,), STEPS)), ("as they end", like_multi30k())):
        for name, how in (("greedy", Greedy()), ("beam 5", BeamSearch(length_penalty=0.0))):
            beam_size = getattr(how, "beam_size", 1)
            calls: dict[str, Callable[[], Any]] = {
                "ours": partial(search, how, model, source, lengths, ends.to(device)),
                "plain": partial(PlainLoop(model, ends.to(device)), source, lengths, beam_size),
            }
            if JOEYNMT:
                calls["JoeyNMT"] = partial(JoeyNMT(model).search, source, lengths, ends.to(device), beam_size)
            texts = calls["ours"]()
            same = {other: same_texts(texts, calls[other]()) for other in list(calls)[1:]}
            if rounded is not None:
                calls["8 bits"] = partial(search, how, rounded, source, lengths, ends)
            times = interleave(calls, seconds=seconds)
            rows.append(
                {
                    "hidden": hidden,
                    "search": name,
                    "length": ends_name,
                    **{who: BATCH / taken.median for who, taken in times.items()},
                    "ratio": {other: times[other].over(times["ours"]) for other in same},
                    "8 bits ratio": {
                        other: times[other].over(times["8 bits"]) for other in ("ours", *same) if rounded is not None
                    },
                    "same": same,
                }
            )
    return rows


def memory(hidden: int, embedding: int, device: str, source_length: int) -> list[dict[str, Any]]:
    """Bytes that a search needs beyond the model's, by beam size."""
    torch.manual_seed(0)
    model = our_model(hidden, embedding).to(device)
    lengths = torch.full((BATCH,), source_length)
    source = torch.randint(1, VOCAB, (BATCH, source_length), device=device)
    ends = torch.full((BATCH,), 3, device=device)
    rows = []
    for beam_size in (1, 5, 10):
        calls: dict[str, Callable[[], Any]] = {
            "ours": partial(search, BeamSearch(beam_size=beam_size), model, source, lengths, ends),
            "plain": partial(PlainLoop(model, ends), source, lengths, beam_size),
        }
        peaks = {name: peak_memory(call, device) for name, call in calls.items()}
        rows.append({"hidden": hidden, "source": source_length, "beam": beam_size, **peaks})
    return rows


def main() -> None:
    """Runs everything."""
    options = parser(__doc__.split("\n", 1)[0]).parse_args()
    torch.set_num_threads(options.threads)
    results: dict[str, list[dict[str, Any]]] = {"speed": [], "memory": []}
    for hidden, embedding in QUICK_SIZES if options.quick else SIZES:
        results["speed"] += speeds(hidden, embedding, options.device, seconds=1 if options.quick else 15)
    others = ["plain", *(["JoeyNMT"] if JOEYNMT else [])]
    bits = ["ours", *others] if options.device == "cpu" else []
    header = ("hidden", "search", "length", "ours, sentences/s")
    rows = [
        [
            *(str(row[key]) for key in ("hidden", "search", "length")),
            f"{row['ours']:.0f}",
            *(x for who in others for x in (f"{row[who]:.0f}", f"{row['ratio'][who]:.2f}", f"{row['same'][who]:.0%}")),
            *(f"{row['8 bits ratio'][who]:.2f}" for who in bits),
        ]
        for row in results["speed"]
    ]
    header += tuple(x for who in others for x in (who, f"ours / {who}", "same texts"))
    header += tuple(f"8 bits / {who}" for who in bits)
    print(table(header, rows), end="\n\n", flush=True)
    hidden, embedding = (QUICK_SIZES if options.quick else SIZES)[0]
    for source_length in (25, 100):
        results["memory"] += memory(hidden, embedding, options.device, source_length)
    megabytes = [
        [str(row[key]) for key in ("hidden", "source", "beam")]
        + ["" if row[key] is None else f"{row[key] / 2**20:.0f}" for key in ("ours", "plain")]
        for row in results["memory"]
    ]
    print(table(("hidden", "source tokens", "beam", "ours, MiB", "plain loop, MiB"), megabytes), end="\n\n")
    print(f"wrote {save('decoding', options.out, {'environment': environment(options.device), **results})}")


if __name__ == "__main__":
    main()
