"""Dropout for sequences.

Letters: B batch, T time, D features.
"""

from torch import Tensor, nn
from torch.nn import functional as F

from lightning_rnnattn.errors import UserError


class LockedDropout(nn.Module):
    """Dropout with one mask for all steps of a sequence (variational dropout; Gal and Ghahramani 2016).

    Args:
        p: probability of dropping a feature of a sequence, in training.

    Example:
        >>> LockedDropout(0.5)(torch.ones(2, 7, 3)).std(dim=1).sum()  # a feature is there at every step, or at none
        tensor(0.)
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        """Features (B, T, D) to features of the same shape."""
        if not self.training or not self.p:
            return x
        return x * F.dropout(x.new_ones(x.shape[0], 1, x.shape[2]), self.p)

    def extra_repr(self) -> str:
        """The probability, for ``print(module)``."""
        return f"p={self.p}"


def dropped_weights(kernel: nn.Module, p: float) -> dict[str, Tensor]:
    """The recurrent weights of a kernel, part of them dropped (DropConnect; Merity et al. 2018, section 2).

    To be given to `torch.func.functional_call` along with the kernel. One mask is drawn, so that all steps of a batch
    share it. The kernel keeps its parameters, under their own names: what is dropped exists during the call only. So
    the fused kernels run as they are, and a checkpoint looks like one made without.

    Args:
        kernel: torch's module; its parameters ``weight_hh_l…`` are dropped.
        p: probability of dropping a weight; 0 drops none.

    Returns:
        What takes the place of parameters, by their names; nothing where p is 0.

    Raises:
        UserError: if the recurrent weights are no parameters.
    """
    if not p:
        return {}
    parameters = dict(kernel.named_parameters(remove_duplicate=False))
    names = [name for name in kernel._flat_weights_names if name.startswith("weight_hh_l")]  # type: ignore[union-attr]
    if made := [name for name in names if name not in parameters]:
        raise UserError(f"weight_dropout: {made[0]} is made of others (pruned, normalised): undo that, or drop none")
    return {name: F.dropout(parameters[name], p) for name in names}
