"""How the context joins the output of the recurrent network that asked for it."""

from abc import ABC, abstractmethod
from collections.abc import Callable

import torch
from torch import Tensor, nn


class Combine(nn.Module, ABC):
    """Joins an output with the context that it attended to.

    Args:
        hidden_dim: features of the output, and of the result.
        context_dim: features of the context.
    """

    def __init__(self, hidden_dim: int, context_dim: int) -> None:
        super().__init__()
        self.hidden_dim = hidden_dim
        self.context_dim = context_dim

    @abstractmethod
    def forward(self, hidden: Tensor, context: Tensor) -> Tensor:
        """(..., hidden_dim) and (..., context_dim) to (..., hidden_dim)."""


class Attentional(Combine):
    r"""Luong's attentional state (Luong et al. 2015, equation 5).

    .. math:: \tilde h_t = \tanh(W_c [c_t; h_t])
    """

    def __init__(self, hidden_dim: int, context_dim: int) -> None:
        super().__init__(hidden_dim, context_dim)
        self.proj = nn.Linear(context_dim + hidden_dim, hidden_dim, bias=False)

    def forward(self, hidden: Tensor, context: Tensor) -> Tensor:
        """See `Combine.forward`."""
        return torch.tanh(self.proj(torch.cat([context, hidden], dim=-1)))


class Residual(Combine):
    r"""The context, projected, on top of the output; at the start of training the context adds nothing.

    .. math:: \tilde h_t = h_t + W_c c_t, \qquad W_c = 0 \text{ before training}
    """

    def __init__(self, hidden_dim: int, context_dim: int) -> None:
        super().__init__(hidden_dim, context_dim)
        self.proj = nn.Linear(context_dim, hidden_dim, bias=False)
        nn.init.zeros_(self.proj.weight)

    def forward(self, hidden: Tensor, context: Tensor) -> Tensor:
        """See `Combine.forward`."""
        return hidden + self.proj(context)


CombineFactory = Callable[[int, int], Combine]
"""Makes a combination from (hidden_dim, context_dim): a class, or a ``functools.partial`` of one."""
