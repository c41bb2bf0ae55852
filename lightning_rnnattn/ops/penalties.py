"""Penalties on what a recurrent network puts out.

Letters: B batch, T time, D features.
"""

from torch import Tensor


def activation_penalty(outputs: Tensor, mask: Tensor) -> Tensor:
    r"""How large outputs are (activation regularisation; Merity et al. 2017, "Revisiting activation regularization").

    .. math:: \sum_{b,t} \frac 1 D \lVert h_{bt} \rVert^2

    Args:
        outputs: (B, T, D).
        mask: (B, T) bool, True for the steps that count.

    Returns:
        Scalar. Over the number of steps that count, it is the mean of all squares.
    """
    return outputs.square().mean(-1)[mask].sum()


def slowness_penalty(outputs: Tensor, mask: Tensor) -> Tensor:
    r"""How much outputs change from step to step (temporal activation regularisation; the same authors).

    .. math:: \frac N P \sum_{b,t} \frac 1 D \lVert h_{b,t+1} - h_{bt} \rVert^2

    N steps count, and P pairs of neighbours.

    Args:
        outputs: (B, T, D).
        mask: (B, T) bool, True for the steps that count.

    Returns:
        Scalar. Over the number of steps that count, it is the mean of all squares; 0 where no two are neighbours.
    """
    pairs = mask[:, 1:] & mask[:, :-1]
    changes = (outputs[:, 1:] - outputs[:, :-1]).square().mean(-1)[pairs].sum()
    return changes * (mask.sum() / pairs.sum().clamp(min=1))
