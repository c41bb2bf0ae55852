"""Writes the README's reference table from the docstrings: python .ci/reference.py [--check]."""

import inspect
import json
import re
import sys
from dataclasses import is_dataclass
from functools import partial
from pathlib import Path

from lightning_rnnattn import callbacks, data, decoding, layers, loggers, modules, scores, tokenizers
from lightning_rnnattn.callbacks import __all__ as callback_names

README = Path(__file__).parents[1] / "README.md"
BEGIN, END = "<!-- reference: made by .ci/reference.py -->", "<!-- end of reference -->"

FAMILIES = {
    "Scores (`model.attention.score`)": (
        scores,
        ["AdditiveScore", "DotScore", "ScaledDotScore", "GeneralScore", "CosineScore"],
    ),
    "Attention (`model.attention`)": (layers, ["Attention", "AdaptiveSpanAttention"]),
    "Normalizers (`model.attention.normalizer`)": (layers, ["Softmax", "Sparsemax", "Entmax15"]),
    "Recurrent networks (`model.rnn`, `model.encoder`)": (
        layers,
        ["LSTM", "GRU", "Elman", "MinGRU", "MinLSTM", "ZoneoutLSTM", "LayerNormLSTM"],
    ),
    "Decoders (`model.decoder`)": (layers, ["BahdanauDecoder", "LuongDecoder", "InputFeedingDecoder"]),
    "From encoder to decoder (`model.bridge`)": (layers, ["ProjectionBridge", "LastStateBridge", "ZeroBridge"]),
    "Searches (`model.search`)": (decoding, ["Greedy", "BeamSearch", "Sampling"]),
    "Neural cache (`model.cache`)": (modules, ["NeuralCache"]),
    "Input (`model.input`)": (layers, ["TokenEmbedding", "Features"]),
    "Characters of words (`model.characters`)": (layers, ["CharacterEncoder"]),
    "Pooling (`model.pooling`, `model.characters.pooling`)": (
        layers,
        ["AttentionPooling", "MeanPooling", "MaxPooling", "LastPooling"],
    ),
    "Labels of elements (`model.output`)": (layers, ["SoftmaxOutput", "CRFOutput"]),
    "Labels of sequences (`model.output`)": (layers, ["SingleLabel", "MultiLabel"]),
    "Schemes of labels (`model.scheme`)": (modules, ["BIO", "IOB1"]),
    "Context joined with the output (`model.combine`)": (layers, ["Attentional", "Residual", "Gated"]),
    "Models (`model`)": (modules, ["LanguageModel", "Seq2Seq", "SequenceClassifier", "SequenceTagger"]),
    "Data (`data`)": (
        data,
        [
            "TextDataModule",
            "TinyShakespeare",
            "PairDataModule",
            "PairTableDataModule",
            "CMUDict",
            "ClassifiedDataModule",
            "CMUStress",
            "MNIST",
            "TaggedDataModule",
        ],
    ),
    "Formats (`data.format`, `data.predict_format`)": (data, ["CoNLLU", "Columns", "WordLines"]),
    "Metrics of text (`model.text_metrics`)": (
        modules,
        ["BLEU", "ChrF", "ExactMatch", "WordErrorRate", "PhoneErrorRate"],
    ),
    "Tokenizers (`data.tokenizer`, `data.source_tokenizer`, `data.target_tokenizer`)": (
        tokenizers,
        ["CharTokenizer", "WordTokenizer", "BPETokenizer", "TokenizerFile"],
    ),
    "Schedules (`model.lr_scheduler`)": (modules, ["WarmupCosine", "WarmupInverseSquareRoot"]),
    "Loggers (`trainer.logger`)": (loggers, ["WandbRun"]),
    "Callbacks (`trainer.callbacks`)": (callbacks, sorted(n for n in callback_names if n[0].isupper())),
}
# What a factory's caller gives, or what only Python can.
INJECTED = {
    "self",
    "query_dim",
    "key_dim",
    "hidden_dim",
    "context_dim",
    "input_size",
    "memory_size",
    "directions",
    "encoder_shape",
    "decoder_shape",
    "options",
    "kwargs",
    "args",
}


def main() -> int:
    """Writes the table, or with --check says whether it is up to date."""
    text = README.read_text(encoding="utf-8")
    before, rest = text.split(BEGIN)
    _, after = rest.split(END)
    made = f"{before}{BEGIN}\n\n{table()}\n{END}{after}"
    if "--check" in sys.argv:
        if made != text:
            print("README.md: the reference is out of date: run python .ci/reference.py")
        return int(made != text)
    README.write_text(made, encoding="utf-8")
    return 0


def table() -> str:
    """The reference as Markdown."""
    lines: list[str] = []
    for family, (module, names) in FAMILIES.items():
        title = re.sub("`([^`]*)`", r"<code>\1</code>", family)
        lines += [f"<details><summary>{title}</summary>", "", "| class | what it is | keys |", "|---|---|---|"]
        for name in names:
            cls = getattr(module, name)
            lines.append(f"| `{name}` | {summary(cls)} | {', '.join(keys(cls))} |")
        lines += ["", "</details>", ""]
    return "\n".join(lines)


def summary(cls: type) -> str:
    """The first sentence of a docstring."""
    first = " ".join((inspect.getdoc(cls) or "").split("\n\n")[0].split())
    return re.sub(r":math:`([^`]*)`", r"\1", re.split("[:;] see", first)[0]).replace("``", "`").replace("|", "\\|")


def keys(cls: type) -> list[str]:
    """The arguments that YAML can give, with their defaults."""
    found: dict[str, str] = {}
    for base in cls.__mro__:
        if base.__module__.startswith("lightning_rnnattn") and "__init__" in vars(base):
            signature = inspect.signature(base.__init__)
            for name, parameter in signature.parameters.items():
                given = name in INJECTED or (name == "num_heads" and issubclass(cls, scores.AttentionScore))
                if (
                    not given
                    and not (name == "optimizer" and parameter.default is parameter.empty)
                    and name not in found
                ):
                    found[name] = key(parameter)
            if not any(p.kind is p.VAR_KEYWORD for p in signature.parameters.values()):
                break
    return list(found.values())


def key(parameter: inspect.Parameter) -> str:
    """One argument: its name, and its default where it has one."""
    if parameter.default is parameter.empty:
        return f"`{parameter.name}`"
    default = parameter.default
    if isinstance(default, partial):
        shown = default.func.__name__  # type: ignore[attr-defined]  # a class
    elif callable(default) and not is_dataclass(default):
        shown = default.__name__
    elif is_dataclass(default):
        shown = type(default).__name__
    else:
        shown = default if isinstance(default, str) else json.dumps(default)
    if len(shown) > 40:
        return f"`{parameter.name}`"
    return f"`{parameter.name}={shown}`"


if __name__ == "__main__":
    raise SystemExit(main())
