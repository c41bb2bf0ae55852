"""Linear layers that a loop calls again and again, with weights that are laid out once."""

import functools
from collections.abc import Callable
from contextlib import AbstractContextManager
from types import TracebackType

import torch
from torch import Tensor, nn

from lightning_rnnattn.ops.native import autocast_dtype, takes

_LARGE = 1 << 18
"""Numbers of a weight from which laying it out pays: below, the call alone costs more than is won."""


class Prepacked(AbstractContextManager["Prepacked"]):
    """Within this context, large linear layers of a model multiply by weights in oneDNN's own layout, on a CPU.

    Without it, each product lays its weight out anew. With 10,000 x 512 weights that is a third of the time for 64
    rows, and two thirds for one. Here it is done once, for the price of about one product and a copy of the weights.
    The context can be entered again and again.

    Gradients, autocast, traces and other dtypes take a layer as it is; so does a build of torch without oneDNN, and a
    weight that has changed since (not by way of ``.data``, which torch keeps no count of). A layer must not be copied
    meanwhile.

    Args:
        model: the module whose ``nn.Linear`` layers are meant. What is no module has none.
    """

    def __init__(self, model: object) -> None:
        modules = model.modules() if isinstance(model, nn.Module) else ()
        linears = [module for module in modules if type(module) is nn.Linear]
        self._calls = {linear: _call(linear) for linear in linears if _serves(linear)}

    def __enter__(self) -> "Prepacked":
        for linear, call in self._calls.items():
            vars(linear).setdefault("forward", call)  # so that hooks and attributes stay the layer's own
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for linear, call in self._calls.items():
            if vars(linear).get("forward") is call:
                del linear.forward


def _serves(linear: nn.Linear) -> bool:
    weight = linear.weight
    if autocast_dtype("cpu"):
        return False  # its products are of another dtype
    own = "forward" not in vars(linear) and weight.shape == (linear.out_features, linear.in_features)  # no one's shard
    return own and weight.numel() >= _LARGE and not weight.is_inference() and takes(weight) and _available()


def _call(linear: nn.Linear) -> Callable[[Tensor], Tensor]:
    weight, version = linear.weight, linear.weight._version
    packed = _pack(weight.detach())

    def forward(x: Tensor) -> Tensor:
        same = linear.weight is weight and weight._version == version
        plain = not torch.is_grad_enabled() and not autocast_dtype("cpu")
        if same and plain and takes(x) and x.shape[-1] == linear.in_features:
            return _product(x, packed, linear.bias)
        return nn.Linear.forward(linear, x)

    return forward


def _pack(weight: Tensor) -> Tensor:
    packed: Tensor = torch.ops.mkldnn._reorder_linear_weight(weight)
    return packed


def _product(x: Tensor, packed: Tensor, bias: Tensor | None) -> Tensor:
    y: Tensor = torch.ops.mkldnn._linear_pointwise(x, packed, bias, "none", [], "")
    return y


@functools.cache
def _available() -> bool:
    try:
        weight = torch.ones(3, 2, dtype=torch.float32, device="cpu")
        _product(weight, _pack(weight), None)
    except (AttributeError, NotImplementedError, RuntimeError):
        return False
    return True
