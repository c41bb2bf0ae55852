"""Pure functions without parameters: what scores and layers are made of. Each has a readable reference beside it."""

from lightning_rnnattn.ops.additive import additive_attention, additive_score
from lightning_rnnattn.ops.cross_entropy import linear_cross_entropy
from lightning_rnnattn.ops.entmax import entmax15, sparsemax
from lightning_rnnattn.ops.masks import band_mask, combine_masks, lengths_mask
from lightning_rnnattn.ops.softmax import masked_softmax

__all__ = [
    "additive_attention",
    "additive_score",
    "band_mask",
    "combine_masks",
    "entmax15",
    "lengths_mask",
    "linear_cross_entropy",
    "masked_softmax",
    "sparsemax",
]
