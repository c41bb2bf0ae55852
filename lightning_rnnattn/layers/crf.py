"""A conditional random field as output layer.

Letters: B batch, T time, D features, C labels.
"""

import torch
from torch import Tensor, nn

from lightning_rnnattn.layers.tag_output import TagOutput
from lightning_rnnattn.ops.crf import Potentials, crf_log_partition, crf_path_score


class CRFOutput(TagOutput):
    r"""A linear-chain conditional random field (Lafferty et al. 2001; over a network as in Collobert et al. 2011).

    .. math::
        p(y) = e^{s(y)} / \textstyle\sum_{y'} e^{s(y')}, \qquad
        s(y) = a_{y_1} + \sum_t (W x_t + c)_{y_t} + \sum_{t \ge 2} A_{y_{t-1} y_t} + b_{y_n}

    Before training A, a and b are zero: it begins as `SoftmaxOutput`.

    Args:
        input_size: D, features of an element.
        num_labels: C.

    Example:
        >>> output = CRFOutput(input_size=8, num_labels=3)
        >>> features, lengths = torch.randn(2, 5, 8), torch.tensor([5, 2])
        >>> output.decode(features, lengths).shape, output.marginals(features, lengths).shape
        (torch.Size([2, 5]), torch.Size([2, 5, 3]))
    """

    def __init__(self, input_size: int, num_labels: int) -> None:
        super().__init__(input_size, num_labels)
        self.transition = nn.Parameter(torch.zeros(num_labels, num_labels))
        self.start = nn.Parameter(torch.zeros(num_labels))
        self.end = nn.Parameter(torch.zeros(num_labels))

    def potentials(self, features: Tensor) -> Potentials:
        """See `TagOutput.potentials`."""
        return Potentials(self.proj(features), self.transition, self.start, self.end)

    def loss(self, features: Tensor, labels: Tensor, lengths: Tensor) -> Tensor:
        """See `TagOutput.loss`."""
        potentials = self.potentials(features)
        return (crf_log_partition(potentials, lengths) - crf_path_score(potentials, labels, lengths)).sum()
