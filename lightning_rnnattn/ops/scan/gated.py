"""The recurrence of minimal gated units, its gates fused into the scan where a compiled loop runs.

Letters: B batch, T time, D features.
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from lightning_rnnattn.ops.native import takes, traced
from lightning_rnnattn.ops.scan import native
from lightning_rnnattn.ops.scan.scan import linear_scan, refuse_second_derivative, start_or_zeros


def gated_scan(
    update: Tensor,
    candidate: Tensor,
    forget: Tensor | None = None,
    start: Tensor | None = None,
    *,
    reverse: bool = False,
) -> Tensor:
    r"""All states of a network that forgets as much as it takes in (Feng et al. 2024, appendix B).

    .. math::
        h_t = (1 - z_t) \odot h_{t-1} + z_t \odot g(c_t), \qquad
        g(c) = \begin{cases} c + \frac{1}{2} & c \ge 0 \\ \sigma(c) & c < 0 \end{cases}

    with :math:`z_t = \sigma(u_t)`, or, with a forget gate, :math:`z_t = \sigma(u_t) / (\sigma(u_t) + \sigma(f_t))`. The
    paper takes logarithms of it all, for which it needs positive states. Here none are taken: coefficients in (0, 1)
    are stable as they are, and a state of any sign can be given.

    Args:
        update: u (B, T, D), T at least 1; where it is minus infinity, the state stays.
        candidate: c (B, T, D).
        forget: f (B, T, D), or None.
        start: (B, D), the state before the first step; zeros where None.
        reverse: whether time runs from the last step to the first.

    Returns:
        h (B, T, D) in the dtype of ``candidate``; half precision is computed in float32 and rounded once.

    Raises:
        ValueError: if the shapes do not fit.
        RuntimeError: if differentiated twice.

    Example:
        >>> gated_scan(torch.zeros(1, 3, 1), torch.full((1, 3, 1), 0.5)).flatten()  # half way to one, each time
        tensor([0.5000, 0.7500, 0.8750])
    """
    dtype = torch.promote_types(candidate.dtype, torch.float32)
    state = start_or_zeros(update, candidate, start, dtype)
    if forget is not None and forget.shape != update.shape:
        raise ValueError(f"forget is {tuple(forget.shape)}, update {tuple(update.shape)}: they must be of one shape")
    update, wide, forget = update.to(dtype), candidate.to(dtype), None if forget is None else forget.to(dtype)
    if traced():
        h = traceable_gated_scan(update, wide, forget, state, reverse)
    elif takes(wide) and native.library() is not None:
        h = gated_op(update, wide, forget, state, reverse)
    else:
        z = _share(update, forget).sigmoid()
        h = linear_scan(1 - z, z * _positive(wide), state, reverse=reverse)
    return h.to(candidate.dtype)


def traceable_gated_scan(
    update: Tensor, candidate: Tensor, forget: Tensor | None, start: Tensor, reverse: bool
) -> Tensor:
    r"""`gated_scan` without a loop, in operations that other formats know: a trace of it holds for any T.

    .. math::
        h_t = e^{A_t} \odot h_0 + \sum_{s \le t} e^{A_t - A_s} \odot z_s \odot g(c_s), \qquad
        A_t = \sum_{s \le t} \log(1 - z_s)

    It takes (B, T, T, D) of memory, and the differences of the sums lose some digits where T is long.
    """
    if reverse:
        forget = None if forget is None else forget.flip(1)
        return traceable_gated_scan(update.flip(1), candidate.flip(1), forget, start, reverse=False).flip(1)
    share = _share(update, forget)
    total = F.logsigmoid(-share).cumsum(1)
    time = torch.arange(total.shape[1], device=total.device)
    past = (time.unsqueeze(1) >= time).unsqueeze(-1)
    reach = (total.unsqueeze(2) - total.unsqueeze(1)).masked_fill(~past, -torch.inf).exp()
    taken = (share.sigmoid() * _positive(candidate)).unsqueeze(1)
    return total.exp() * start.unsqueeze(1) + (reach * taken).sum(2)


def _share(update: Tensor, forget: Tensor | None) -> Tensor:
    """The logit of z. A quotient of two gates that both underflow is right by the difference of their logarithms."""
    return update if forget is None else F.logsigmoid(update) - F.logsigmoid(forget)


def _positive(candidate: Tensor) -> Tensor:
    """What g makes of a candidate."""
    return candidate.relu() + candidate.clamp(max=0.0).sigmoid()


@torch.library.custom_op("lightning_rnnattn::gated_scan", mutates_args=())
def gated_op(update: Tensor, candidate: Tensor, forget: Tensor | None, start: Tensor, reverse: bool) -> Tensor:
    """See `gated_scan`."""
    return native.gated_scan(update, candidate, forget, start, reverse)


@torch.library.custom_op("lightning_rnnattn::gated_scan_backward", mutates_args=())
def gated_backward_op(
    grad: Tensor, update: Tensor, candidate: Tensor, forget: Tensor | None, start: Tensor, h: Tensor, reverse: bool
) -> list[Tensor]:
    """From the gradient of h, those of update, candidate, forget where there is one, and start."""
    return native.gated_scan_backward(grad.contiguous(), update, candidate, forget, start, h, reverse)


@gated_op.register_fake
def _(update: Tensor, candidate: Tensor, forget: Tensor | None, start: Tensor, reverse: bool) -> Tensor:
    return update.new_empty(update.shape)


@gated_backward_op.register_fake
def _(
    grad: Tensor, update: Tensor, candidate: Tensor, forget: Tensor | None, start: Tensor, h: Tensor, reverse: bool
) -> list[Tensor]:
    gates = [x for x in (update, candidate, forget) if x is not None]
    return [*(x.new_empty(x.shape) for x in gates), torch.empty_like(start)]


def _save(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    *tensors, ctx.reverse = inputs
    ctx.save_for_backward(*tensors, output)


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    grad_update, grad_candidate, *grad_forget, grad_start = gated_backward_op(grad, *ctx.saved_tensors, ctx.reverse)
    return grad_update, grad_candidate, grad_forget[0] if grad_forget else None, grad_start, None


gated_op.register_autograd(_backward, setup_context=_save)
gated_backward_op.register_autograd(refuse_second_derivative)
for _op in (gated_op, gated_backward_op):
    _op.register_autocast("cpu", torch.float32)
