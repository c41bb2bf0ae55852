"""The linear recurrence in eager torch, for any device and without a compiler.

Letters: B batch, T time, D features, C steps of a chunk, K chunks.

Time is cut into about √T chunks of about √T steps. All chunks make their steps side by side as if nothing came before
them, then hand on their last states one after another: about 3√T calls, each over a √T-th of the data, in place of T.
Nothing is divided and no logarithm is taken, so that it is as exact as the loop, for coefficients of any size and sign.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional as F


def scan(a: Tensor, b: Tensor, start: Tensor, reverse: bool) -> Tensor:
    """The states h (B, T, D); see `lightning_rnnattn.ops.scan.linear_scan`. All are contiguous, in one dtype."""
    if reverse:
        return scan(a.flip(1), b.flip(1), start, reverse=False).flip(1)
    batch, steps, features = a.shape
    size = math.isqrt(max(steps - 1, 0)) + 1
    count = -(-steps // size)
    padding = (0, 0, 0, count * size - steps)
    shape = (batch, count, size, features)
    h, reach = F.pad(b, padding).view(shape).clone(), F.pad(a, padding).view(shape).clone()
    for i in range(1, size):
        h[:, :, i].addcmul_(reach[:, :, i], h[:, :, i - 1])
        reach[:, :, i].mul_(reach[:, :, i - 1])  # the product of the chunk's coefficients so far
    before = torch.empty_like(h[:, :, 0])  # (B, K, D), the state that each chunk begins with
    state = start
    for chunk in range(count):
        before[:, chunk] = state
        state = torch.addcmul(h[:, chunk, -1], reach[:, chunk, -1], state)
    return h.addcmul_(reach, before.unsqueeze(2)).view(batch, count * size, features)[:, :steps].contiguous()


def scan_backward(grad: Tensor, a: Tensor, start: Tensor, h: Tensor, reverse: bool) -> tuple[Tensor, Tensor, Tensor]:
    r"""From the gradient of h, those of a, b and start.

    The gradient that reaches b is a scan in the other direction, :math:`g_t = \partial h_t + a_{t+1} g_{t+1}`; from it
    follow :math:`\partial a_t = g_t h_{t-1}` and :math:`\partial h_0 = a_1 g_1`.
    """
    if reverse:
        flipped = scan_backward(grad.flip(1), a.flip(1), start, h.flip(1), reverse=False)
        return flipped[0].flip(1), flipped[1].flip(1), flipped[2]
    following = F.pad(a[:, 1:], (0, 0, 0, 1))
    grad_b = scan(following, grad, torch.zeros_like(start), reverse=True)
    before = torch.cat([start.unsqueeze(1), h[:, :-1]], dim=1)
    return grad_b * before, grad_b, a[:, 0] * grad_b[:, 0]
