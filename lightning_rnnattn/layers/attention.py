"""Attention over an explicit memory, for any score.

Letters: B batch, T query time, S key time, H heads.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lightning_rnnattn.errors import UserError, require_probability
from lightning_rnnattn.layers.normalizers import NormalizerFactory, Softmax
from lightning_rnnattn.ops.masks import combine_masks
from lightning_rnnattn.scores import ScaledDotScore, ScoreFactory

Projection = TypeVar("Projection")


class Memory(NamedTuple):
    """What can be attended to: made once by `Attention.memory`, then passed to every call.

    Attributes:
        key: projected keys, in the form of the score (a tensor or a NamedTuple of tensors, time in dimension -2).
        value: (B, H, S, value_dim / H).
        mask: (B, S) bool, True = attend; None for all.
    """

    key: Any
    value: Tensor
    mask: Tensor | None

    @property
    def visible(self) -> Tensor | None:
        """The mask for scores (B, H, T, S)."""
        return None if self.mask is None else self.mask[:, None, None, :]

    def last(self, size: int) -> "Memory":
        """The newest ``size`` positions; all where there are fewer."""
        start = max(self.value.shape[-2] - size, 0)
        mask = None if self.mask is None else self.mask[:, start:]
        return Memory(_map(lambda x: x[..., start:, :], self.key), self.value[..., start:, :], mask)

    def append(self, newer: "Memory") -> "Memory":
        """This memory, followed in time by a newer one of the same batch."""
        if self.mask is None and newer.mask is None:
            mask = None
        elif newer.mask is None:
            mask = F.pad(self.mask, (0, newer.value.shape[-2]), value=True)  # type: ignore[arg-type]
        elif self.mask is None:
            mask = F.pad(newer.mask, (self.value.shape[-2], 0), value=True)
        else:
            mask = torch.cat([self.mask, newer.mask], dim=-1)
        key = _map(lambda old, new: torch.cat([old, new], dim=-2), self.key, newer.key)
        return Memory(key, torch.cat([self.value, newer.value], dim=-2), mask)

    def sentences(self, index: Tensor) -> "Memory":
        """Some rows (B',) of the batch."""
        mask = None if self.mask is None else self.mask[index]
        return Memory(_map(lambda x: x[index], self.key), self.value[index], mask)


class Attention(nn.Module):
    r"""Weighs the values of a memory by how well their keys match each query.

    .. math:: c_i = \sum_j \alpha_{ij} v_j, \qquad \alpha_i = \mathrm{normalizer}_j(\mathrm{score}(s_i, h_j))

    The grid is free: any score, any number of heads, any normalizer, any mask. With several heads the values are split
    among them, and their contexts are mixed by a linear layer. A query with nothing to attend has a context of zero.

    Args:
        query_dim: features of a query.
        key_dim: features of a key.
        score: makes the score from (query_dim, key_dim, num_heads).
        num_heads: independent attentions, each over its share of the features.
        value_dim: features of a value; ``key_dim`` where not given.
        normalizer: makes the map from scores to weights.
        window: a query reaches positions less than this far from its own (with causality: the last ``window``
            positions, its own included); None for no limit. Time is aligned to the end of the memory.
        dropout: probability of dropping a weight, in training.

    Shapes:
        query (B, T, query_dim); key (B, S, key_dim); value (B, S, value_dim); context (B, T, value_dim);
        weights (B, H, T, S).

    Raises:
        UserError: if the heads do not divide the features, or a size is out of range.

    Example:
        >>> attention = Attention(query_dim=8, key_dim=6, score=AdditiveScore, num_heads=2)
        >>> encoded = torch.randn(3, 5, 6)
        >>> memory = attention.memory(encoded, mask=lengths_mask(torch.tensor([5, 3, 0])))
        >>> context, weights = attention(torch.randn(3, 4, 8), memory, need_weights=True)
        >>> context.shape, weights.shape
        (torch.Size([3, 4, 6]), torch.Size([3, 2, 4, 5]))
    """

    def __init__(
        self,
        query_dim: int,
        key_dim: int,
        *,
        score: ScoreFactory = ScaledDotScore,
        num_heads: int = 1,
        value_dim: int | None = None,
        normalizer: NormalizerFactory = Softmax,
        window: int | None = None,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        value_dim = key_dim if value_dim is None else value_dim
        if num_heads < 1 or value_dim % num_heads:
            raise UserError(
                f"num_heads={num_heads} does not divide value_dim={value_dim}: choose a divisor of {value_dim}"
            )
        if window is not None and window < 1:
            raise UserError(f"window={window}: a query must reach at least one position; leave it null for no limit")
        require_probability(dropout=dropout)
        self.num_heads = num_heads
        self.value_dim = value_dim
        self.window = window
        self.dropout = dropout
        self.score = score(query_dim, key_dim, num_heads)
        self.normalizer = normalizer()
        self.out_proj = nn.Linear(value_dim, value_dim, bias=False) if num_heads > 1 else nn.Identity()

    def memory(self, key: Tensor, value: Tensor | None = None, mask: Tensor | None = None) -> Memory:
        """Projects what will be attended to, once.

        Args:
            key: (B, S, key_dim).
            value: (B, S, value_dim); the keys where not given.
            mask: (B, S) bool, True = attend; None for all.
        """
        value = key if value is None else value
        heads = value.unflatten(-1, (self.num_heads, -1)).transpose(-3, -2)
        return Memory(self.score.project_key(key), heads, mask)

    def forward(
        self,
        query: Tensor,
        memory: Memory,
        *,
        mask: Tensor | None = None,
        is_causal: bool = False,
        need_weights: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """Attends to a memory.

        Args:
            query: (B, T, query_dim).
            memory: from `memory`.
            mask: bool, (T, S) or (B, T, S), True = attend, beside the memory's own; None for all.
            is_causal: hide later positions; the last query stands at the last key.
            need_weights: also return the weights (as used for the context, dropout included), at the cost of the fused
                path.

        Returns:
            Context (B, T, value_dim), and weights (B, H, T, S) or None.
        """
        q = self.score.project_query(query)
        visible = memory.visible
        if mask is not None:
            mask = mask.unsqueeze(-3)
            visible = mask if visible is None else visible & mask
        dropout_p = self.dropout if self.training else 0.0
        weights = None
        if type(self.normalizer) is Softmax and type(self).weigh is Attention.weigh and not need_weights:
            context = self.score.attend(
                q,
                memory.key,
                memory.value,
                mask=visible,
                is_causal=is_causal,
                window=self.window,
                dropout_p=dropout_p,
            )
        else:
            scores = self.score(q, memory.key)
            visible = combine_masks(
                visible, *scores.shape[-2:], is_causal=is_causal, window=self.window, device=scores.device
            )
            weights = F.dropout(self.weigh(scores, visible), dropout_p)
            context = weights @ memory.value
        return self._join_heads(context), weights if need_weights else None

    def weigh(self, scores: Tensor, mask: Tensor | None) -> Tensor:
        """Weights (B, H, T, S) of scores of that shape, for what a mask allows; a subclass may override it."""
        weights: Tensor = self.normalizer(scores, mask)
        return weights

    def steps(
        self, memory: Memory, num_steps: int, num_queries: int = 1, *, need_weights: bool = False
    ) -> Callable[[Tensor], tuple[Tensor, Tensor | None]]:
        """Attends to a memory from queries that come one step after another, each known when those before are done.

        Args:
            memory: from `memory`.
            num_steps: calls at most.
            num_queries: T of each call.
            need_weights: see `forward`.

        Returns:
            What takes each step's queries, in order, to what a call of this layer gives for them.
        """
        attend = None
        # What a subclass makes of `forward` is its own.
        if type(self) is Attention and type(self.normalizer) is Softmax and self.window is None and not need_weights:
            attend = self.score.attend_steps(
                memory.key,
                memory.value,
                mask=memory.visible,
                dropout_p=self.dropout if self.training else 0.0,
                num_steps=num_steps,
                num_queries=num_queries,
            )
        if attend is None:
            return partial(self, memory=memory, need_weights=need_weights)

        def step(query: Tensor) -> tuple[Tensor, None]:
            return self._join_heads(attend(self.score.project_query(query))), None

        return step

    def _join_heads(self, context: Tensor) -> Tensor:
        """(B, H, T, value_dim / H) to (B, T, value_dim)."""
        joined: Tensor = self.out_proj(context.transpose(-3, -2).flatten(-2))
        return joined

    def extra_repr(self) -> str:
        """Settings that are no submodules, for ``print(module)``."""
        return f"num_heads={self.num_heads}, window={self.window}, dropout={self.dropout}"


AttentionFactory = Callable[[int, int], Attention]
"""Makes an attention from (query_dim, key_dim): ``Attention``, or a ``functools.partial`` of it."""


def _map(function: Callable[..., Tensor], *projections: Projection) -> Projection:
    """Applies a function to the tensors of projections of one form."""
    if isinstance(projections[0], Tensor):
        return function(*projections)  # type: ignore[return-value]
    return type(projections[0])(*(_map(function, *parts) for parts in zip(*projections, strict=True)))
