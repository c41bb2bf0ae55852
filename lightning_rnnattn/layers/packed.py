"""Torch's recurrent kernels over padded sequences of unequal lengths.

Letters: B batch, T time, D features, L layers times directions.
"""

from collections.abc import Callable, Mapping
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from lightning_rnnattn.layers.rnn import State, map_state
from lightning_rnnattn.ops.lstm import LSTMWeights, packed_lstm, serves
from lightning_rnnattn.ops.masks import lengths_mask

LENGTH_COST = 6
"""What one more length costs for each feature of input and state, in units of `better_by_length`; measured."""

WEIGHTS = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")

Call = Callable[[PackedSequence, State | None], tuple[PackedSequence, State]]
"""A recurrent kernel over packed sequences; no state stands for zeros."""


def better_by_length(x: Tensor, lengths: Tensor, hidden_size: int) -> bool:
    """Whether to run by length: where gradients are wanted on a CPU, and many steps share few lengths or small weights.

    A step's gradient of packed sequences is as long as all of them, so that T steps take T^2 time. By length, each
    length that occurs is a call, which reads and writes all weights. A unit is what packing costs for a step and a
    token. (Where all is padding, packing gives each weight its gradient of zeros.)
    """
    if x.device.type != "cpu" or not torch.is_grad_enabled():
        return False
    price_of_packing = int(lengths.max()) * int(lengths.sum())
    return price_of_packing > LENGTH_COST * len(lengths.unique()) * (x.shape[-1] + hidden_size)


def run_packed(call: Call, x: Tensor, state: State | None, lengths: Tensor) -> tuple[Tensor, State]:
    """One call over packed sequences; for arguments and results see `RNN.forward`."""
    empty = (lengths == 0).to(x.device) if lengths.min() == 0 else None
    if empty is not None:  # packing knows no empty sequence: it runs as one step, whose traces are removed
        x = x.masked_fill(empty[:, None, None], 0.0)
    packed = pack_padded_sequence(x, lengths.clamp(min=1), batch_first=True, enforce_sorted=False)
    packed_output, after = call(packed, state)
    output, _ = pad_packed_sequence(packed_output, batch_first=True, total_length=x.shape[1])
    if empty is not None:
        output = output.masked_fill(empty[:, None, None], 0.0)
        before = map_state(torch.zeros_like, after) if state is None else state
        after = map_state(lambda old, new: torch.where(empty[:, None], old, new), before, after)
    return output, after


def run_by_length(
    kernel: nn.RNNBase, weights: Mapping[str, Tensor], x: Tensor, state: State | None, lengths: Tensor
) -> tuple[Tensor, State]:
    """The same as the kernel over packed sequences, without packing.

    From one length to the next that occurs, the rows that are no shorter go on together, and none of them ends: torch's
    kernel reads them as they are.

    Args:
        kernel: torch's module.
        weights: all of its parameters, or what takes their place, by name.
        x: see `RNN.forward`.
        state: see `RNN.forward`.
        lengths: see `RNN.forward`.
    """
    lengths, order = lengths.sort(descending=True, stable=True)
    back = order.argsort()
    x = x[order]
    state = None if state is None else map_state(lambda s: s[:, order], state)
    steps = torch.arange(x.shape[1])
    # Reads backwards what is real, and leaves the rest where it is; twice is nothing.
    reverse = torch.where(lengths_mask(lengths, x.shape[1]), lengths[:, None] - 1 - steps, steps).unsqueeze(-1)

    def run(of_layer: list[Tensor], x: Tensor, place: int, backwards: bool) -> tuple[Tensor, State]:
        before = _zeros(kernel, x) if state is None else map_state(lambda s: s[place, None], state)
        output, after = _run_one(kernel, of_layer, x.take_along_dim(reverse, 1) if backwards else x, before, lengths)
        return output.take_along_dim(reverse, 1) if backwards else output, after

    x, states = _run_layers(kernel, weights, x, run)
    return x[back], map_state(lambda *parts: torch.cat(parts)[:, back], *states)


def runs_lstm(
    kernel: nn.RNNBase, weights: Mapping[str, Tensor], x: Tensor, state: State | None, lengths: Tensor
) -> bool:
    """Whether `run_lstm` does: an LSTM that compiled loops take. What does not fit is left to torch's own errors."""
    if not isinstance(kernel, nn.LSTM) or not serves(x, list(weights.values())):
        return False  # asked first, since in a trace sizes are no numbers
    # Hooks want a call; and where weights are pruned or normalised, they are no parameters.
    plain = not (kernel._forward_hooks or kernel._forward_pre_hooks) and {*weights} == {*kernel._flat_weights_names}
    fits = int(lengths.max()) <= x.shape[1] and x.shape[-1] == kernel.input_size
    shape = kernel.num_layers * (1 + kernel.bidirectional), len(x), kernel.hidden_size
    return plain and fits and (state is None or all(s.shape == shape and s.device == x.device for s in state))


