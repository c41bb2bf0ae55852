"""Pure functions without parameters: what scores and layers are made of. Each has a readable reference beside it."""

from lightning_rnnattn.ops.additive import additive_attention, additive_score
from lightning_rnnattn.ops.crf import Allowed, Potentials, crf_decode, crf_log_partition, crf_marginals, crf_path_score
from lightning_rnnattn.ops.cross_entropy import linear_cross_entropy
from lightning_rnnattn.ops.entmax import entmax15, sparsemax
from lightning_rnnattn.ops.masks import band_mask, combine_masks, lengths_mask
from lightning_rnnattn.ops.scan import gated_scan, linear_scan, linear_scan_reference
from lightning_rnnattn.ops.softmax import masked_softmax
from lightning_rnnattn.ops.spans import SpanCounts, Spans, SpanTable, count_spans, find_spans

__all__ = [
    "Allowed",
    "Potentials",
    "SpanCounts",
    "SpanTable",
    "Spans",
    "additive_attention",
    "additive_score",
    "band_mask",
    "combine_masks",
    "count_spans",
    "crf_decode",
    "crf_log_partition",
    "crf_marginals",
    "crf_path_score",
    "entmax15",
    "find_spans",
    "gated_scan",
    "lengths_mask",
    "linear_cross_entropy",
    "linear_scan",
    "linear_scan_reference",
    "masked_softmax",
    "sparsemax",
]
