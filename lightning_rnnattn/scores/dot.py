"""Dot product."""

from lightning_rnnattn.scores.product import ProductScore


class DotScore(ProductScore):
    r"""Dot product of query and key (Luong et al. 2015, equation 8, "dot"); no parameters.

    .. math:: e_{ij} = s_i^\top h_j

    Args:
        query_dim: features of a query; must equal ``key_dim``.
        key_dim: features of a key.
        num_heads: the features are split among them.

    Raises:
        UserError: if the sizes differ, or the heads do not divide them.

    Example:
        >>> score = DotScore(2, 2)
        >>> query, key = torch.tensor([[[1.0, 2.0]]]), torch.tensor([[[3.0, 4.0], [0.0, 1.0]]])
        >>> score(score.project_query(query), score.project_key(key))
        tensor([[[[11.,  2.]]]])
    """

    def __init__(self, query_dim: int, key_dim: int, num_heads: int = 1) -> None:
        super().__init__(query_dim, key_dim, num_heads)
        self.require_equal_sizes()
