"""Letters to phonemes: training, and beam search, beside Yoyodyne where it is installed.

    python recipes/benchmarks/g2p.py [--quick] [--threads N] [--device cuda]

Shapes are those of CMUdict: 64 words of 3 to 14 letters, embeddings of 128, a bidirectional LSTM that reads and an LSTM
with additive attention that writes, one vocabulary of 72 for letters, phonemes and special tokens. A step of training
is forward, cross entropy, backward and Adam, with targets of 8 tokens; in a beam search a text is as long as its word.
Yoyodyne's model has the same sizes and weights; see peers.py. Losses and texts are compared.
Products are the time that a step's matrix products would take at the rate of a large one: no step can take less.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from decoding import same_texts, search
from harness import environment, interleave, parser, save, table
from peers import BOS, YOYODYNE, Yoyodyne
from seq2seq import summed_loss, trainer
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from lightning_rnnattn import LSTM, AdditiveScore, Attention, BahdanauDecoder, BeamSearch, Seq2Seq, ZeroBridge
from lightning_rnnattn.layers import Combine
from lightning_rnnattn.ops.masks import lengths_mask

BATCH, VOCAB, TARGET, EMBEDDING, BEAM_SIZE = 64, 72, 8, 128, 5
LARGE = 1024  # rows and columns of the product whose rate is the limit


class StateAlone(Combine):
    """What Yoyodyne's output layer reads: the state, which has read the context."""

    def __init__(self, hidden_dim: int, context_dim: int) -> None:
        super().__init__()

    def forward(self, hidden: Tensor, context: Tensor) -> Tensor:
        return hidden


def our_model(hidden: int) -> Seq2Seq:
    attention, rnn = partial(Attention, score=AdditiveScore), partial(LSTM, hidden_size=hidden)
    return Seq2Seq(
        VOCAB,
        VOCAB,
        EMBEDDING,
        encoder=partial(LSTM, hidden_size=hidden, bidirectional=True),
        decoder=partial(BahdanauDecoder, rnn=rnn, attention=attention, combine=StateAlone),
        bridge=ZeroBridge,
        share_embeddings=True,
    )


def words(device: str) -> tuple[Tensor, Tensor]:
    """Random letters (B, S), padded with 0, and the lengths (B,) of words, their ends included."""
    lengths = (torch.randn(BATCH) * 2.2 + 7.4).round().long().clamp(3, 14) + 1
    longest = int(lengths.max())
    letters = torch.randint(4, VOCAB, (BATCH, longest)) * lengths_mask(lengths, longest)
    return letters.to(device), lengths


def training(model: Seq2Seq, device: str) -> tuple[dict[str, Callable[[], None]], bool]:
    """A step of both, and whether the losses before are the same."""
    source, lengths = words(device)
    target = torch.randint(4, VOCAB, (BATCH, TARGET), device=device)
    inputs = torch.cat([torch.full_like(target[:, :1], BOS), target[:, :-1]], 1)
    ours = partial(summed_loss, model, source, lengths, inputs, target)
    calls = {"ours": trainer(model, ours)}
    if not YOYODYNE:
        return calls, True
    peer = Yoyodyne(model)
    theirs = partial(peer.loss, source, target)
    same = torch.allclose(ours() / target.numel(), theirs())
    return {**calls, "Yoyodyne": trainer(peer.model, theirs)}, same


def large_product(device: str) -> Callable[[], Tensor]:
    """Of 2 LARGE^3 operations; it takes its turn, so that a busy machine slows it as it slows the rest."""
    matrix = torch.rand(LARGE, LARGE, device=device)
    return lambda: matrix @ matrix


def operations(call: Callable[[], Any]) -> int:
    """Floating-point operations of the matrix products in a call."""
    with FlopCounterMode(display=False) as counter:
        call()
    return counter.get_total_flops()


def decoding(model: Seq2Seq, device: str) -> tuple[dict[str, Callable[[], Any]], float]:
    """A beam search of both, and the share of the words for which both find the same."""
    source, lengths = words(device)
    how = BeamSearch(beam_size=BEAM_SIZE, length_penalty=0.0)
    ours = partial(search, how, model, source, lengths, lengths.to(device))
    if not YOYODYNE:
        return {"ours": ours}, 1.0
    theirs = partial(Yoyodyne(model).search, source, BEAM_SIZE)
    return {"ours": ours, "Yoyodyne": theirs}, same_texts(ours(), theirs())


def main() -> None:
    """Runs everything."""
    options = parser(__doc__.split("\n", 1)[0]).parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    rows: list[dict[str, Any]] = []
    for hidden in (32,) if options.quick else (128, 512):
        for what, unit, count, make in (
            ("training", "tokens/s", BATCH * TARGET, training),
            (f"beam {BEAM_SIZE}", "words/s", BATCH, decoding),
        ):
            calls, same = make(our_model(hidden).to(options.device), options.device)
            calls["product"] = large_product(options.device)
            times = interleave(calls, seconds=1 if options.quick else 20)
            least = operations(calls["ours"]) / (2 * LARGE**3)
            row = {
                "hidden": hidden,
                "what": f"{what}, {unit}",
                "ours": count / times["ours"].median,
                "products / ours": least * times["product"].over(times["ours"]),
            }
            if YOYODYNE:
                row["Yoyodyne"] = count / times["Yoyodyne"].median
                row["ours / Yoyodyne"] = times["Yoyodyne"].over(times["ours"])
                row["same"] = f"{same:.0%}"
            rows.append(row)
    numbers = [
        [
            f"{x:,.0f}" if isinstance(x, float) and x >= 100 else f"{x:.2f}" if isinstance(x, float) else str(x)
            for x in row.values()
        ]
        for row in rows
    ]
    print(table(list(rows[0]), numbers), end="\n\n")
    print(f"wrote {save('g2p', options.out, {'environment': environment(options.device), 'rows': rows})}")


if __name__ == "__main__":
    main()
