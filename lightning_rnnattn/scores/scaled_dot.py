"""Scaled dot product."""

from torch import Tensor, nn

from lightning_rnnattn.scores.product import ProductScore


class ScaledDotScore(ProductScore):
    r"""Dot product over the root of its length, with projections where asked (Vaswani et al. 2017, equation 1).

    .. math:: e_{ij} = \frac{(W_q s_i)^\top (W_k h_j)}{\sqrt{d}}

    Args:
        query_dim: features of a query; must equal ``key_dim`` where nothing is projected.
        key_dim: features of a key.
        num_heads: the features are split among them; d is the size of a share.
        hidden_size: size of the projections, all heads together; None for :math:`W = I`, without parameters.

    Raises:
        UserError: if the sizes differ and nothing is projected, or the heads do not divide them.

    Example:
        >>> score = ScaledDotScore(4, 4, num_heads=2)
        >>> query = key = torch.ones(1, 1, 4)
        >>> score(score.project_query(query), score.project_key(key)).flatten()  # 2 / sqrt(2), for each head
        tensor([1.4142, 1.4142])
    """

    def __init__(self, query_dim: int, key_dim: int, num_heads: int = 1, hidden_size: int | None = None) -> None:
        super().__init__(query_dim, key_dim, num_heads, hidden_size)
        self.query_proj: nn.Module = nn.Identity()
        self.key_proj: nn.Module = nn.Identity()
        if hidden_size is None:
            self.require_equal_sizes()
        else:
            self.query_proj = nn.Linear(query_dim, hidden_size, bias=False)
            self.key_proj = nn.Linear(key_dim, hidden_size, bias=False)

    def project_query(self, query: Tensor) -> Tensor:
        """(B, T, query_dim) to (B, H, T, d), scaled."""
        return self.split_heads(self.query_proj(query)) * (self.hidden_size / self.num_heads) ** -0.5

    def project_key(self, key: Tensor) -> Tensor:
        """(B, S, key_dim) to (B, H, S, d)."""
        return self.split_heads(self.key_proj(key))
