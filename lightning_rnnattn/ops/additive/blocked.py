"""Additive scores in eager torch, a block of queries at a time: for any device and dtype, and without a compiler.

Letters: N batch × heads, T queries, S keys, D features, r = 1 / (1 + e^{2(q + k)}), so that tanh(q + k) = 1 - 2r.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from lightning_rnnattn.ops.additive.exponentials import AdditiveKey, exponential, products_hold

_BLOCK = 1 << 17  # elements of the one buffer: within the second-level cache, large enough to hide the cost of a call


def score(query: Tensor, key: AdditiveKey, v: Tensor, first: int, last: int) -> Tensor:
    """See `lightning_rnnattn.ops.additive.paths.Path`."""
    out = query.new_zeros(query.shape[0], query.shape[1], key.key.shape[1])
    total = v.sum(-1)
    for n, queries, keys, r in _reciprocals(query, key, first, last):
        head = n % len(v)
        out[n, queries, keys] = total[head] - 2 * (r @ v[head])
    return out


def score_backward(
    grad: Tensor, query: Tensor, key: AdditiveKey, v: Tensor, first: int, last: int
) -> tuple[Tensor, Tensor, Tensor]:
    """See `lightning_rnnattn.ops.additive.paths.Path`."""
    grad_query, grad_key = torch.zeros_like(query), torch.zeros_like(key.key)
    grad_v = grad.sum((1, 2)).unsqueeze(-1).repeat(1, v.shape[-1])
    for n, queries, keys, r in _reciprocals(query, key, first, last):
        g = grad[n, queries, keys]
        grad_v[n].addmv_(r.flatten(0, 1).t(), g.flatten(), alpha=-2)
        slope = r.addcmul_(r, r, value=-1)
        grad_query[n, queries] = torch.bmm(g.unsqueeze(1), slope).squeeze(1)
        grad_key[n, keys] += torch.bmm(g.t().unsqueeze(1), slope.transpose(0, 1)).squeeze(1)
    scale = 4 * v.repeat(len(query) // len(v), 1).unsqueeze(1)
    return grad_query * scale, grad_key * scale, grad_v


def _reciprocals(query: Tensor, key: AdditiveKey, first: int, last: int) -> Iterator[tuple[int, slice, slice, Tensor]]:
    """Yields (n, queries, keys, r (queries, keys, D)); r is overwritten by the next."""
    by_product = bool(products_hold(query, key.bound))
    a, b = (exponential(query), key.exp) if by_product else (query, key.key)
    num_queries, num_keys, features = query.shape[1], *b.shape[1:]
    step = max(1, _BLOCK // max(1, num_keys * features))
    buffer, one = query.new_empty(step * num_keys * features), query.new_ones(())
    for n in range(query.shape[0]):
        for start in range(0, num_queries, step):
            stop = min(start + step, num_queries)
            low, high = max(0, start + first), min(num_keys, stop - 1 + last)
            if low >= high:
                continue
            q, k = a[n, start:stop, None], b[n, low:high]
            r = buffer[: (stop - start) * (high - low) * features].view(stop - start, high - low, features)
            if by_product:
                torch.addcmul(one, q, k, out=r).reciprocal_()
            else:
                torch.add(q, k, out=r).mul_(-2).sigmoid_()
            yield n, slice(start, stop), slice(low, high), r
