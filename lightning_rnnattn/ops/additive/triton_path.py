"""Launches the Triton kernels: additive scores and attention on CUDA (or anywhere, in Triton's interpreter).

Letters: N batch × heads, H heads, T queries, S keys, D features, V value features.

The forward pass keeps, beside its result, one number for each query. The backward pass holds the weights of a bounded
number of queries at a time, from which the gradients of query and key are two more passes of reciprocals; nothing is
added up by atomic operations, so results repeat bit for bit.
"""

import importlib.util
import os
from typing import Any, NamedTuple

import torch
from torch import Tensor

from lightning_rnnattn.errors import UserError
from lightning_rnnattn.ops.additive.exponentials import AdditiveKey, exponential, products_hold

_INSTALLED = importlib.util.find_spec("triton") is not None
_INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"  # read once, as triton does
_WORKSPACE = 1 << 24  # scores that the backward pass holds at a time

BLOCKS_SETTING = "LIGHTNING_RNNATTN_ADDITIVE_BLOCKS"
BLOCKS = ((16, 32, 8), (16, 64, 4), (32, 32, 4), (16, 32, 16), (32, 32, 8), (16, 64, 8))
"""Tiles (queries, keys, features) worth trying on a card; the first is taken unless the setting names another.

A tile's elements lie in the registers of 128 threads: 32 each for the first three, which differ in how often a query
or a key is loaded again; 64 each for the others, which load less and leave room for fewer programs at once. Below 16
queries the tensor cores are idle, and beyond 64 elements a thread spills.
"""


def available(device: torch.device) -> bool:
    """Whether kernels can run: triton is installed, and the device is CUDA or the interpreter is on."""
    return _INSTALLED and (device.type == "cuda" or _INTERPRETED)


class Visibility(NamedTuple):
    """Which keys the queries may attend to, and which weights are dropped.

    Attributes:
        mask: (B, H', T, S) bool, broadcast by strides of zero, or None.
        first: query t reaches keys from t + first,
        last: up to t + last, exclusive.
        dropout_p: probability of dropping a weight.
        seed: (1,) int64, or None without dropout.
    """

    mask: Tensor | None
    first: int
    last: int
    dropout_p: float
    seed: Tensor | None


def score(query: Tensor, key: AdditiveKey, v: Tensor, first: int, last: int) -> Tensor:
    """See `lightning_rnnattn.ops.additive.paths.Path`."""
    from lightning_rnnattn.ops.additive import triton_kernels as kernels

    operands, (size, num_queries, num_keys, features) = _operands(query, key, v)
    out = query.new_empty(size, num_queries, num_keys)
    if out.numel():
        blocks = _blocks(num_queries)
        grid = (_ceil(num_queries, blocks["BT"]), _ceil(num_keys, blocks["BS"]), size)
        kernels.score_kernel[grid](*operands, out, len(v), num_queries, num_keys, features, first, last, **blocks)
    return out


def score_backward(
    grad: Tensor, query: Tensor, key: AdditiveKey, v: Tensor, first: int, last: int
) -> tuple[Tensor, Tensor, Tensor]:
    """See `lightning_rnnattn.ops.additive.paths.Path`."""
    grad_key = torch.zeros_like(key.key)
    grad_query, grad_v = _score_backward(grad, _operands(query, key, v)[0], grad_key, first, last)
    return grad_query, grad_key, grad_v


def attention(query: Tensor, key: AdditiveKey, value: Tensor, v: Tensor, seen: Visibility) -> tuple[Tensor, Tensor]:
    """Context (N, T, V) and the logarithms of the softmax's denominators (N, T), of values (N, S, V)."""
    from lightning_rnnattn.ops.additive import triton_kernels as kernels

    operands, (size, num_queries, num_keys, features) = _operands(query, key, v)
    width = value.shape[-1]
    context, lse = query.new_zeros(size, num_queries, width), query.new_zeros(size, num_queries)
    if context.numel() and num_keys:
        blocks = _blocks(num_queries)
        kernels.attention_kernel[(_ceil(num_queries, blocks["BT"]), size)](
            *operands, value, *_mask(seen, value), context, lse, *_strides(seen.mask),
            len(v), num_queries, num_keys, features, width, seen.first, seen.last, seen.dropout_p,
            HAS_MASK=seen.mask is not None, DROPOUT=seen.dropout_p > 0, BV=max(16, _power(width)),
            num_warps=8 if width > 128 else 4, **blocks,
        )  # fmt: skip
    return context, lse


