"""Additive attention as its equations read; builds the (..., T, S, D) tensor that the fused operations avoid."""

import torch
from torch import Tensor
from torch.nn import functional as F

from lightning_rnnattn.ops.additive.exponentials import AdditiveKey, raw_key
from lightning_rnnattn.ops.masks import combine_masks
from lightning_rnnattn.ops.softmax import masked_softmax


def additive_score_reference(query: Tensor, key: Tensor | AdditiveKey, v: Tensor) -> Tensor:
    """`additive_score` as its equation reads."""
    units = torch.tanh(query.unsqueeze(-2) + raw_key(key).unsqueeze(-3))
    return (units * v[..., None, None, :]).sum(-1)


def additive_attention_reference(
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
    """`additive_attention` as its equations read."""
    score = additive_score_reference(query, key, v)
    visible = combine_masks(mask, *score.shape[-2:], is_causal=is_causal, window=window, device=score.device)
    weights = F.dropout(masked_softmax(score, visible), dropout_p)
    return weights @ value, weights if need_weights else None
