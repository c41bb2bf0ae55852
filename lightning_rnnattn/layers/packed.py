"""Torch's recurrent kernels over padded sequences of unequal lengths.

Letters: B batch, T time, D features, L layers times directions.
"""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from lightning_rnnattn.layers.rnn import State, map_state
from lightning_rnnattn.layers.steps import Layers, stack, unstack
from lightning_rnnattn.ops.native import autocast_dtype
from lightning_rnnattn.ops.recurrent import LayerWeights, packed_layer, serves

WEIGHTS = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")

Call = Callable[[PackedSequence, State | None], tuple[PackedSequence, State]]
"""A recurrent kernel over packed sequences; no state stands for zeros."""


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


def is_plain(kernel: nn.Module) -> bool:
    """Whether its parameters are all that a call reads: no hook runs, and none is pruned, normalised or the like."""
    hooks = kernel._forward_hooks or kernel._forward_pre_hooks
    return not hooks and {name for name, _ in kernel.named_parameters()} == {*kernel._flat_weights_names}  # type: ignore[misc]


def compiles(kernel: nn.RNNBase, weights: Mapping[str, Tensor], x: Tensor, state: State | None) -> bool:
    """Whether `run_compiled` serves; what does not fit is left to torch's own errors. For the arguments see there."""
    if not serves(x, list(weights.values())):
        return False
    parts = () if state is None else (state,) if isinstance(state, Tensor) else state
    pair = state is None or isinstance(state, tuple) == (kernel.mode == "LSTM")
    # Under autocast a state may come from a call without it, or with.
    same = all(part.device == x.device and (part.dtype == x.dtype or autocast_dtype("cpu")) for part in parts)
    return pair and same and x.shape[-1] == kernel.input_size and is_plain(kernel)


def run_compiled(
    kernel: nn.RNNBase, weights: Mapping[str, Tensor], x: Tensor, state: State | None, lengths: Tensor
) -> tuple[Tensor, State]:
    """The same as `run_packed`, by `packed_layer`.

    Args:
        kernel: torch's module.
        weights: all of its parameters, or what takes their place, by name.
        x: see `RNN.forward`.
        state: see `RNN.forward`.
        lengths: see `RNN.forward`.
    """
    batch, time, _ = x.shape
    lengths, order = lengths.sort(descending=True, stable=True)
    steps = torch.arange(time, device=lengths.device)
    tokens = (lengths > steps[:, None]).nonzero()  # (M, 2): steps, and places in the order
    places = order[tokens[:, 1]] * time + tokens[:, 0]
    sizes = tokens[:, 0].bincount().tolist()
    x = x.flatten(0, 1)[places]
    if state is None:
        zeros = x.new_zeros(kernel.num_layers * (1 + kernel.bidirectional), batch, kernel.hidden_size)
        state = (zeros, zeros) if kernel.mode == "LSTM" else zeros
    before = unstack(map_state(lambda part: part[:, order], state))
    after: Layers = []
    for layer in range(kernel.num_layers):
        x = F.dropout(x, kernel.dropout, kernel.training) if layer else x
        outputs = []
        for suffix in ("", "_reverse") if kernel.bidirectional else ("",):
            of_layer = LayerWeights(*(weights[f"{name}_l{layer}{suffix}"] for name in WEIGHTS))
            output, parts = packed_layer(kernel.mode, x, sizes, before[len(after)], of_layer, bool(suffix))
            outputs.append(output)
            after.append(parts)
        x = torch.cat(outputs, dim=-1)
    padded = x.new_zeros(batch * time, x.shape[-1]).index_copy(0, places, x).unflatten(0, (batch, time))
    back = order.argsort()
    return padded, map_state(lambda part: part[:, back], stack(after))
