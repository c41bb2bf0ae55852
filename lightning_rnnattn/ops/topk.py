"""The largest numbers of long rows.

Letters: V numbers of a row.
"""

import torch
from torch import Tensor

_BLOCK = 64
_FEW_BLOCKS = 16


def top_k(x: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """``x.topk(k)`` along the last dimension, faster on a CPU where rows are long and k is small.

    torch's kernel sorts pairs of number and index one by one; the maxima of blocks cost one vectorised pass. The k
    largest lie in the k blocks of the largest maxima, so that the rest need not be looked at.

    Args:
        x: (..., V).
        k: at most V.

    Returns:
        Values and indices (..., k), largest first; which of equal numbers is taken is not said.
    """
    size = x.shape[-1]
    num_blocks = size // _BLOCK
    if x.device.type != "cpu" or num_blocks < _FEW_BLOCKS * k:
        values, index = x.topk(k)
        return values, index
    blocks = x[..., : num_blocks * _BLOCK].unflatten(-1, (num_blocks, _BLOCK))
    best = blocks.amax(-1).topk(k).indices.unsqueeze(-1)  # (..., k, 1)
    chosen = blocks.gather(-2, best.expand(*best.shape[:-1], _BLOCK)).flatten(-2)
    index = (best * _BLOCK + torch.arange(_BLOCK, device=x.device)).flatten(-2)
    rest = torch.arange(num_blocks * _BLOCK, size, device=x.device)
    index = torch.cat([index, rest.expand(*x.shape[:-1], -1)], dim=-1)
    values, place = torch.cat([chosen, x[..., num_blocks * _BLOCK :]], dim=-1).topk(k)
    return values, index.gather(-1, place)
