"""ONNX graphs: written, and run."""

import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from lightning_rnnattn.errors import UserError

OPSET = 17


class Function(nn.Module):
    """A function of tensors as a module, which is what torch exports.

    Args:
        model: whose parameters the function uses.
        function: from tensors to tensors.
    """

    def __init__(self, model: nn.Module, function: Callable[..., Sequence[Tensor]]) -> None:
        super().__init__()
        self.model = model
        self.function = function

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Calls the function."""
        return tuple(self.function(*inputs))


def write_graph(
    path: Path,
    model: nn.Module,
    function: Callable[..., Sequence[Tensor]],
    inputs: Mapping[str, Tensor],
    outputs: Sequence[str],
    sizes: Mapping[int, str],
) -> list[str]:
    """Writes a function as an ONNX graph.

    Args:
        path: the file.
        model: whose parameters the function uses.
        function: from tensors to tensors.
        inputs: an example, by name; those that the function does not use are no inputs of the graph.
        outputs: names of what it gives.
        sizes: names of the sizes that may change, by their values in the example, which nothing else there has.

    Returns:
        The names of the graph's inputs.

    Raises:
        UserError: if ONNX has no word for something in the model.
    """
    import onnx

    made = Function(model, function).eval()
    with torch.no_grad():
        shown = dict(zip(outputs, made(*inputs.values()), strict=True))
    axes = {
        name: {dim: sizes[size] for dim, size in enumerate(tensor.shape) if size in sizes}
        for name, tensor in {**inputs, **shown}.items()
    }
    with torch.no_grad(), warnings.catch_warnings():  # as it runs without gradients
        # Of values that become constants in the graph: whether one should not have is what running it shows.
        warnings.simplefilter("ignore")
        try:
            # The exporter that follows torch.export holds the time of a recurrent network fixed.
            torch.onnx.export(
                made,
                tuple(inputs.values()),
                str(path),
                dynamo=False,
                input_names=list(inputs),
                output_names=list(outputs),
                dynamic_axes=axes,
                opset_version=OPSET,
            )
        except (RuntimeError, ValueError, TypeError, LookupError) as error:
            raise UserError(f"{type(model).__name__} cannot be written as ONNX: {_first_line(error)}") from error
    written = onnx.load(path)
    graph = written.graph
    used = {name for node in graph.node for name in node.input}
    kept = [value for value in graph.input if value.name in used]
    del graph.input[:]
    graph.input.extend(kept)
    for value in graph.output:  # of whose sizes the exporter is not sure
        for dim, size in zip(value.type.tensor_type.shape.dim, shown[value.name].shape, strict=True):
            if size in sizes:
                dim.dim_param = sizes[size]
            else:
                dim.dim_value = size
    onnx.checker.check_model(written)
    onnx.save(written, path)
    return [value.name for value in kept]


class Graph:
    """A graph, run by onnxruntime on the CPU.

    Args:
        path: the file.
    """

    def __init__(self, path: Path) -> None:
        import onnxruntime

        self._session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        self._inputs = [value.name for value in self._session.get_inputs()]
        self._outputs = [value.name for value in self._session.get_outputs()]

    def __call__(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Outputs by name, from inputs by name; those that it does not know are left out.

        Raises:
            UserError: if the graph does not run at these sizes: Python looped over one when it was traced.
        """
        given = {name: inputs[name].numpy() for name in self._inputs}
        try:
            found = self._session.run(None, given)
        except Exception as error:  # onnxruntime's have no base of their own
            raise UserError(
                "the ONNX graph holds for the sizes of its trace only, as of a network that is run step by step over a"
                f" sequence: {_first_line(error)}"
            ) from error
        return {name: torch.from_numpy(np.asarray(x)) for name, x in zip(self._outputs, found, strict=True)}

    def describe(self) -> dict[str, Any]:
        """Names, shapes and types of inputs and outputs."""
        sides = {"inputs": self._session.get_inputs(), "outputs": self._session.get_outputs()}
        return {
            side: {value.name: {"shape": list(value.shape), "type": value.type} for value in values}
            for side, values in sides.items()
        }


def check_equal(name: str, found: Tensor, wanted: Tensor) -> None:
    """Checks that a graph gives what the model gives.

    Raises:
        UserError: if it does not.
    """
    if found.shape != wanted.shape:
        raise UserError(f"the ONNX graph gives {name} of shape {tuple(found.shape)}, the model {tuple(wanted.shape)}")
    difference = (found - wanted).abs().max().item()
    if not difference <= 1e-4 * (1 + wanted.abs().max().item()):
        raise UserError(f"the ONNX graph gives {name} that differ from the model's by {difference:.2g}")


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
