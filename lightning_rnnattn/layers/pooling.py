"""From a sequence to one vector.

Letters: B batch, T time, D features, R learnt queries, H heads.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable

import torch
from torch import Tensor, nn

from lightning_rnnattn.errors import UserError, require_positive
from lightning_rnnattn.layers.attention import Attention, AttentionFactory


class Pooling(nn.Module, ABC):
    """Makes one vector of a sequence; of a sequence with nothing in it, zeros.

    Args:
        input_size: D, features of an element.
        directions: of the recurrent network that the elements come from; with 2, the second half of their features was
            computed from the end.

    Attributes:
        output_size: features of the vector.
    """

    def __init__(self, input_size: int, directions: int = 1) -> None:
        super().__init__()
        require_positive(self, input_size=input_size)
        if input_size % directions:
            raise UserError(f"input_size={input_size} are no features of {directions} directions")
        self.input_size = input_size
        self.directions = directions
        self.output_size = input_size

    @abstractmethod
    def forward(self, x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor | None]:
        """Pools a sequence.

        Args:
            x: (B, T, D).
            mask: (B, T) bool, True = part of the sequence.

        Returns:
            Vector (B, output_size); and weights (B, R, T) where elements have weights, else None.
        """


PoolingFactory = Callable[[int, int], Pooling]
"""Makes a pooling from (input_size, directions) of a recurrent network: a class, or a ``functools.partial`` of one."""


class MeanPooling(Pooling):
    r"""The mean of the elements.

    .. math:: \bar x = \frac{1}{n} \sum_t x_t
    """

    def forward(self, x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor | None]:
        """See `Pooling.forward`; the weights are equal."""
        weights = mask.to(x.dtype) / mask.sum(-1, keepdim=True).clamp(min=1).to(x.dtype)
        weights = weights.unsqueeze(1)
        return (weights @ x.masked_fill(~mask.unsqueeze(-1), 0.0)).squeeze(1), weights


class MaxPooling(Pooling):
    r"""The largest value of each feature.

    .. math:: m_d = \max_t x_{td}
    """

    def forward(self, x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor | None]:
        """See `Pooling.forward`; there are no weights."""
        largest = x.masked_fill(~mask.unsqueeze(-1), -torch.inf).amax(1)
        return largest.masked_fill(~mask.any(-1, keepdim=True), 0.0), None


class LastPooling(Pooling):
    """The last element; of a bidirectional network, each direction's own last, which backwards is the first element."""

    def forward(self, x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor | None]:
        """See `Pooling.forward`; there are no weights."""
        place = torch.arange(x.shape[1], device=x.device)
        rows = torch.arange(len(x), device=x.device)
        vector = x[rows, place.masked_fill(~mask, -1).amax(1)]
        if self.directions == 2:
            first = x[rows, place.masked_fill(~mask, x.shape[1]).amin(1).clamp(max=x.shape[1] - 1)]
            vector = torch.cat([vector.chunk(2, -1)[0], first.chunk(2, -1)[1]], dim=-1)
        return vector.masked_fill(~mask.any(-1, keepdim=True), 0.0), None


class AttentionPooling(Pooling):
    r"""Weighted means of the elements: learnt queries say what matters.

    .. math:: m_r = \sum_t a_{rt} x_t, \qquad a_r = \mathrm{normalizer}_t(\mathrm{score}(q_r, x_t))

    The vectors of R queries are concatenated. With an additive score the query of one row acts as a bias,
    :math:`v^\top \tanh(W x_t + b)`, which is the word attention of Yang et al. (2016, equations 5 to 7); several rows
    are the structured self-attention of Lin et al. (2017), whose `redundancy` keeps the rows apart.

    Args:
        input_size: D, features of an element.
        directions: see `Pooling`; both are weighed together.
        attention: makes the attention from (query_dim, key_dim).
        num_queries: R.

    Raises:
        UserError: if a size is out of range, or the attention has a window, in which learnt queries have no place.

    Example:
        >>> pooling = AttentionPooling(8, num_queries=2)
        >>> vector, weights = pooling(torch.randn(3, 5, 8), torch.ones(3, 5, dtype=torch.bool))
        >>> vector.shape, weights.shape
        (torch.Size([3, 16]), torch.Size([3, 2, 5]))
    """

    def __init__(
        self,
        input_size: int,
        directions: int = 1,
        *,
        attention: AttentionFactory = Attention,
        num_queries: int = 1,
    ) -> None:
        super().__init__(input_size, directions)
        if num_queries < 1:
            raise UserError(f"num_queries={num_queries}: at least one query must look at the sequence")
        self.query = nn.Parameter(torch.randn(num_queries, input_size) * input_size**-0.5)
        self.attention = attention(input_size, input_size)
        if self.attention.window is not None:
            raise UserError(
                f"window={self.attention.window}: a learnt query has no place in the sequence: leave it null"
            )
        self.output_size = num_queries * self.attention.value_dim

    def forward(self, x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor | None]:
        """See `Pooling.forward`; of several heads, the weights are the mean."""
        memory = self.attention.memory(x, mask=mask)
        context, weights = self.attention(self.query.expand(len(x), -1, -1), memory, need_weights=True)
        assert weights is not None
        return context.flatten(1), weights.mean(1)


def redundancy(weights: Tensor) -> Tensor:
    r"""How much the rows of pooling weights overlap (Lin et al. 2017, equation 8): :math:`\|A A^\top - I\|_F^2`.

    Args:
        weights: (B, R, T).

    Returns:
        (B,).
    """
    identity = torch.eye(weights.shape[1], dtype=weights.dtype, device=weights.device)
    return (weights @ weights.mT - identity).square().sum((-2, -1))
