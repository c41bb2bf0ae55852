"""Output layers that give every element of a sequence a label.

Letters: B batch, T time, D features, C labels.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lightning_rnnattn.errors import require_positive, require_probability
from lightning_rnnattn.ops.crf import Allowed, Potentials, crf_decode, crf_marginals
from lightning_rnnattn.ops.cross_entropy import IGNORE, linear_cross_entropy
from lightning_rnnattn.ops.masks import lengths_mask


class TagOutput(nn.Module, ABC):
    """A distribution over the paths of labels of a sequence, given its features.

    A subclass says how a path scores, in `potentials`, and what is minimised, in `loss`.

    Args:
        input_size: D, features of an element.
        num_labels: C.
    """

    def __init__(self, input_size: int, num_labels: int) -> None:
        super().__init__()
        require_positive(self, input_size=input_size, num_labels=num_labels)
        self.input_size = input_size
        self.num_labels = num_labels
        self.proj = nn.Linear(input_size, num_labels)

    @abstractmethod
    def potentials(self, features: Tensor) -> Potentials:
        """What a path's score sums, for features (B, T, D)."""

    @abstractmethod
    def loss(self, features: Tensor, labels: Tensor, lengths: Tensor) -> Tensor:
        """Minus the log-probability of the right labels, summed over the batch, in nats.

        Args:
            features: (B, T, D).
            labels: (B, T) int64; what lies past a sequence's end may be anything below C.
            lengths: (B,) integers, zero allowed: such a row counts nothing.

        Returns:
            Scalar, in float32 at least.
        """

    def decode(self, features: Tensor, lengths: Tensor, allowed: Allowed | None = None) -> Tensor:
        """The most probable path.

        Args:
            features: (B, T, D).
            lengths: (B,) integers, zero allowed.
            allowed: the paths to choose from; None for all.

        Returns:
            (B, T) int64, zeros past each sequence's end.
        """
        return crf_decode(self._limited(features, allowed), lengths)

    def marginals(self, features: Tensor, lengths: Tensor, allowed: Allowed | None = None) -> Tensor:
        """The probability of each label at each element, summed over the allowed paths.

        Args:
            features: (B, T, D).
            lengths: (B,) integers, zero allowed.
            allowed: the paths that are possible; None for all.

        Returns:
            (B, T, C), zeros past each sequence's end.
        """
        return crf_marginals(self._limited(features, allowed), lengths)

    def _limited(self, features: Tensor, allowed: Allowed | None) -> Potentials:
        potentials = self.potentials(features)
        return potentials if allowed is None else potentials.restricted(allowed.to(features.device))


TagOutputFactory = Callable[[int, int], TagOutput]
"""Makes an output layer from (input_size, num_labels): a class, or a ``functools.partial`` of one."""


class SoftmaxOutput(TagOutput):
    r"""Labels that are independent of each other, given the features.

    .. math:: p(y) = \prod_t \mathrm{softmax}(W x_t + b)_{y_t}

    Args:
        input_size: D, features of an element.
        num_labels: C.
        label_smoothing: share of a label's probability that is spread over all labels, in training.
    """

    def __init__(self, input_size: int, num_labels: int, *, label_smoothing: float = 0.0) -> None:
        super().__init__(input_size, num_labels)
        require_probability(label_smoothing=label_smoothing)
        self.label_smoothing = label_smoothing

    def potentials(self, features: Tensor) -> Potentials:
        """See `TagOutput.potentials`; transitions are free."""
        emission = self.proj(features)
        free = emission.new_zeros(self.num_labels)
        return Potentials(emission, emission.new_zeros(self.num_labels, self.num_labels), free, free)

    def loss(self, features: Tensor, labels: Tensor, lengths: Tensor) -> Tensor:
        """See `TagOutput.loss`."""
        mask = lengths_mask(lengths.to(features.device), features.shape[1])
        smoothing = self.label_smoothing if self.training else 0.0
        targets = labels.masked_fill(~mask, IGNORE).flatten()
        return linear_cross_entropy(features.flatten(0, 1), self.proj.weight, targets, self.proj.bias, smoothing)

    def decode(self, features: Tensor, lengths: Tensor, allowed: Allowed | None = None) -> Tensor:
        """See `TagOutput.decode`."""
        if allowed is not None:
            return super().decode(features, lengths, allowed)
        mask = lengths_mask(lengths.to(features.device), features.shape[1])
        return self.proj(features).argmax(-1).masked_fill(~mask, 0)

    def marginals(self, features: Tensor, lengths: Tensor, allowed: Allowed | None = None) -> Tensor:
        """See `TagOutput.marginals`."""
        if allowed is not None:
            return super().marginals(features, lengths, allowed)
        mask = lengths_mask(lengths.to(features.device), features.shape[1])
        logits = self.proj(features)
        logits = logits.float() if logits.dtype in (torch.float16, torch.bfloat16) else logits
        return F.softmax(logits, -1).masked_fill(~mask.unsqueeze(-1), 0.0)
