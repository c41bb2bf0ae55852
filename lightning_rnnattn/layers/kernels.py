"""Torch's fused recurrent kernels on the package's interface.

Letters: B batch, T time, D features, L layers.
"""

from abc import abstractmethod
from typing import Any

from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F
from torch.nn.utils.rnn import PackedSequence

from lightning_rnnattn.errors import require_probability
from lightning_rnnattn.layers.dropout import dropped_weights
from lightning_rnnattn.layers.packed import WEIGHTS, compiles, is_plain, run_compiled, run_packed
from lightning_rnnattn.layers.rnn import StackedRNN, State
from lightning_rnnattn.layers.steps import GRUSteps, KernelSteps, LayerSteps, LSTMSteps, ReLUSteps, Steps, TanhSteps


class KernelRNN(StackedRNN):
    """A stack of torch's fused recurrent kernels; a subclass says which, in `build_kernel`.

    Args:
        input_size: features of an input.
        hidden_size: features of a state.
        weight_dropout: probability of dropping a recurrent weight, in training: see `dropped_weights`.
        options: see `StackedRNN`.

    Attributes:
        layer_steps: what a layer does step by step, from its weights.

    Raises:
        UserError: if a size or a probability is out of range.
    """

    fuses_layers = True
    reads_padding = False
    layer_steps: type[LayerSteps]

    def __init__(self, input_size: int, hidden_size: int = 256, *, weight_dropout: float = 0.0, **options: Any) -> None:
        super().__init__(input_size, hidden_size, **options)
        require_probability(weight_dropout=weight_dropout)
        self.weight_dropout = weight_dropout

    @abstractmethod
    def build_kernel(self, input_size: int, hidden_size: int, num_layers: int) -> nn.RNNBase:
        """Makes torch's module for ``num_layers`` layers; `kernel_options` are its common arguments."""

    def kernel_options(self, hidden_size: int, num_layers: int) -> dict[str, int | float | bool]:
        """The arguments that torch's recurrent modules have in common."""
        return {
            "hidden_size": hidden_size,
            "num_layers": num_layers,
            "batch_first": True,
            "bidirectional": self.bidirectional,
            "dropout": self.dropout if num_layers > 1 else 0.0,
        }

    def run(self, kernel: nn.Module, x: Tensor, state: State | None, lengths: Tensor | None) -> tuple[Tensor, State]:
        """One call of torch's module; where lengths differ, what does the same in the least time."""
        assert isinstance(kernel, nn.RNNBase)
        dropped = dropped_weights(kernel, self.weight_dropout if self.training else 0.0)

        def call(inputs: Tensor | PackedSequence, state: State | None) -> Any:
            return functional_call(kernel, dropped, (inputs, state)) if dropped else kernel(inputs, state)

        if lengths is None or not len(x) or int(lengths.min()) == x.shape[1]:
            return call(x, state)
        weights, lengths = {**dict(kernel.named_parameters()), **dropped}, lengths.cpu()
        if compiles(kernel, weights, x, state):
            return run_compiled(kernel, weights, x, state, lengths)
        return run_packed(call, x, state, lengths)

    def steps(self, known: Tensor) -> Steps:
        """See `RNN.steps`; from the weights, where all layers have one size and direction, and nothing else is read."""
        if self.bidirectional or len(set(self.hidden_sizes)) > 1 or not all(map(is_plain, self.kernels)):
            return super().steps(known)
        p = self.weight_dropout if self.training else 0.0
        weights = []
        for kernel in self.kernels:
            for i in range(kernel.num_layers):  # type: ignore[arg-type]
                w_ih, w_hh, b_ih, b_hh = (getattr(kernel, f"{name}_l{i}") for name in WEIGHTS)
                weights.append((w_ih, F.dropout(w_hh, p) if p else w_hh, b_ih, b_hh))
        between = self.between
        if self.training and self.locked_dropout.p:  # one mask for all steps
            ones = known.new_ones(len(known), 1, self.hidden_size)
            masks = [self.locked_dropout(ones).squeeze(1) for _ in self.norms]
            between = lambda i, x: self.between(i, x) * masks[i]  # noqa: E731
        return KernelSteps(self.layer_steps, weights, known, between, self.residual)


class Elman(KernelRNN):
    r"""The simple recurrent network (Elman 1990).

    .. math:: h_t = \tanh(W_{hh} h_{t-1} + W_{xh} x_t + b_h)

    torch keeps the bias as a sum of two. The textbook's output layer, :math:`y_t = W_{hy} h_t + b_y`, is whatever
    reads h.

    Args:
        input_size: features of an input.
        hidden_size: features of a state.
        relu: max(0, ·) in place of tanh.
        options: see `KernelRNN`.
    """

    def __init__(self, input_size: int, hidden_size: int = 256, *, relu: bool = False, **options: Any) -> None:
        self.relu = relu
        self.layer_steps = ReLUSteps if relu else TanhSteps
        super().__init__(input_size, hidden_size, **options)

    def build_kernel(self, input_size: int, hidden_size: int, num_layers: int) -> nn.RNNBase:
        """See `KernelRNN.build_kernel`."""
        nonlinearity = "relu" if self.relu else "tanh"
        return nn.RNN(input_size, nonlinearity=nonlinearity, **self.kernel_options(hidden_size, num_layers))


class LSTM(KernelRNN):
    r"""Long short-term memory (Hochreiter and Schmidhuber 1997; with the forget gate of Gers et al. 2000).

    .. math::
        i, f, o &= \sigma(W x_t + U h_{t-1} + b), \quad g = \tanh(W_g x_t + U_g h_{t-1} + b_g) \\
        c_t &= f \odot c_{t-1} + i \odot g, \quad h_t = o \odot \tanh(c_t)

    The state is the pair (h, c). For the arguments see `KernelRNN`.
    """

    layer_steps = LSTMSteps

    def build_kernel(self, input_size: int, hidden_size: int, num_layers: int) -> nn.RNNBase:
        """See `KernelRNN.build_kernel`."""
        return nn.LSTM(input_size, **self.kernel_options(hidden_size, num_layers))


class GRU(KernelRNN):
    r"""Gated recurrent unit (Cho et al. 2014, in the form of cuDNN, the reset gate after the product).

    .. math::
        r, z &= \sigma(W x_t + U h_{t-1} + b), \quad n = \tanh(W_n x_t + b_n + r \odot (U_n h_{t-1} + b'_n)) \\
        h_t &= (1 - z) \odot n + z \odot h_{t-1}

    For the arguments see `KernelRNN`.
    """

    layer_steps = GRUSteps

    def build_kernel(self, input_size: int, hidden_size: int, num_layers: int) -> nn.RNNBase:
        """See `KernelRNN.build_kernel`."""
        return nn.GRU(input_size, **self.kernel_options(hidden_size, num_layers))
