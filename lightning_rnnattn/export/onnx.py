"""ONNX: a model as graphs of one step each, which any runtime can put into a loop."""

import json
import shutil
import tempfile
from functools import singledispatch
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from lightning_rnnattn.errors import UserError
from lightning_rnnattn.export.graphs import Graph
from lightning_rnnattn.export.language_model import check_language_model, write_language_model
from lightning_rnnattn.export.seq2seq import check_seq2seq, write_seq2seq
from lightning_rnnattn.modules import LanguageModel, Seq2Seq, load
from lightning_rnnattn.tokenizers import Tokenizer

GRAPHS = ("encoder", "step")


def export(path: str, folder: Path) -> None:
    """Writes the model in a checkpoint as ONNX, and the tokenizers beside it.

    A `Seq2Seq` becomes ``encoder.onnx`` and ``step.onnx``, a `LanguageModel` ``step.onnx``; ``config.json`` says what
    goes in and comes out. State has the same name on both sides of a step, with ``next.`` before it where it comes out.
    Before anything is put into ``folder``, onnxruntime runs each graph, at other sizes than those it was traced at, and
    what it gives is compared with what the model gives.

    Args:
        path: the checkpoint.
        folder: made if it is not there; files of the same names are replaced.

    Raises:
        UserError: if a package is missing, or the model cannot be written, or what was written differs from it.
    """
    for package in ("onnx", "onnxruntime"):
        if find_spec(package) is None:
            raise UserError(f"--format onnx needs {package}: pip install 'lightning_rnnattn[export]'")
    model = load(path)
    with tempfile.TemporaryDirectory() as made:
        write(model, Path(made))
        check(model, Path(made))
        graphs = {name: Graph(file) for name in GRAPHS if (file := Path(made) / f"{name}.onnx").exists()}
        config: dict[str, Any] = {
            "format": "onnx",
            "class": type(model).__name__,
            "graphs": {name: graph.describe() for name, graph in graphs.items()},
        }
        for name in getattr(model, "vocabularies", ()):
            if isinstance(tokenizer := getattr(model, name), Tokenizer):
                (Path(made) / f"{name}.json").write_text(tokenizer.to_str(), encoding="utf-8")
                config[name] = {"bos_id": tokenizer.bos_id, "eos_id": tokenizer.eos_id}
        (Path(made) / "config.json").write_text(json.dumps(config, indent=1) + "\n", encoding="utf-8")
        folder.mkdir(parents=True, exist_ok=True)
        for file in sorted(Path(made).iterdir()):
            shutil.move(file, folder / file.name)


@singledispatch
def write(model: Any, folder: Path) -> None:
    """Writes the graphs of a model.

    Raises:
        UserError: for a kind of model that has none.
    """
    raise UserError(f"--format onnx knows language models and sequence-to-sequence models, not {type(model).__name__}")


@singledispatch
def check(model: Any, folder: Path) -> None:
    """Compares the graphs in a folder with the model.

    Raises:
        UserError: if they differ.
    """
    raise NotImplementedError


write.register(Seq2Seq, write_seq2seq)
check.register(Seq2Seq, check_seq2seq)
write.register(LanguageModel, write_language_model)
check.register(LanguageModel, check_language_model)
