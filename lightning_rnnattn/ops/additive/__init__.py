"""Additive attention in the memory of dot attention: the (B, T, S, D) tensor of tanh units is never built.

`additive_score` and `additive_attention` are the public operations, each with a reference of the same signature.
A score that projects its own keys calls them so::

    key = additive_key(self.key_proj(key))  # in project_key: once per sequence; or pass the projected keys as they are
    additive_attention(self.query_proj(query), key, value, self.v, mask=mask)

How it is laid out: `exponentials` holds the arithmetic and the form of prepared keys; `score` and `attention` the
operations; `paths` chooses among `native` (compiled C++ for CPUs), `triton_kernels` (CUDA) and `blocked` (eager torch).
"""

from lightning_rnnattn.ops.additive.attention import additive_attention
from lightning_rnnattn.ops.additive.exponentials import AdditiveKey, additive_key
from lightning_rnnattn.ops.additive.reference import additive_attention_reference, additive_score_reference
from lightning_rnnattn.ops.additive.score import additive_score

__all__ = [
    "AdditiveKey",
    "additive_attention",
    "additive_attention_reference",
    "additive_key",
    "additive_score",
    "additive_score_reference",
]