def run_lstm(
    kernel: nn.RNNBase, weights: Mapping[str, Tensor], x: Tensor, state: State | None, lengths: Tensor
) -> tuple[Tensor, State]:
    """The same as the kernel over packed sequences, by `packed_lstm`; for the arguments see `run_by_length`."""
    batch, time, _ = x.shape
    lengths, order = lengths.sort(descending=True, stable=True)
    tokens = (lengths > torch.arange(time)[:, None]).nonzero()  # (M, 2): steps, and places in the order
    places = order[tokens[:, 1]] * time + tokens[:, 0]
    sizes = tokens[:, 0].bincount().tolist()
    x = x.flatten(0, 1)[places]
    zeros = x.new_zeros(batch, kernel.hidden_size)

    def run(of_layer: list[Tensor], x: Tensor, place: int, backwards: bool) -> tuple[Tensor, State]:
        h, c = (zeros, zeros) if state is None else (part[place, order] for part in state)
        output, h, c = packed_lstm(x, sizes, h, c, LSTMWeights(*of_layer), backwards)
        return output, (h, c)

    x, states = _run_layers(kernel, weights, x, run)
    padded = x.new_zeros(batch * time, x.shape[-1]).index_copy(0, places, x).unflatten(0, (batch, time))
    back = order.argsort()
    return padded, map_state(lambda *parts: torch.stack(parts)[:, back], *states)


def _run_layers(
    kernel: nn.RNNBase,
    weights: Mapping[str, Tensor],
    x: Tensor,
    run: Callable[[list[Tensor], Tensor, int, bool], tuple[Tensor, State]],
) -> tuple[Tensor, list[State]]:
    """Runs layer upon layer, each in one direction or two; the last one's output, and the states of all.

    Args:
        kernel: says how many.
        weights: see `run_by_length`.
        x: what the first layer reads.
        run: runs a layer in one direction, from its weights, what it reads, its place in the state, and whether it
            reads backwards.
    """
    states: list[State] = []
    for layer in range(kernel.num_layers):
        x = F.dropout(x, kernel.dropout, kernel.training) if layer else x
        outputs = []
        for suffix in ("", "_reverse") if kernel.bidirectional else ("",):
            of_layer = [weights[f"{name}_l{layer}{suffix}"] for name in WEIGHTS]
            output, after = run(of_layer, x, len(states), bool(suffix))
            outputs.append(output)
            states.append(after)
        x = torch.cat(outputs, dim=-1)
    return x, states


def _run_one(
    kernel: nn.RNNBase, weights: list[Tensor], x: Tensor, state: State, lengths: Tensor
) -> tuple[Tensor, State]:
    """One layer in one direction, over rows of falling lengths."""
    function = getattr(torch, kernel.mode.lower())  # lstm, gru, rnn_tanh, rnn_relu
    ends = [end for end in lengths.unique().tolist() if end]
    durations = [end - start for start, end in pairwise([0, *ends, x.shape[1]])]
    outputs, ended = [], []
    for end, piece in zip(ends, x.split(durations, dim=1), strict=False):
        running = int((lengths >= end).sum())
        ended.append(map_state(lambda s, n=running: s[:, n:], state))
        state = map_state(lambda s, n=running: s[:, :n], state)
        output, *after = function(piece[:running], state, weights, True, 1, 0.0, kernel.training, False, True)
        state = after[0] if len(after) == 1 else tuple(after)
        outputs.append(F.pad(output, (0, 0, 0, 0, 0, len(x) - running)))
    h = state if isinstance(state, Tensor) else state[0]
    outputs.append(h.new_zeros(len(x), durations[-1], kernel.hidden_size))
    ended.append(state)
    # Under autocast the first states may be of another type.
    joined = map_state(lambda *parts: torch.cat([s.to(h.dtype) for s in reversed(parts)], dim=1), *ended)
    return torch.cat(outputs, dim=1), joined


def _zeros(kernel: nn.RNNBase, x: Tensor) -> State:
    zeros = x.new_zeros(1, len(x), kernel.hidden_size)
    return (zeros, zeros) if kernel.mode == "LSTM" else zeros
