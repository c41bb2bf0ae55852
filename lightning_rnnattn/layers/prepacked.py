"""Linear layers that a loop calls again and again, with weights that are laid out once."""

import functools
from collections.abc import Callable
from contextlib import AbstractContextManager
from types import TracebackType

import torch
from torch import Tensor, nn

from lightning_rnnattn.ops.native import takes

_LARGE = 1 << 18
"""Numbers of a weight from which laying it out pays: below, the call alone costs more than is won."""


class Prepacked(AbstractContextManager["Prepacked"]):
    """Within this context, large linear layers of a model multiply by weights in oneDNN's own layout, on a CPU.

    Without it, each product lays its weight out anew. With 10,000 x 512 weights that is a third of the time for 64
    rows, and two thirds for one. Here it is done once, for the price of about one product and a copy of the weights.
    They must not change meanwhile. The context can be entered again and again.

    Gradients, autocast, traces and other dtypes take a layer as it is; so does a build of torch without oneDNN.

    Args:
        model: the module whose ``nn.Linear`` layers are meant. What is no module has none.
    """

    def __init__(self, model: object) -> None:
        modules = model.modules() if isinstance(model, nn.Module) else ()
        linears = [module for module in modules if type(module) is nn.Linear]
        self._calls = {linear: _call(linear) for linear in linears if _serves(linear)}

    def __enter__(self) -> "Prepacked":
        for linear, call in self._calls.items():
            vars(linear)["forward"] = call  # so that hooks and attributes stay the layer's own
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for linear in self._calls:
            vars(linear).pop("forward", None)


def _serves(linear: nn.Linear) -> bool:
    weight = linear.weight
    plain = type(weight) is nn.Parameter and "forward" not in vars(linear)  # no shard, and not wrapped by others
    return plain and weight.numel() >= _LARGE and takes(weight) and _available()


def _call(linear: nn.Linear) -> Callable[[Tensor], Tensor]:
    packed = torch.ops.mkldnn._reorder_linear_weight(linear.weight.detach())

    def forward(x: Tensor) -> Tensor:
        if not takes(x) or torch.is_grad_enabled() or torch.is_autocast_enabled("cpu"):
            return nn.Linear.forward(linear, x)
        y: Tensor = torch.ops.mkldnn._linear_pointwise(x, packed, linear.bias, "none", [], "")
        return y

    return forward


@functools.cache
def _available() -> bool:
    try:
        with torch.no_grad():
            _call(nn.Linear(2, 3))(torch.ones(1, 2))
    except (AttributeError, NotImplementedError, RuntimeError):
        return False
    return True
