"""How scores become weights: a normalizer maps scores and a mask to weights that sum to one."""

from abc import ABC, abstractmethod
from collections.abc import Callable

from torch import Tensor, nn

from lightning_rnnattn.ops.entmax import entmax15, sparsemax
from lightning_rnnattn.ops.softmax import masked_softmax


class Normalizer(nn.Module, ABC):
    """Maps scores to attention weights over the last dimension."""

    @abstractmethod
    def forward(self, scores: Tensor, mask: Tensor | None = None) -> Tensor:
        """Weights (..., S) of scores (..., S); a row whose mask allows nothing gives zeros."""


class Softmax(Normalizer):
    """Every key gets some weight; see `lightning_rnnattn.ops.softmax.masked_softmax`."""

    def forward(self, scores: Tensor, mask: Tensor | None = None) -> Tensor:
        """See `Normalizer.forward`."""
        return masked_softmax(scores, mask)


class Sparsemax(Normalizer):
    """Few keys get any weight; see `lightning_rnnattn.ops.entmax.sparsemax`."""

    def forward(self, scores: Tensor, mask: Tensor | None = None) -> Tensor:
        """See `Normalizer.forward`."""
        return sparsemax(scores, mask)


class Entmax15(Normalizer):
    """Half-way between softmax and sparsemax; see `lightning_rnnattn.ops.entmax.entmax15`."""

    def forward(self, scores: Tensor, mask: Tensor | None = None) -> Tensor:
        """See `Normalizer.forward`."""
        return entmax15(scores, mask)


NormalizerFactory = Callable[[], Normalizer]
"""Makes a normalizer: a class, or a ``functools.partial`` of one."""
