"""A language model as ONNX: one step of it.

Letters: B batch, W window of the attention, V vocabulary.
"""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from lightning_rnnattn.export.graphs import Graph, check_equal, write_graph
from lightning_rnnattn.export.leaves import leaves, rebuild
from lightning_rnnattn.layers.past import Cache
from lightning_rnnattn.layers.rnn import map_state
from lightning_rnnattn.modules import LanguageModel

_BATCH = 11  # what no other size of a model is likely to be


def write_language_model(model: LanguageModel, folder: Path) -> None:
    """Writes ``step.onnx``: ``tokens`` (B,) and ``state.…`` → ``logits`` (B, V) and ``next.state.…``.

    Before the first token all of the state is zero, or false: with attention it holds the last W outputs and a mask,
    which is false where the text had not begun.
    """
    with torch.no_grad():
        cache = empty_cache(model, _BATCH)
    state = leaves(cache, "state")

    def step(tokens: Tensor, *tensors: Tensor) -> Sequence[Tensor]:
        logits, after = model.decode_step(tokens, rebuild(cache, iter(tensors)))
        return [logits, *leaves(after).values()]

    tokens = torch.arange(_BATCH) % model.output.out_features
    outputs = ["logits", *(f"next.{name}" for name in state)]
    write_graph(folder / "step.onnx", model, step, {"tokens": tokens, **state}, outputs, {_BATCH: "batch"})


@torch.no_grad()
def check_language_model(model: LanguageModel, folder: Path, batch_size: int = 4) -> None:
    """Reads texts longer than the window with the graph, token by token, and with the model, at once.

    Raises:
        UserError: if they differ.
    """
    step = Graph(folder / "step.onnx")
    length = model.core.window + 3
    tokens = torch.arange(batch_size * length).view(batch_size, length) % model.output.out_features
    wanted, _ = model(tokens)
    carried = {name: torch.zeros_like(x) for name, x in leaves(empty_cache(model, batch_size), "state").items()}
    for t in range(length):
        found = step({"tokens": tokens[:, t], **carried})
        check_equal("logits", found["logits"], wanted[:, t])
        carried = {name.removeprefix("next."): x for name, x in found.items() if name.startswith("next.")}


def empty_cache(model: LanguageModel, batch_size: int) -> Cache:
    """What `LanguageModel.decode_step` needs before a text's first token: a memory of W places, none of them real."""
    core = model.core
    _, state = core.rnn(torch.zeros(batch_size, 1, core.rnn.input_size))
    memory = None
    if core.attention is not None:
        outputs = torch.zeros(batch_size, core.window, core.rnn.output_size)
        memory = core.attention.memory(outputs, mask=torch.zeros(outputs.shape[:2], dtype=torch.bool))
    return Cache(map_state(torch.zeros_like, state), memory)
