r"""Linear-chain conditional random fields: sums and maxima over all paths of labels, exactly.

A path :math:`y_1 … y_n` of a sequence of n elements scores

.. math:: s(y) = a_{y_1} + \sum_{t=1}^{n} e_{t, y_t} + \sum_{t=2}^{n} A_{y_{t-1} y_t} + b_{y_n}

and has the probability :math:`e^{s(y)} / Z` (Lafferty et al. 2001). An empty sequence has one path, of score zero.

Letters: B batch, T time (at least 1), C labels.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from lightning_rnnattn.ops.masks import lengths_mask


class Potentials(NamedTuple):
    """The scores that a path's score sums; minus infinity forbids what it stands for.

    Attributes:
        emission: e, (B, T, C).
        transition: A, (C, C), from row to column.
        start: a, (C,).
        end: b, (C,).
    """

    emission: Tensor
    transition: Tensor
    start: Tensor
    end: Tensor

    def restricted(self, allowed: "Allowed") -> "Potentials":
        """The same scores, minus infinity where a path is not allowed to go."""
        return Potentials(
            self.emission,
            self.transition.masked_fill(~allowed.transition, -torch.inf),
            self.start.masked_fill(~allowed.start, -torch.inf),
            self.end.masked_fill(~allowed.end, -torch.inf),
        )

    def widened(self) -> "Potentials":
        """In float32 at least, so that sums over many steps keep their digits."""
        return Potentials(*(x.float() if x.dtype in (torch.float16, torch.bfloat16) else x for x in self))


class Allowed(NamedTuple):
    """Which paths there are: bool, True = allowed.

    Attributes:
        transition: (C, C), from row to column.
        start: (C,), labels of a first element.
        end: (C,), labels of a last element.
    """

    transition: Tensor
    start: Tensor
    end: Tensor

    def to(self, device: torch.device) -> "Allowed":
        """The same on a device."""
        return Allowed(*(x.to(device) for x in self))


def crf_path_score(potentials: Potentials, labels: Tensor, lengths: Tensor) -> Tensor:
    """The score of one path for each sequence.

    Args:
        potentials: of B sequences.
        labels: (B, T) int64; what lies past a sequence's end may be anything below C.
        lengths: (B,) integers, zero allowed.

    Returns:
        (B,), in float32 at least.
    """
    emission, transition, start, end = potentials.widened()
    lengths = lengths.to(emission.device)
    mask = lengths_mask(lengths, emission.shape[1])
    score = emission.gather(-1, labels.unsqueeze(-1)).squeeze(-1).masked_fill(~mask, 0.0).sum(-1)
    score = score + transition[labels[:, :-1], labels[:, 1:]].masked_fill(~mask[:, 1:], 0.0).sum(-1)
    last = labels.gather(-1, (lengths - 1).clamp(min=0).unsqueeze(-1)).squeeze(-1)
    return score + (start[labels[:, 0]] + end[last]).masked_fill(lengths == 0, 0.0)


def crf_log_partition(potentials: Potentials, lengths: Tensor) -> Tensor:
    r"""The logarithm of the sum over all paths, :math:`\ln Z`, by the forward algorithm.

    Args:
        potentials: of B sequences. A gradient needs finite ones.
        lengths: (B,) integers, zero allowed.

    Returns:
        (B,), in float32 at least.
    """
    wide = potentials.widened()
    lengths = lengths.to(wide.emission.device)
    total = (_forward(wide, lengths)[-1] + wide.end).logsumexp(-1)
    return total.masked_fill(lengths == 0, 0.0)


def crf_marginals(potentials: Potentials, lengths: Tensor) -> Tensor:
    r"""The probability of each label at each element, summed over all paths, by the forward-backward algorithm.

    It equals the derivative of `crf_log_partition` by the emissions.

    Args:
        potentials: of B sequences.
        lengths: (B,) integers, zero allowed.

    Returns:
        (B, T, C), zeros past each sequence's end.
    """
    wide = potentials.widened()
    lengths = lengths.to(wide.emission.device)
    mask = lengths_mask(lengths, wide.emission.shape[1])
    after = wide.end.expand_as(wide.emission[:, 0])  # the sum over what follows an element's label
    suffixes = [after]
    for t in range(wide.emission.shape[1] - 1, 0, -1):
        longer = (wide.transition + (wide.emission[:, t] + after).unsqueeze(1)).logsumexp(-1)
        after = torch.where(mask[:, t, None], longer, after)
        suffixes.append(after)
    joint = torch.stack(_forward(wide, lengths), dim=1) + torch.stack(suffixes[::-1], dim=1)
    return joint.softmax(-1).masked_fill(~mask.unsqueeze(-1), 0.0)


def crf_decode(potentials: Potentials, lengths: Tensor) -> Tensor:
    """The best path, by the Viterbi algorithm; of equals, the one with the smallest labels from its end backwards.

    Args:
        potentials: of B sequences.
        lengths: (B,) integers, zero allowed.

    Returns:
        (B, T) int64, zeros past each sequence's end.
    """
    emission, transition, start, end = potentials.widened()
    mask = lengths_mask(lengths.to(emission.device), emission.shape[1])
    stay = torch.arange(emission.shape[-1], device=emission.device)
    best, origins = start + emission[:, 0], []
    for t in range(1, emission.shape[1]):
        longer, origin = (best.unsqueeze(-1) + transition).max(dim=1)
        best = torch.where(mask[:, t, None], longer + emission[:, t], best)
        origins.append(torch.where(mask[:, t, None], origin, stay))
    path = [(best + end).argmax(-1)]
    for origin in reversed(origins):
        path.append(origin.gather(-1, path[-1].unsqueeze(-1)).squeeze(-1))
    return torch.stack(path[::-1], dim=1).masked_fill(~mask, 0)


def _forward(potentials: Potentials, lengths: Tensor) -> list[Tensor]:
    """Per step, (B, C): the log of the sum over the paths up to there that end in each label; constant past the end."""
    emission, transition, start, _ = potentials
    mask = lengths_mask(lengths, emission.shape[1])
    first, *others = emission.unbind(1)  # an index a step would cost the gradient a copy of all steps each
    steps = [start + first]
    for t, scores in enumerate(others, start=1):
        longer = (steps[-1].unsqueeze(-1) + transition).logsumexp(1) + scores
        steps.append(torch.where(mask[:, t, None], longer, steps[-1]))
    return steps
