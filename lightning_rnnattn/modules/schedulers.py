"""Learning-rate schedules by step, each one class that YAML can name."""

import math

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from lightning_rnnattn.errors import UserError


class WarmupCosine(LambdaLR):
    r"""Linear warm-up, then half a cosine down (Loshchilov and Hutter 2017, equation 5, without restarts).

    Args:
        optimizer: its learning rate is the highest one.
        num_steps: optimizer steps until the lowest rate, which then stays; usually the trainer's ``max_steps``.
        warmup_steps: steps of linear warm-up before.
        final_factor: the lowest rate over the highest.

    Raises:
        UserError: if there are too few steps.
    """

    interval = "step"

    def __init__(self, optimizer: Optimizer, num_steps: int, warmup_steps: int = 0, final_factor: float = 0.0) -> None:
        if num_steps < 1 or warmup_steps < 0:
            raise UserError(
                f"WarmupCosine: num_steps={num_steps} must be at least 1, and warmup_steps={warmup_steps} not negative"
            )

        def factor(step: int) -> float:
            if step < warmup_steps:
                return (step + 1) / (warmup_steps + 1)
            progress = min((step - warmup_steps) / max(num_steps - warmup_steps, 1), 1.0)
            return final_factor + (1 - final_factor) * 0.5 * (1 + math.cos(math.pi * progress))

        super().__init__(optimizer, factor)


class WarmupInverseSquareRoot(LambdaLR):
    r"""Linear warm-up, then down with the inverse square root of the step (after Vaswani et al. 2017, equation 3).

    .. math:: \min(t / w, \sqrt{w / t})

    Args:
        optimizer: its learning rate is the highest one.
        warmup_steps: steps of linear warm-up.

    Raises:
        UserError: if there are none.
    """

    interval = "step"

    def __init__(self, optimizer: Optimizer, warmup_steps: int = 4000) -> None:
        if warmup_steps < 1:
            raise UserError(f"WarmupInverseSquareRoot: warmup_steps={warmup_steps} must be at least 1")

        def factor(step: int) -> float:
            return min((step + 1) / warmup_steps, math.sqrt(warmup_steps / (step + 1)))

        super().__init__(optimizer, factor)
