"""Cosine similarity with a learned scale."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lightning_rnnattn.scores.product import ProductScore


class CosineScore(ProductScore):
    r"""Cosine of the angle between query and key, times a learned scale (Graves et al. 2014, equations 5 and 6).

    .. math:: e_{ij} = g \, \frac{s_i^\top h_j}{\lVert s_i \rVert \, \lVert h_j \rVert}, \qquad g = e^\theta > 0

    Each head has its own scale. A zero vector scores zero with everything.

    Args:
        query_dim: features of a query; must equal ``key_dim``.
        key_dim: features of a key.
        num_heads: the features are split among them.
        init_scale: g before training. Cosines lie within ±1, so a softmax of them is nearly flat at g = 1.

    Raises:
        UserError: if the sizes differ, or the heads do not divide them.
    """

    def __init__(self, query_dim: int, key_dim: int, num_heads: int = 1, init_scale: float = 10.0) -> None:
        super().__init__(query_dim, key_dim, num_heads)
        self.require_equal_sizes()
        self.log_scale = nn.Parameter(torch.full((num_heads, 1, 1), math.log(init_scale)))

    def project_query(self, query: Tensor) -> Tensor:
        """(B, T, query_dim) to (B, H, T, d) of length g."""
        return (self._unit(query) * self.log_scale.exp()).to(query.dtype)

    def project_key(self, key: Tensor) -> Tensor:
        """(B, S, key_dim) to (B, H, S, d) of length 1."""
        return self._unit(key).to(key.dtype)

    def _unit(self, features: Tensor) -> Tensor:
        # In half precision small squares underflow, and the slope near zero overflows: normalise in float32,
        # and let vectors shorter than the dtype's resolution fade to zero.
        eps = torch.finfo(features.dtype).eps
        features = features.float() if features.dtype in (torch.float16, torch.bfloat16) else features
        return F.normalize(self.split_heads(features), dim=-1, eps=eps)
