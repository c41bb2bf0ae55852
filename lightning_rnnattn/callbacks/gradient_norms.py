"""How large a recurrent network's state is at each time step, and how much of the loss's gradient reaches it.

Letters: B batch, T time.
"""

import copy
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import accumulate
from typing import Any, NamedTuple

import torch
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor

from lightning_rnnattn.callbacks.figures import save_figure
from lightning_rnnattn.callbacks.gradient_figure import gradient_figure
from lightning_rnnattn.callbacks.observer import Observer
from lightning_rnnattn.callbacks.run import log_image, observing, require, writes
from lightning_rnnattn.errors import UserError
from lightning_rnnattn.layers import State

Points = list[tuple[int, float]]


class Norms(NamedTuple):
    """Norms over time: (t, norm) wherever two pieces of a sequence meet, t from 1.

    Attributes:
        gradients: of the loss's gradient with respect to the state.
        states: of the state.
    """

    gradients: Points
    states: Points


class GradientNorms(Observer):
    r"""Draw the norms of the state and of the loss's gradient with respect to it, by time step, into ``gradients.png``.

    .. math:: \frac{1}{|B_t|} \sum_{b \in B_t} \Big\| \frac{\partial L_b}{\partial s_{b,t}} \Big\|

    where :math:`L_b` is the loss of a sequence, :math:`s_t` the state that the network hands from step t to step t + 1
    (of an LSTM h and c; of a stack all layers), and :math:`B_t` the sequences that go on after t. It is what
    backpropagation through time brings back to step t of everything later. Where it vanishes, nothing before t is
    learnt from; where it explodes, a step of the optimizer goes anywhere. The norm of the state itself, likewise a mean
    over sequences, tells activations that saturate or grow. A line is a validation.

    Fused kernels do not give the gradient at every step; but the state is explicit, and a sequence in pieces equals the
    whole. So the network reads one batch, the first of the validation data, in pieces, and the gradient is exact where
    they meet. It costs one forward and backward pass at each picture, without dropout; parameters get no gradient.

    Protocol: the module has an ``rnn``, called with inputs (B, T, F) as `lightning_rnnattn.RNN` is, not bidirectional;
    and ``step(batch, stage)``, whose result's first item is the summed loss of a batch.

    Args:
        num_points: into how many pieces time is cut, at most.
        every_n_validations: draw after every so many validations.
        filename: the picture's name.

    Raises:
        UserError: when the fit starts, if the module lacks either, or its ``rnn`` is bidirectional: then no state runs
            from step to step.
    """

    def __init__(self, num_points: int = 56, every_n_validations: int = 1, filename: str = "gradients.png") -> None:
        super().__init__(every_n_validations)
        if num_points < 2:
            raise UserError(f"GradientNorms: num_points={num_points}: at least 2 pieces meet somewhere")
        self.num_points = num_points
        self.filename = filename

    def reset(self) -> None:
        """Forgets another fit's lines, too."""
        super().reset()
        self._record: list[tuple[int, Norms]] = []

    @property
    def state_key(self) -> str:
        """By its file, so that one trainer may have several."""
        return self._generate_state_key(filename=self.filename)

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Refuse a module without a state that runs from step to step."""
        require(self, pl_module, "rnn", "step")
        if getattr(pl_module.rnn, "bidirectional", False):
            raise UserError("GradientNorms: the network is bidirectional: no state runs through time; leave it out")

    def take(self, batch: Any) -> Any:
        """A copy of the batch."""
        with torch.inference_mode(False):  # what is made in inference mode takes no part in a backward pass
            return copy.deepcopy(batch)

    def state_dict(self) -> dict[str, Any]:
        """Adds the lines so far."""
        return {**super().state_dict(), "record": [[step, *map(list, norms)] for step, norms in self._record]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on with the lines of the run that is resumed."""
        super().load_state_dict(state_dict)
        self._record = [(step, Norms(*map(_points, norms))) for step, *norms in state_dict["record"]]

    def observe(self, trainer: Trainer, module: LightningModule) -> None:
        """Measure and draw."""
        if self.taken is None:  # there is no validation data
            return
        with observing(trainer, module):
            norms = norms_by_time(module, self.taken, self.num_points)
        self._record.append((trainer.global_step, norms))
        if writes(trainer):
            self.path = self.folder / self.filename
            lines = {
                "norm of the gradient with respect to the state": [
                    (step, norms.gradients) for step, norms in self._record
                ],
                "norm of the state": [(step, norms.states) for step, norms in self._record],
            }
            save_figure(gradient_figure(lines, title="Gradients and states through time"), self.path)
            log_image(trainer, self.path.stem, self.path, caption=f"step {trainer.global_step}")


def norms_by_time(module: Any, batch: Any, num_points: int) -> Norms:
    """The norms of one batch; see `GradientNorms`.

    Args:
        module: see the protocol there.
        batch: what its ``step`` takes.
        num_points: into how many pieces time is cut, at most.
    """
    # cuDNN's recurrent networks have no backward pass in evaluation mode.
    with torch.inference_mode(False), torch.enable_grad(), torch.backends.cudnn.flags(enabled=False):
        with _in_pieces(module.rnn, num_points) as meetings:
            loss, *_ = module.step(batch, "val")
        flat = [part for meeting in meetings for part in meeting.parts]
        gradients = iter(torch.autograd.grad(loss, flat, allow_unused=True))
    norms = Norms([], [])
    for meeting in meetings:
        found = [gradient for part in meeting.parts if (gradient := next(gradients)) is not None]
        norms.gradients.append((meeting.t, meeting.mean_norm(found)))
        norms.states.append((meeting.t, meeting.mean_norm(meeting.parts)))
    return norms


def _points(saved: Sequence[Sequence[float]]) -> Points:
    return [(int(t), norm) for t, norm in saved]


class _Meeting:
    """A state (L, B, N), or two, that one piece hands to the next at time t; and which of the B sequences go on."""

    def __init__(self, t: int, state: State, goes_on: Tensor) -> None:
        self.t, self.goes_on = t, goes_on
        self.parts = (state,) if isinstance(state, Tensor) else state

    def mean_norm(self, parts: Sequence[Tensor]) -> float:
        """The norm of parts (L, B, N) together, a mean over the sequences that go on; zero where there are none."""
        squares = sum(part.detach().double().square().sum((0, 2)) for part in parts)
        return float(torch.as_tensor(squares).sqrt().expand(len(self.goes_on))[self.goes_on].mean())


@contextmanager
def _in_pieces(rnn: Any, num_points: int) -> Iterator[list[_Meeting]]:
    """Let a network read in pieces, and note the states between them."""
    whole, meetings = rnn.forward, list[_Meeting]()

    def forward(x: Tensor, state: State | None = None, lengths: Tensor | None = None) -> tuple[Tensor, State]:
        size, outputs = math.ceil(x.shape[1] / num_points), []
        pieces = x.split(size, dim=1)
        for piece, end in zip(pieces, accumulate(piece.shape[1] for piece in pieces), strict=True):
            start = end - piece.shape[1]
            output, state = whole(piece, state, None if lengths is None else (lengths - start).clamp(0, end - start))
            outputs.append(output)
            goes_on = torch.ones(len(x), dtype=torch.bool) if lengths is None else lengths > end
            if end < x.shape[1] and goes_on.any():
                meetings.append(_Meeting(end, state, goes_on.to(x.device)))
        assert state is not None
        return torch.cat(outputs, dim=1), state

    rnn.forward = forward
    try:
        yield meetings
    finally:
        del rnn.forward
