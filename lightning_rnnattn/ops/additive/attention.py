"""Attention by additive scores.

Letters: B batch, H heads, T query time, S key time, D features.
"""

from torch import Tensor
from torch.nn import functional as F

from lightning_rnnattn.ops.additive.exponentials import AdditiveKey
from lightning_rnnattn.ops.additive.fused import fused_attention
from lightning_rnnattn.ops.additive.paths import fuses_values
from lightning_rnnattn.ops.additive.score import reached_score
from lightning_rnnattn.ops.masks import combine_masks
from lightning_rnnattn.ops.native import upcast
from lightning_rnnattn.ops.softmax import masked_softmax


def additive_attention(
    query: Tensor,
    key: Tensor | AdditiveKey,
    value: Tensor,
    v: Tensor,
    *,
    mask: Tensor | None = None,
    is_causal: bool = False,
    window: int | None = None,
    dropout_p: float = 0.0,
    need_weights: bool = False,
) -> tuple[Tensor, Tensor | None]:
    r"""Values weighted by the softmax of additive scores (Bahdanau et al. 2015, equations 5 and 6).

    .. math:: c_t = \sum_s \alpha_{ts} y_s, \qquad \alpha_t = \mathrm{softmax}_s\, v^\top \tanh(q_t + k_s)

    See `additive_score` for how the scores are computed and how exact they are. Out of a query's reach (later keys if
    causal, keys outside the window) nothing is computed, forward or backward.

    Args:
        query: (..., T, D), projected.
        key: (..., S, D), projected; or from `additive_key`.
        value: (..., S, D_v), with the leading dimensions of query and key.
        v: (D,), or (H, D) for leading dimensions (..., H).
        mask: bool, broadcastable to (..., T, S), True = attend.
        is_causal: hide later keys; aligned to the end, see `lightning_rnnattn.ops.masks.band_mask`.
        window: number of positions in reach.
        dropout_p: probability of dropping a weight; always applied, as in ``scaled_dot_product_attention``.
        need_weights: also return the weights, dropout included.

    Returns:
        Context (..., T, D_v) in the dtype of ``value``, zeros where a query has nothing to attend; and the weights
        (..., T, S) or None.

    Raises:
        ValueError: if the shapes do not fit.
        RuntimeError: if differentiated twice.
    """
    before = None if window is None else window - 1
    after = 0 if is_causal else before
    if not need_weights and fuses_values(upcast(query).dtype, query.device):
        return fused_attention(query, key, value, v, mask, before, after, dropout_p), None
    score = reached_score(query, key, v, before, after)
    visible = combine_masks(mask, *score.shape[-2:], is_causal=is_causal, window=window, device=score.device)
    if mask is None and visible is not None and score.shape[-2] <= score.shape[-1]:
        weights = score.masked_fill(~visible, float("-inf")).softmax(
            -1
        )  # every query reaches its own position at least
    else:
        weights = masked_softmax(score, visible)
    weights = F.dropout(weights, dropout_p).to(value.dtype)
    return weights @ value, weights if need_weights else None
