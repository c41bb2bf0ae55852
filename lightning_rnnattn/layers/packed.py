"""Torch's recurrent kernels over padded sequences of unequal lengths.

Letters: B batch, T time, D features, L layers times directions.
"""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from lightning_rnnattn.layers.rnn import State, map_state
from lightning_rnnattn.ops.masks import lengths_mask

PIECE = 32
"""Steps that `run_in_pieces` packs at once."""

WEIGHTS = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")

Call = Callable[[PackedSequence, State | None], tuple[PackedSequence, State]]
"""A recurrent kernel over packed sequences; no state stands for zeros."""


def better_in_pieces(x: Tensor) -> bool:
    """Whether to run in pieces: where gradients are wanted on a CPU, since torch's take T^2 time for T packed steps."""
    return x.device.type == "cpu" and x.shape[1] > PIECE and torch.is_grad_enabled()


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


def run_in_pieces(
    kernel: nn.RNNBase, weights: Mapping[str, Tensor], x: Tensor, state: State | None, lengths: Tensor
) -> tuple[Tensor, State]:
    """The same as the kernel over packed sequences, `PIECE` steps at a time.

    Args:
        kernel: torch's module.
        weights: all of its parameters, or what takes their place, by name.
        x: see `RNN.forward`.
        state: see `RNN.forward`.
        lengths: see `RNN.forward`.
    """
    steps = torch.arange(x.shape[1])
    # Reads backwards what is real, and leaves the rest where it is; twice is nothing.
    reverse = torch.where(lengths_mask(lengths, x.shape[1]), lengths[:, None] - 1 - steps, steps).unsqueeze(-1)
    suffixes = ("", "_reverse") if kernel.bidirectional else ("",)
    states: list[State] = []
    for layer in range(kernel.num_layers):
        x = F.dropout(x, kernel.dropout, kernel.training) if layer else x
        outputs = []
        for suffix in suffixes:
            call = _one_direction(kernel, [weights[f"{name}_l{layer}{suffix}"] for name in WEIGHTS])
            before = None if state is None else map_state(lambda s: s[len(states), None], state)
            output, after = _run_one(call, x.take_along_dim(reverse, 1) if suffix else x, before, lengths)
            outputs.append(output.take_along_dim(reverse, 1) if suffix else output)
            states.append(after)
        x = torch.cat(outputs, dim=-1)
    return x, map_state(lambda *parts: torch.cat(parts), *states)


def _run_one(call: Call, x: Tensor, state: State | None, lengths: Tensor) -> tuple[Tensor, State]:
    outputs = []
    for i, piece in enumerate(x.split(PIECE, dim=1)):
        output, state = run_packed(call, piece, state, (lengths - i * PIECE).clamp(0, piece.shape[1]))
        outputs.append(output)
    assert state is not None
    return torch.cat(outputs, dim=1), state


def _one_direction(kernel: nn.RNNBase, weights: list[Tensor]) -> Call:
    """One layer of a kernel in one direction."""
    function = getattr(torch, kernel.mode.lower())  # lstm, gru, rnn_tanh, rnn_relu

    def call(packed: PackedSequence, state: State | None) -> tuple[PackedSequence, State]:
        if state is None:
            zeros = packed.data.new_zeros(1, int(packed.batch_sizes[0]), kernel.hidden_size)
            state = (zeros, zeros) if kernel.mode == "LSTM" else zeros
        else:
            state = map_state(lambda s: s[:, packed.sorted_indices], state)
        data, *after = function(packed.data, packed.batch_sizes, state, weights, True, 1, 0.0, kernel.training, False)
        after = map_state(lambda s: s[:, packed.unsorted_indices], after[0] if len(after) == 1 else tuple(after))
        return PackedSequence(data, packed.batch_sizes, packed.sorted_indices, packed.unsorted_indices), after

    return call
