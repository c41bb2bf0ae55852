"""A linear layer in whole numbers, for decoding on a CPU.

Letters: N rows, D features in, V features out.
"""

import torch
from torch import Tensor, nn

from lightning_rnnattn.errors import UserError

_ZERO = 64
"""What stands for zero among the rounded features, which are from 1 to 127.

One bit more would overflow the 16-bit sums of processors without VNNI: so all processors give the same numbers.
"""


class Int8Linear(nn.Module):
    r"""A linear layer with its weights in 8 bits and its features in 7, for decoding on a CPU.

    .. math::
        y_{nv} = s_n\, c_v \sum_d \operatorname{round}\Bigl(\frac{x_{nd}}{s_n}\Bigr)
        \operatorname{round}\Bigl(\frac{w_{vd}}{c_v}\Bigr) + b_v, \qquad
        s_n = \frac{\max_d |x_{nd}|}{63}, \qquad c_v = \frac{\max_d |w_{vd}|}{127}

    The sum is one of whole numbers and exact, so that a row gives the same, bit for bit, whatever other rows it comes
    with. A large vocabulary's output layer takes most of a decoding step, and this a third to a quarter of its time:

        model.output = Int8Linear(model.output)

    It is for decoding alone: it can be neither trained, nor saved, nor moved to another device.

    Args:
        linear: the layer to round, on the CPU.

    Raises:
        UserError: if torch was built without oneDNN, or the layer is not on the CPU.
    """

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        weight = linear.weight.detach().float()
        if weight.device.type != "cpu":
            raise UserError(f"products in 8 bits run on a CPU, and the layer is on {weight.device}")
        self.scale = _scale(weight, 127).squeeze(-1)  # (V,)
        self.bias = weight.new_zeros(len(weight)) if linear.bias is None else linear.bias.detach().float()
        self.zero = torch.zeros(len(weight), dtype=torch.int32)
        try:
            rounded = (weight / self.scale.unsqueeze(-1)).round().to(torch.int8)
            self.packed = torch.ops.onednn.qlinear_prepack(rounded, None)
            self(weight.new_zeros(1, weight.shape[1]))
        except (AttributeError, NotImplementedError, RuntimeError) as error:
            reason = str(error).partition("\n")[0]
            raise UserError(f"this build of torch has no products in 8 bits ({reason})") from error

    def forward(self, x: Tensor) -> Tensor:
        """(..., V) from (..., D), of the same dtype."""
        rows = x.reshape(-1, x.shape[-1]).float()
        scale = _scale(rows, 127 - _ZERO)
        rounded = (rows / scale).round_().add_(_ZERO).to(torch.uint8)
        products = torch.ops.onednn.qlinear_pointwise(
            *(rounded, 1.0, _ZERO, self.packed, self.scale, self.zero, None, 1.0, 0, torch.float32, "none", [], "none")
        )
        return torch.addcmul(self.bias, products, scale).view(*x.shape[:-1], len(self.bias)).to(x.dtype)


def _scale(rows: Tensor, largest: int) -> Tensor:
    """(N, 1) by which the rows (N, D) are divided, so that their numbers are at most ``largest``; never zero."""
    most = rows.abs().amax(-1, keepdim=True)
    return torch.where(most == 0, 1.0, most) / largest
