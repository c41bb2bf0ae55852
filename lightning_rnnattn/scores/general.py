"""Bilinear score."""

from torch import Tensor, nn

from lightning_rnnattn.scores.product import ProductScore


class GeneralScore(ProductScore):
    r"""Bilinear form of query and key (Luong et al. 2015, equation 8, "general").

    .. math:: e_{ij} = s_i^\top W h_j

    With several heads, query and projected key are split: head h compares its share of :math:`s_i` with its share of
    :math:`W h_j`.

    Args:
        query_dim: features of a query.
        key_dim: features of a key.
        num_heads: the query's features are split among them.

    Raises:
        UserError: if the heads do not divide ``query_dim``.
    """

    def __init__(self, query_dim: int, key_dim: int, num_heads: int = 1) -> None:
        super().__init__(query_dim, key_dim, num_heads)
        self.key_proj = nn.Linear(key_dim, query_dim, bias=False)

    def project_key(self, key: Tensor) -> Tensor:
        """(B, S, key_dim) to (B, H, S, d)."""
        return self.split_heads(self.key_proj(key))
