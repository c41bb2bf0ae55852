"""The largest numbers of long rows.

Letters: V numbers of a row.
"""

from torch import Tensor

from lightning_rnnattn.ops.native import takes
from lightning_rnnattn.ops.topk import native

__all__ = ["top_k"]

_FEW = 64


def top_k(x: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """``x.topk(k)`` along the last dimension, without gradients; on a CPU faster by far where k is small.

    torch's kernel sorts pairs of number and index; the compiled loop reads a row once, and passes over what is smaller
    than all that it found.

    Args:
        x: (..., V), without NaN.
        k: at most V.

    Returns:
        Values and indices (..., k), largest first; which of equal numbers is taken is not said.
    """
    if 0 < k <= min(_FEW, x.shape[-1]) and takes(x) and native.library() is not None:
        return native.topk(x.detach(), k)
    values, index = x.detach().topk(k)
    return values, index
