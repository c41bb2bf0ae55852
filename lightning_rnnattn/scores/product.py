"""What the scores that are a dot product of projections share."""

from torch import Tensor
from torch.nn import functional as F

from lightning_rnnattn.errors import UserError
from lightning_rnnattn.ops.masks import combine_masks
from lightning_rnnattn.scores.base import AttentionScore


class ProductScore(AttentionScore):
    """A dot product of projected queries and keys, fused with the values by ``scaled_dot_product_attention``.

    A subclass overrides `project_query` or `project_key`; as it stands, nothing is projected. What scales the scores
    goes into the projected query, since the fused kernels know no learned scale.
    """

    def project_query(self, query: Tensor) -> Tensor:
        """(B, T, query_dim) to (B, H, T, d)."""
        return self.split_heads(query)

    def project_key(self, key: Tensor) -> Tensor:
        """(B, S, key_dim) to (B, H, S, d)."""
        return self.split_heads(key)

    def forward(self, query: Tensor, key: Tensor) -> Tensor:
        """Scores (B, H, T, S)."""
        return query @ key.transpose(-2, -1)  # which ONNX knows, unlike mT

    def attend(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        *,
        mask: Tensor | None = None,
        is_causal: bool = False,
        window: int | None = None,
        dropout_p: float = 0.0,
    ) -> Tensor:
        """See `AttentionScore.attend`."""
        num_queries, num_keys = query.shape[-2], key.shape[-2]
        unlimited = window is None or window >= num_keys
        if is_causal and mask is None and unlimited and num_queries == num_keys:
            return F.scaled_dot_product_attention(query, key, value, None, dropout_p, is_causal=True, scale=1.0)
        visible = combine_masks(mask, num_queries, num_keys, is_causal=is_causal, window=window, device=query.device)
        if visible is None:
            return F.scaled_dot_product_attention(query, key, value, None, dropout_p, scale=1.0)
        # A row with nothing to attend is NaN in some of torch's kernels, in value or in gradient: let it attend to
        # everything, and drop the result.
        empty = ~visible.any(-1, keepdim=True)
        context = F.scaled_dot_product_attention(query, key, value, visible | empty, dropout_p, scale=1.0)
        return context.masked_fill(empty, 0.0)

    def require_equal_sizes(self) -> None:
        """For a subclass that projects nothing: raises a `UserError` where queries and keys differ in size."""
        if self.query_dim != self.key_dim:
            raise UserError(
                f"{type(self).__name__} compares queries and keys of one size, not of {self.query_dim} "
                f"and {self.key_dim} features: use GeneralScore, which projects the keys"
            )
