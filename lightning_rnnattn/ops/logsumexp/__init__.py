"""Log-probabilities of rows that may be long, of which few are looked at.

Letters: V numbers of a row.
"""

import torch
from torch import Tensor

from lightning_rnnattn.ops.logsumexp import native
from lightning_rnnattn.ops.native import takes

__all__ = ["normalize"]


def normalize(logits: Tensor) -> tuple[Tensor, Tensor]:
    """Numbers (..., V) and a total (...), whose difference is ``logits.log_softmax(-1)``, in float32 at least.

    Where a compiled loop runs, the numbers are the logits as they are, and the total is their logsumexp: nothing of
    their size is written. Elsewhere they are the log-probabilities, from one kernel, and the total is zero.

    Args:
        logits: (..., V), V at least 1.
    """
    if takes(logits) and native.library() is not None:
        return logits, native.logsumexp(logits.detach())
    log_probs = logits.log_softmax(-1, dtype=torch.promote_types(logits.dtype, torch.float32))
    return log_probs, log_probs.new_zeros(log_probs.shape[:-1])
