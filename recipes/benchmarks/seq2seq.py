"""Training of attentional decoders against the loop that everybody writes, taking turns in one process.

    python recipes/benchmarks/seq2seq.py [--quick] [--threads N] [--device cuda] [--precision bf16-mixed]

Shapes are those of Multi30k, German to English: 64 pairs of about 14 tokens, embeddings of 256, a bidirectional LSTM,
one LSTM layer with additive attention, a vocabulary of 8,000. A step is forward, cross entropy, backward and Adam. The
plain loop (nn.LSTMCell, keys projected once, naive additive attention, all logits at once) computes the same function.
Products are the time that the decoder's matrix products take on their own, out of any loop: no step can take less.
Where JoeyNMT is installed, its model of the same sizes and weights (see peers.py) trains in turn with our `Seq2Seq`.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any

import torch
from harness import environment, interleave, parser, save, table
from peers import JOEYNMT, JoeyNMT
from torch import Tensor, nn
from torch.nn import functional as F

from lightning_rnnattn import (
    LSTM,
    AdditiveScore,
    Attention,
    BahdanauDecoder,
    InputFeedingDecoder,
    LuongDecoder,
    Seq2Seq,
    ZeroBridge,
)
from lightning_rnnattn.layers import Decoder
from lightning_rnnattn.ops.cross_entropy import linear_cross_entropy
from lightning_rnnattn.ops.masks import lengths_mask

BATCH, LENGTH, EMBEDDING, VOCAB = 64, 14, 256, 8000
PLAINLY = nullcontext()


class Plain(nn.Module):
    """A decoder as tutorials have it; with input feeding, from the state before (Bahdanau), or neither (Luong)."""

    def __init__(self, wiring: str, hidden: int) -> None:
        super().__init__()
        self.wiring, memory = wiring, 2 * hidden
        fed = {"Bahdanau": memory, "input feeding": hidden, "Luong": 0}[wiring]
        beside = EMBEDDING if wiring == "Bahdanau" else 0
        self.cell = nn.LSTMCell(EMBEDDING + fed, hidden)
        self.query, self.key = nn.Linear(hidden, hidden), nn.Linear(memory, hidden, bias=False)
        self.energy = nn.Linear(hidden, 1, bias=False)
        self.combine = nn.Linear(memory + beside + hidden, hidden, bias=False)

    def attend(self, h: Tensor, keys: Tensor, memory: Tensor, mask: Tensor) -> Tensor:
        energy = self.energy(torch.tanh(self.query(h).unsqueeze(1) + keys)).squeeze(-1)
        weights = energy.masked_fill(~mask, float("-inf")).softmax(-1)
        return (weights.unsqueeze(1) @ memory).squeeze(1)

    def forward(self, inputs: Tensor, memory: Tensor, mask: Tensor) -> Tensor:
        keys = self.key(memory)
        h = c = fed = inputs.new_zeros(len(inputs), self.cell.hidden_size)
        outputs = []
        for x in inputs.unbind(1):
            if self.wiring == "Bahdanau":
                context = self.attend(h, keys, memory, mask)
                h, c = self.cell(torch.cat([x, context], -1), (h, c))
                outputs.append(torch.tanh(self.combine(torch.cat([context, x, h], -1))))
                continue
            h, c = self.cell(torch.cat([x, fed], -1) if self.wiring == "input feeding" else x, (h, c))
            context = self.attend(h, keys, memory, mask)
            fed = torch.tanh(self.combine(torch.cat([context, h], -1)))
            outputs.append(fed)
        return torch.stack(outputs, 1)


class Network(nn.Module):
    """Embeddings, encoder and output layer around a decoder."""

    def __init__(self, decoder: nn.Module, hidden: int) -> None:
        super().__init__()
        self.decoder = decoder
        self.source, self.target = nn.Embedding(VOCAB, EMBEDDING), nn.Embedding(VOCAB, EMBEDDING)
        self.encoder = nn.LSTM(EMBEDDING, hidden, bidirectional=True, batch_first=True)
        self.output = nn.Linear(hidden, VOCAB)
        self.hidden = hidden

    def loss(self, source: Tensor, target: Tensor, mask: Tensor) -> Tensor:
        memory, _ = self.encoder(self.source(source))
        inputs = self.target(target)
        if isinstance(self.decoder, Decoder):
            zeros = memory.new_zeros(1, len(memory), self.hidden)
            start = self.decoder.start((zeros, zeros))
            features, _ = self.decoder(inputs, start, self.decoder.memory(memory, mask))
            return linear_cross_entropy(features.flatten(0, 1), self.output.weight, target.flatten(), self.output.bias)
        logits = self.output(self.decoder(inputs, memory, mask))
        return F.cross_entropy(logits.flatten(0, 1), target.flatten(), reduction="sum")


def trainer(
    network: nn.Module, loss: Callable[..., Tensor], *batch: Tensor, forward: AbstractContextManager[Any] = PLAINLY
) -> Callable[[], None]:
    """One step of training, its forward pass within a context."""
    optimizer = torch.optim.Adam(network.parameters())

    def step() -> None:
        optimizer.zero_grad()
        with forward:
            total = loss(*batch)
        total.backward()
        optimizer.step()

    return step


def decoding_only(
    decoder: nn.Module, memory: Tensor, inputs: Tensor, mask: Tensor, forward: AbstractContextManager[Any]
) -> Callable[[], None]:
    """The decoder forward and backward, without encoder and output layer."""

    def step() -> None:
        with forward:
            if isinstance(decoder, Decoder):
                zeros = memory.new_zeros(1, len(memory), decoder.output_size)
                features, _ = decoder(inputs, decoder.start((zeros, zeros)), decoder.memory(memory, mask))
            else:
                features = decoder(inputs, memory, mask)
        torch.autograd.grad(features.float().sum(), [memory, inputs, *decoder.parameters()])

    return step


def products(decoder: nn.Module, device: str, dtype: torch.dtype) -> Callable[[], None]:
    """The matrix products of a `Plain` decoder, forward and backward: those of a step T times, the rest once."""
    assert isinstance(decoder, Plain)
    hidden = decoder.cell.hidden_size
    recurrent = decoder.cell.input_size - EMBEDDING + hidden
    per_step = [(4 * hidden, recurrent), (hidden, hidden)]
    once = [(4 * hidden, EMBEDDING, LENGTH), (hidden, 2 * hidden, LENGTH)]
    (per_step if decoder.wiring == "input feeding" else []).append(tuple(decoder.combine.weight.shape))
    shapes = [(rows, columns, BATCH, LENGTH) for rows, columns in per_step]
    shapes += [(rows, columns, BATCH * times, 1) for rows, columns, times in once]
    if decoder.wiring != "input feeding":
        shapes.append((*decoder.combine.weight.shape, BATCH * LENGTH, 1))
    operands = [
        (
            torch.rand(size, rows, device=device, dtype=dtype),
            torch.rand(size, columns, device=device, dtype=dtype),
            torch.rand(rows, columns, device=device, dtype=dtype),
            times,
        )
        for rows, columns, size, times in shapes
    ]

    def run() -> None:
        for out, x, weight, times in operands:
            for _ in range(times):
                x @ weight.t(), out @ weight
            # The weights' gradient of all steps at once.
            big_out, big_x = (torch.cat([y] * times) if times > 1 else y for y in (out, x))
            big_out.t() @ big_x

    return run


def summed_loss(model: Seq2Seq, source: Tensor, lengths: Tensor, inputs: Tensor, target: Tensor) -> Tensor:
    """Of targets (B, T) without padding."""
    features, _ = model.features(source, lengths, inputs)
    return model.loss(features.flatten(0, 1), target.flatten())


def beside_joeynmt(
    hidden: int, device: str, forward: AbstractContextManager[Any], seconds: float, at_least: int
) -> dict[str, float]:
    """Training of our module and of JoeyNMT's, from the same weights: tokens per second, and the losses before."""
    encoder, rnn = partial(LSTM, hidden_size=hidden, bidirectional=True), partial(LSTM, hidden_size=hidden)
    decoder = partial(InputFeedingDecoder, rnn=rnn, attention=partial(Attention, score=AdditiveScore))
    model = Seq2Seq(VOCAB, VOCAB, EMBEDDING, encoder=encoder, decoder=decoder, bridge=ZeroBridge).to(device)
    nn.init.zeros_(model.decoder.attention.score.query_proj.bias)
    peer = JoeyNMT(model)
    source, inputs, target = torch.randint(4, VOCAB, (3, BATCH, LENGTH), device=device)
    lengths = torch.randint(LENGTH // 2, LENGTH + 1, (BATCH,)).sort(descending=True).values
    lengths[0] = LENGTH
    batch = (source, lengths, inputs, target)
    ours, theirs = partial(summed_loss, model), peer.loss
    losses = {"loss": ours(*batch).item(), "JoeyNMT's loss": theirs(*batch).item()}
    calls = {
        "ours, tokens/s": trainer(model, ours, *batch, forward=forward),
        "JoeyNMT": trainer(peer.model, theirs, *batch, forward=forward),
    }
    times = interleave(calls, seconds=seconds, at_least=at_least)
    speed = {name: BATCH * LENGTH / taken.median for name, taken in times.items()}
    return {"hidden": hidden, **speed, "ours / JoeyNMT": times["JoeyNMT"].over(times["ours, tokens/s"]), **losses}


def main() -> None:
    """Runs everything."""
    arguments = parser(__doc__.split("\n", 1)[0])
    arguments.add_argument("--precision", choices=["32-true", "bf16-mixed"], default="32-true", help="of all")
    options = arguments.parse_args()
    mixed = options.precision == "bf16-mixed"
    forward = torch.autocast(options.device, torch.bfloat16) if mixed else PLAINLY
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    results: list[dict[str, Any]] = []
    peers: list[dict[str, float]] = []
    effort = {"seconds": 4, "at_least": 3} if options.quick else {"seconds": 20, "at_least": 7}
    wirings = {"input feeding": InputFeedingDecoder, "Bahdanau": BahdanauDecoder, "Luong": LuongDecoder}
    setting = f"threads {options.threads}, {options.precision}"
    print(f"{setting}, medians in ms (fastest to upper quartile), ratios within a round\n")
    for hidden in (128,) if options.quick else (128, 512):
        source, target = torch.randint(VOCAB, (2, BATCH, LENGTH), device=options.device)
        mask = lengths_mask(torch.randint(LENGTH // 2, LENGTH + 1, (BATCH,)), LENGTH).to(options.device)
        mask[0] = True
        memory = torch.randn(BATCH, LENGTH, 2 * hidden, device=options.device, requires_grad=True)
        inputs = torch.randn(BATCH, LENGTH, EMBEDDING, device=options.device, requires_grad=True)
        rows = []
        for wiring, decoder in wirings.items():
            attention, rnn = partial(Attention, score=AdditiveScore), partial(LSTM, hidden_size=hidden)
            ours = decoder(EMBEDDING, 2 * hidden, rnn=rnn, attention=attention).to(options.device)
            plain = Plain(wiring, hidden).to(options.device)
            network, plain_network = (Network(each, hidden).to(options.device) for each in (ours, plain))
            calls = {
                "decoder": decoding_only(ours, memory, inputs, mask, forward),
                "plain decoder": decoding_only(plain, memory, inputs, mask, forward),
                "products": products(plain, options.device, torch.bfloat16 if mixed else torch.float32),
                "training": trainer(network, network.loss, source, target, mask, forward=forward),
                "plain training": trainer(plain_network, plain_network.loss, source, target, mask, forward=forward),
            }
            times = interleave(calls, **effort)
            ratios = {
                "decoder": times["plain decoder"].over(times["decoder"]),
                "training": times["plain training"].over(times["training"]),
                "of products": times["products"].over(times["decoder"]),
            }
            tokens = BATCH * LENGTH / times["training"].median
            rows.append(
                (
                    wiring,
                    str(times["decoder"]),
                    f"{ratios['decoder']:.2f}",
                    f"{100 * ratios['of products']:.0f} %",
                    f"{tokens:,.0f}",
                    f"{ratios['training']:.2f}",
                )
            )
            results.append({"hidden": hidden, "wiring": wiring, "tokens_per_second": tokens, **ratios})
        print(f"hidden {hidden}\n")
        header = ("wiring", "decoder, ms", "plain / ours", "products / ours", "training, tokens/s", "plain / ours")
        print(table(header, rows), end="\n\n", flush=True)
        if JOEYNMT:
            peers.append(beside_joeynmt(hidden, options.device, forward, **effort))
    if peers:
        numbers = [[f"{x:,.2f}" if isinstance(x, float) else str(x) for x in row.values()] for row in peers]
        print(f"Beside JoeyNMT, input feeding, whole modules\n\n{table(list(peers[0]), numbers)}\n")
    machine = environment(options.device)
    saved = {"environment": machine, "precision": options.precision, "rows": results, "JoeyNMT": peers}
    print(f"wrote {save('seq2seq', options.out, saved)}")


if __name__ == "__main__":
    main()
