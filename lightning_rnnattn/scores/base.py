"""What every attention score is.

Letters: B batch, T query time, S key time, H heads, d features of one head.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from lightning_rnnattn.errors import UserError
from lightning_rnnattn.ops.masks import combine_masks
from lightning_rnnattn.ops.softmax import masked_softmax


class AttentionScore(nn.Module, ABC):
    """How well each query matches each key: e_ij = score(s_i, h_j).

    A score owns its projections and its heads. Queries and keys are projected once per sequence, then compared; what a
    key's projection holds is the score's own business (a tensor, or a NamedTuple of tensors), as long as the batch is
    dimension 0 and time is dimension -2, so that a memory can be indexed, sliced and grown.

    To write a score, override `project_query`, `project_key` and `forward`::

        class NegativeDistance(AttentionScore):
            def project_query(self, query):
                return self.split_heads(query)

            def project_key(self, key):
                return self.split_heads(key)

            def forward(self, query, key):
                return -torch.cdist(query, key)

    Args:
        query_dim: features of a query.
        key_dim: features of a key.
        num_heads: independent comparisons, each over its own share of the features.
        hidden_size: features that are compared, all heads together; ``query_dim`` where not given.

    Raises:
        UserError: if the heads do not divide the features that are compared.
    """

    def __init__(self, query_dim: int, key_dim: int, num_heads: int = 1, hidden_size: int | None = None) -> None:
        super().__init__()
        self.query_dim = query_dim
        self.key_dim = key_dim
        self.num_heads = num_heads
        self.hidden_size = query_dim if hidden_size is None else hidden_size
        if num_heads < 1 or self.hidden_size % num_heads:
            raise UserError(
                f"num_heads={num_heads} does not divide the {self.hidden_size} features that {type(self).__name__} "
                f"compares: choose a divisor of {self.hidden_size}"
            )

    @abstractmethod
    def project_query(self, query: Tensor) -> Any:
        """(B, T, query_dim) to what `forward` takes first."""

    @abstractmethod
    def project_key(self, key: Tensor) -> Any:
        """(B, S, key_dim) to what `forward` takes second; batch is dimension 0, time dimension -2."""

    @abstractmethod
    def forward(self, query: Any, key: Any) -> Tensor:
        """Scores (B, H, T, S) of projected queries and keys."""

    def attend(
        self,
        query: Any,
        key: Any,
        value: Tensor,
        *,
        mask: Tensor | None = None,
        is_causal: bool = False,
        window: int | None = None,
        dropout_p: float = 0.0,
    ) -> Tensor:
        """Context under softmax weights; override it where scores and values can be fused.

        Args:
            query: from `project_query`.
            key: from `project_key`.
            value: (B, H, S, value_dim / H).
            mask: bool, broadcastable to (B, H, T, S), True = attend.
            is_causal: hide later keys; aligned to the end, see `lightning_rnnattn.ops.masks.band_mask`.
            window: number of positions in reach.
            dropout_p: probability of dropping a weight.

        Returns:
            (B, H, T, value_dim / H); zeros where a query has nothing to attend.
        """
        scores = self(query, key)
        mask = combine_masks(
            mask, scores.shape[-2], scores.shape[-1], is_causal=is_causal, window=window, device=scores.device
        )
        return F.dropout(masked_softmax(scores, mask), dropout_p) @ value

    def attend_steps(
        self,
        key: Any,
        value: Tensor,
        *,
        mask: Tensor | None = None,
        dropout_p: float = 0.0,
        num_steps: int,
        num_queries: int,
    ) -> Callable[[Any], Tensor] | None:
        """`attend` for queries that come one step after another; override it where steps can share work.

        Args:
            key: see `attend`.
            value: see `attend`.
            mask: see `attend`; the same for all queries.
            dropout_p: see `attend`.
            num_steps: calls at most.
            num_queries: T of each call.

        Returns:
            What takes each step's queries, in order, to their contexts; None where `attend` does as well.
        """
        return None

    def split_heads(self, features: Tensor) -> Tensor:
        """(B, T, H·d) to (B, H, T, d)."""
        return features.unflatten(-1, (self.num_heads, -1)).transpose(-3, -2)

    def extra_repr(self) -> str:
        """Sizes, for ``print(module)``."""
        return f"query_dim={self.query_dim}, key_dim={self.key_dim}, num_heads={self.num_heads}"


ScoreFactory = Callable[[int, int, int], AttentionScore]
"""Makes a score from (query_dim, key_dim, num_heads): a class, or a ``functools.partial`` of one."""
