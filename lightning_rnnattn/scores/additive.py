"""Additive score."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from lightning_rnnattn.ops.additive import AdditiveKey, additive_attention, additive_key, additive_score
from lightning_rnnattn.ops.additive_steps import AdditiveSteps
from lightning_rnnattn.scores.base import AttentionScore


class AdditiveScore(AttentionScore):
    r"""A layer of tanh units over query and key (Bahdanau et al. 2015, appendix A.1.2).

    .. math:: e_{ij} = v^\top \tanh(W s_i + U h_j + b)

    With several heads, each has its own v over its own share of the tanh units. The (B, T, S, D) tensor of tanh values
    is never built: see `lightning_rnnattn.ops.additive`.

    Args:
        query_dim: features of a query.
        key_dim: features of a key.
        num_heads: the tanh units are split among them.
        hidden_size: number of tanh units, all heads together; ``query_dim`` where not given.

    Raises:
        UserError: if the heads do not divide the tanh units.
    """

    def __init__(self, query_dim: int, key_dim: int, num_heads: int = 1, hidden_size: int | None = None) -> None:
        super().__init__(query_dim, key_dim, num_heads, hidden_size)
        self.query_proj = nn.Linear(query_dim, self.hidden_size)
        self.key_proj = nn.Linear(key_dim, self.hidden_size, bias=False)
        head_size = self.hidden_size // num_heads
        self.v = nn.Parameter(torch.empty(num_heads, head_size).uniform_(-(head_size**-0.5), head_size**-0.5))

    def project_query(self, query: Tensor) -> Tensor:
        """(B, T, query_dim) to (B, H, T, d)."""
        return self.split_heads(self.query_proj(query))

    def project_key(self, key: Tensor) -> AdditiveKey:
        """(B, S, key_dim) to (B, H, S, d), with the exponentials that every comparison needs."""
        return additive_key(self.split_heads(self.key_proj(key)).contiguous())

    def forward(self, query: Tensor, key: AdditiveKey) -> Tensor:
        """Scores (B, H, T, S)."""
        return additive_score(query, key, self.v)

    def attend(
        self,
        query: Tensor,
        key: AdditiveKey,
        value: Tensor,
        *,
        mask: Tensor | None = None,
        is_causal: bool = False,
        window: int | None = None,
        dropout_p: float = 0.0,
    ) -> Tensor:
        """See `AttentionScore.attend`; scores, softmax and values are fused."""
        context, _ = additive_attention(
            query, key, value, self.v, mask=mask, is_causal=is_causal, window=window, dropout_p=dropout_p
        )
        return context

    def attend_steps(
        self,
        key: AdditiveKey,
        value: Tensor,
        *,
        mask: Tensor | None = None,
        dropout_p: float = 0.0,
        num_steps: int,
        num_queries: int,
    ) -> Callable[[Tensor], Tensor] | None:
        """See `AttentionScore.attend_steps`; each step is one compiled loop, where there are such."""
        # What a subclass makes of `attend` is its own.
        if type(self) is AdditiveScore and dropout_p == 0 and AdditiveSteps.serves(key, value, self.v):
            return AdditiveSteps(key, value, self.v, mask, num_steps, num_queries)
        return None
