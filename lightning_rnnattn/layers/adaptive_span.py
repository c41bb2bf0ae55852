"""Attention that learns how far it needs to reach.

Letters: B batch, T query time, S key time, H heads.
"""

import math
from typing import Any

import torch
from torch import Tensor, nn

from lightning_rnnattn.errors import UserError, require_positive
from lightning_rnnattn.layers.attention import Attention
from lightning_rnnattn.layers.penalized import Penalized
from lightning_rnnattn.ops.masks import distances


class AdaptiveSpanAttention(Attention, Penalized):
    r"""Each head learns its span, a distance z beyond which keys fade out (Sukhbaatar et al. 2019, section 2.2).

    .. math::
        \alpha_{ij} = \frac{m_z(|i - j|) \, e^{x_{ij}}}{\sum_k m_z(|i - k|) \, e^{x_{ik}}}, \qquad
        m_z(d) = \min(\max((R + z - d) / R, 0), 1), \qquad z = e^\theta

    x being the scores and R the ramp. (The paper learns z itself, clipped at both ends.) Training starts with half of
    the window, which limits every span. What is learnt costs as much as the window; once it is known, one of z + R
    gives the same for less.

    Args:
        query_dim: features of a query.
        key_dim: features of a key.
        window: the longest span; see `Attention`.
        ramp: over how many positions a key fades out.
        span_penalty: what each position of the mean span adds to the training loss, in nats an item.
        options: see `Attention`.

    Raises:
        UserError: if there is no window, a size is out of range or the penalty is negative.

    Example:
        >>> attention = AdaptiveSpanAttention(8, 8, window=64, ramp=16)
        >>> attention.span
        tensor([32.], grad_fn=<ExpBackward0>)
    """

    def __init__(
        self,
        query_dim: int,
        key_dim: int,
        *,
        window: int | None = None,
        ramp: int = 32,
        span_penalty: float = 0.0,
        **options: Any,
    ) -> None:
        super().__init__(query_dim, key_dim, window=window, **options)
        if window is None:
            raise UserError(
                "window: null: a span needs a limit: give a number, 1024 say (a decoder has none: Attention there)"
            )
        require_positive(self, ramp=ramp)
        if not span_penalty >= 0:
            raise UserError(f"span_penalty={span_penalty} must be at least 0")
        self.ramp = ramp
        self.span_penalty = span_penalty
        self.log_span = nn.Parameter(torch.full((self.num_heads,), math.log(window / 2)))

    @property
    def span(self) -> Tensor:
        """z, (H,), in positions."""
        return self.log_span.exp()

    def penalty(self) -> Tensor:
        """See `Penalized.penalty`."""
        return self.span_penalty * self.span.mean()

    def weigh(self, scores: Tensor, mask: Tensor | None) -> Tensor:
        """See `Attention.weigh`."""
        distance = distances(scores.shape[-2], scores.shape[-1], scores.device).abs()
        share = ((self.ramp + self.span[:, None, None] - distance) / self.ramp).clamp(max=1.0)
        visible = share > 0
        faded = scores + share.where(visible, 1.0).log().to(scores.dtype)
        return self.normalizer(faded, visible if mask is None else visible & mask)

    def extra_repr(self) -> str:
        """The settings of `Attention`, and the spans."""
        spans = ", ".join(f"{span:.1f}" for span in self.span.tolist())
        return f"{super().extra_repr()}, span=[{spans}], ramp={self.ramp}, span_penalty={self.span_penalty}"
