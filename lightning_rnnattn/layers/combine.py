"""How the context joins the output of the recurrent network that asked for it."""

from abc import ABC, abstractmethod
from collections.abc import Callable

import torch
from torch import Tensor, nn

from lightning_rnnattn.errors import UserError


class Combine(nn.Module, ABC):
    """Joins an output with the context that it attended to.

    A subclass is made from ``hidden_dim``, the features of the output and of the result, and ``context_dim``.
    """

    @abstractmethod
    def forward(self, hidden: Tensor, context: Tensor) -> Tensor:
        """(..., hidden_dim) and (..., context_dim) to (..., hidden_dim)."""


class Attentional(Combine):
    r"""Luong's attentional state (Luong et al. 2015, equation 5).

    .. math:: \tilde h_t = \tanh(W_c [c_t; h_t])
    """

    def __init__(self, hidden_dim: int, context_dim: int) -> None:
        super().__init__()
        self.proj = nn.Linear(context_dim + hidden_dim, hidden_dim, bias=False)

    def forward(self, hidden: Tensor, context: Tensor) -> Tensor:
        """See `Combine.forward`."""
        return torch.tanh(self.proj(torch.cat([context, hidden], dim=-1)))


class Residual(Combine):
    r"""The context, projected, on top of the output; at the start of training the context adds nothing.

    .. math:: \tilde h_t = h_t + W_c c_t, \qquad W_c = 0 \text{ before training}
    """

    def __init__(self, hidden_dim: int, context_dim: int) -> None:
        super().__init__()
        self.proj = nn.Linear(context_dim, hidden_dim, bias=False)
        nn.init.zeros_(self.proj.weight)

    def forward(self, hidden: Tensor, context: Tensor) -> Tensor:
        """See `Combine.forward`."""
        return hidden + self.proj(context)


class Gated(Combine):
    r"""Moves each feature of the output towards the context, as far as a gate says.

    .. math:: \tilde h_t = h_t + g_t \odot (c_t - h_t), \qquad g_t = \sigma(W_g [c_t; h_t] + b_g)

    A highway (Srivastava et al. 2015, equation 3) from output to context, its gate nearly closed before training:
    :math:`W_g = 0, b_g = -3`. The result lies between the two, whatever the weights, so that a high learning rate does
    no harm by way of them, as it does at the start with `Residual`.

    Raises:
        UserError: if output and context have different sizes.
    """

    def __init__(self, hidden_dim: int, context_dim: int) -> None:
        super().__init__()
        if hidden_dim != context_dim:
            raise UserError(
                f"combine: Gated needs an output and a context of one size, and they have {hidden_dim} and "
                f"{context_dim} features: take Attentional or Residual"
            )
        self.proj = nn.Linear(context_dim + hidden_dim, hidden_dim)
        nn.init.zeros_(self.proj.weight)
        nn.init.constant_(self.proj.bias, -3.0)

    def forward(self, hidden: Tensor, context: Tensor) -> Tensor:
        """See `Combine.forward`."""
        gate = torch.sigmoid(self.proj(torch.cat([context, hidden], dim=-1)))
        return hidden + gate * (context - hidden)


CombineFactory = Callable[[int, int], Combine]
"""Makes a combination from (hidden_dim, context_dim): a class, or a ``functools.partial`` of one."""