def attention_backward(
    grad: Tensor,
    query: Tensor,
    key: AdditiveKey,
    value: Tensor,
    v: Tensor,
    context: Tensor,
    lse: Tensor,
    seen: Visibility,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Gradients to query (N, T, D), key (N, S, D), value (N, S, V) and v (N, D)."""
    from lightning_rnnattn.ops.additive import triton_kernels as kernels

    (a, b, v, narrow), (size, num_queries, num_keys, features) = _operands(query, key, v)
    width = value.shape[-1]
    delta = (grad * context).sum(-1)
    grad_query, grad_key, grad_value = torch.zeros_like(query), torch.zeros_like(key.key), torch.zeros_like(value)
    grad_v = v.new_zeros(size, features)
    step = max(16, _WORKSPACE // max(1, size * num_keys)) if grad_query.numel() and num_keys else num_queries
    for start in range(0, num_queries if num_keys else 0, max(1, step)):
        rows = slice(start, start + step)
        count = min(step, num_queries - start)
        weights, grad_score = (query.new_empty(size, count, num_keys) for _ in range(2))
        part = seen._replace(
            mask=None if seen.mask is None else seen.mask[:, :, rows], first=seen.first + start, last=seen.last + start
        )
        operands = (a[:, rows].contiguous(), b, v, narrow)
        grad_rows = grad[:, rows].contiguous()
        blocks = _blocks(2)  # of many queries: the tensor cores take no fewer than 16 rows
        grid = (_ceil(count, blocks["BT"]), _ceil(num_keys, blocks["BS"]), size)
        kernels.grad_score_kernel[grid](
            grad_rows, *operands, value, *_mask(part, value), lse[:, rows].contiguous(), delta[:, rows].contiguous(),
            weights, grad_score, *_strides(part.mask), len(v), count, num_keys, features, width,
            part.first, part.last, start, num_queries, part.dropout_p,
            HAS_MASK=part.mask is not None, DROPOUT=part.dropout_p > 0, BV=min(64, max(16, _power(width))), **blocks,
        )  # fmt: skip
        grad_value.baddbmm_(weights.mT, grad_rows)
        grad_query[:, rows], grad_v_rows = _score_backward(grad_score, operands, grad_key, part.first, part.last)
        grad_v += grad_v_rows
    return grad_query, grad_key, grad_value, grad_v


def _score_backward(
    grad: Tensor, operands: tuple[Tensor, ...], grad_key: Tensor, first: int, last: int
) -> tuple[Tensor, Tensor]:
    """Gradients to query and v; that of the keys is added to ``grad_key``."""
    from lightning_rnnattn.ops.additive import triton_kernels as kernels

    a, b, v, _ = operands
    (size, num_queries, features), num_keys = a.shape, b.shape[1]
    blocks = _blocks(num_queries)
    tiles = _ceil(num_queries, blocks["BT"])
    grad_query, grad_v = torch.zeros_like(a), a.new_zeros(size, tiles, features)
    if grad.numel():
        sizes = (len(v), num_queries, num_keys, features, first, last)
        columns = _ceil(features, blocks["BD"])
        kernels.grad_query_kernel[(tiles, columns, size)](grad, *operands, grad_query, grad_v, *sizes, **blocks)
        grid = (_ceil(num_keys, blocks["BS"]), columns, size)
        kernels.grad_key_kernel[grid](grad, *operands, grad_key, *sizes, **blocks)
    return grad_query, grad_v.sum(1)


def _operands(
    query: Tensor, key: AdditiveKey, v: Tensor
) -> tuple[tuple[Tensor, Tensor, Tensor, Tensor], tuple[int, int, int, int]]:
    """What the kernels call a, b, v and narrow (decided on the device, without waiting for it), and N, T, S, D."""
    narrow = products_hold(query, key.bound)
    a = torch.where(narrow, exponential(query), query)
    b = torch.where(narrow, key.exp, key.key)
    return (a, b, v, narrow.to(torch.int32)), (*query.shape[:2], key.key.shape[1], query.shape[2])


def _blocks(num_queries: int) -> dict[str, int]:
    """The tile of a program: by number of queries and a setting, never by a timing, so that a run repeats itself."""
    if num_queries == 1:  # as in decoding: wastes no rows, and reads longer ones
        return {"BT": 1, "BS": 64, "BD": 16}
    setting = os.environ.get(BLOCKS_SETTING)
    if setting is None:
        return dict(zip(("BT", "BS", "BD"), BLOCKS[0], strict=True))
    known = {"x".join(map(str, blocks)): blocks for blocks in BLOCKS}
    if setting not in known:
        raise UserError(f"{BLOCKS_SETTING}={setting} is unknown: choose one of {', '.join(known)}")
    return dict(zip(("BT", "BS", "BD"), known[setting], strict=True))


def _mask(seen: Visibility, unused: Tensor) -> tuple[Tensor, Tensor]:
    # A kernel that reads no mask or seed still takes a pointer.
    return unused if seen.mask is None else seen.mask, unused if seen.seed is None else seen.seed


def _strides(mask: Tensor | None) -> tuple[Any, ...]:
    return (0, 0, 0, 0, 1) if mask is None else (*mask.stride(), mask.shape[1])


def _ceil(size: int, block: int) -> int:
    return (size + block - 1) // block


def _power(size: int) -> int:
    return 1 << max(0, size - 1).bit_length()
