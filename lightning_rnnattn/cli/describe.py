"""`lightning_rnnattn describe`: what a model is made of, and what it costs, before anything is trained."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from lightning.pytorch import LightningDataModule
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from lightning_rnnattn.cli.early import EarlyOptions, early_options, import_modules
from lightning_rnnattn.cli.instantiators import DataInstantiator, ModelInstantiator
from lightning_rnnattn.cli.plain import PlainParser
from lightning_rnnattn.cli.training import TrainingCLI
from lightning_rnnattn.errors import UserError, require_at_least_one
from lightning_rnnattn.modules import SequenceModule

UNITS = ("", " K", " M", " G", " T")


def make_parser() -> PlainParser:
    """Makes the parser of the options that are not `fit`'s."""
    parser = PlainParser("describe", "Show a model's layers, parameters, FLOPs and memory. All options of `fit` count.")
    parser.add_argument("--vocab_size", type=int, help="of the model, where its data is not at hand")
    parser.add_argument("--batch_size", type=int, help="rows of a batch (default: the data's, or 32)")
    parser.add_argument("--length", type=int, help="tokens of a row (default: the data's, or 64)")
    return parser


def run(command: str, args: list[str]) -> None:
    """Prints the table.

    Raises:
        UserError: for settings or a checkpoint that cannot be used.
    """
    options, rest = make_parser().parse_known_args(args)
    require_at_least_one("--", **vars(options))
    early = early_options(rest)
    import_modules(early.modules)
    cli = DescribeCLI(rest, early, options.vocab_size)
    rows = options.batch_size or getattr(cli.data, "batch_size", None) or 32
    length = options.length or getattr(cli.data, "seq_len", None) or getattr(cli.data, "known_length", None) or 64
    console = Console(highlight=False)
    console.width = max(console.width, 100 if not console.is_terminal else 0)
    console.print(*_report(cli.model, Costs(cli.model, rows, length), rows, length), sep="\n", soft_wrap=True)


class DescribeCLI(TrainingCLI):
    """`fit` that stops when the model is made, on the meta device: without memory, and without data where it can.

    Args:
        args: see `TrainingCLI`.
        early: see `TrainingCLI`.
        vocab_size: of each vocabulary that the model asks for; None to ask the data.

    Attributes:
        data: the data module.
    """

    def __init__(self, args: list[str], early: EarlyOptions, vocab_size: int | None) -> None:
        self.vocab_size = vocab_size
        super().__init__("fit", args, early)

    def defaults(self) -> dict[str, Any]:
        """Those of `fit`; and no data is data, too."""
        return {"data": {"class_path": "lightning.pytorch.LightningDataModule"}, **super().defaults()}

    def _add_instantiators(self) -> None:
        data = DataInstantiator(self, self.checkpoint.vocabularies)
        self.parser.add_instantiator(data, LightningDataModule)
        self.parser.add_instantiator(OfflineModelInstantiator(self, data, None), SequenceModule)

    def instantiate_classes(self) -> None:
        """Makes the data module and the model, and no trainer."""
        with torch.device("meta"):
            made = self.parser.instantiate_classes(self.config)[self.command]
        self.data, self.model = made.data, made.model

    def _set_seed(self) -> None:
        """Does nothing: there is nothing to draw."""

    def _run_subcommand(self, subcommand: str) -> None:
        """Does nothing."""


class OfflineModelInstantiator(ModelInstantiator):
    """Asks the data module only for what nobody gave: its data may not be at hand."""

    def _ask(self, class_type: type, name: str, given: Any) -> Any:
        if given is not None:
            return given
        is_vocabulary = name.endswith("vocab_size")
        if is_vocabulary and self._cli.vocab_size is not None:
            return self._cli.vocab_size
        try:
            return super()._ask(class_type, name, given)
        except UserError as error:
            raise UserError(f"{error}; or give --{'vocab_size' if is_vocabulary else f'model.{name}'}") from error


class Costs:
    """What a training step of a model costs.

    Attributes:
        flops: of the matrix products of a forward pass, for a token, by the name of the module; None if unknown.
        memory: bytes, by what they are for.
    """

    def __init__(self, model: SequenceModule, rows: int, length: int) -> None:
        self.flops: dict[str, float] | None = None
        weights = sum(p.numel() * p.element_size() for p in model.parameters())
        trained = sum(p.numel() * p.element_size() for p in model.parameters() if p.requires_grad)
        self.memory = {"weights": weights, "gradients": trained}
        if type(model).dry_loss is not SequenceModule.dry_loss:
            self._measure(model, rows, length)

    def _measure(self, model: SequenceModule, rows: int, length: int) -> None:
        try:
            loss, flops, saved = _step(model, rows, length)
        except NotImplementedError:  # something looks at values, as packing does: so they must exist, for one row
            model.to_empty(device="cpu").cpu()  # the latter for Lightning's own note of the device
            loss, flops, saved = _step(model, 1, length)
            saved, flops = saved * rows, {name: count * rows for name, count in flops.items()}
        self.flops = {name: count / (rows * length) for name, count in flops.items()}
        self.memory["activations"] = saved
        loss.backward()
        optimizer: Any = model.configure_optimizers()
        optimizer = optimizer["optimizer"] if isinstance(optimizer, dict) else optimizer
        optimizer.step()
        state = (x for values in optimizer.state.values() for x in values.values() if isinstance(x, Tensor))
        self.memory["optimizer"] = sum(x.numel() * x.element_size() for x in state)


def _step(model: SequenceModule, rows: int, length: int) -> tuple[Tensor, dict[str, int], int]:
    """The loss of a step, its FLOPs by the name of the module, and the bytes that are kept for the backward pass."""
    counter = FlopCounterMode(display=False)
    with _countable(), counter, _kept() as kept:
        loss = _Step(model)(rows, length)
    counts = {name.removeprefix("_Step.model."): sum(x.values()) for name, x in counter.get_flop_counts().items()}
    own = {p.untyped_storage()._cdata for p in (*model.parameters(), *model.buffers())}
    return loss, counts, sum(size for storage, size in kept.items() if storage not in own)


@contextmanager
def _countable() -> Iterator[None]:
    """Takes only kernels inside of which the counter can see."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of Intel's GPUs
        with torch.backends.mkldnn.flags(enabled=False), sdpa_kernel(SDPBackend.MATH):
            yield


class _Step(nn.Module):
    """A training step as a module: the counter names layers by the modules that are called."""

    def __init__(self, model: SequenceModule) -> None:
        super().__init__()
        self.model = model

    def forward(self, rows: int, length: int) -> Tensor:
        return self.model.dry_loss(rows, length)


@contextmanager
def _kept() -> Iterator[dict[int, int]]:
    """Collects the sizes of what is kept for the backward pass: storage → bytes."""
    sizes: dict[int, int] = {}
    alive = []  # so that no storage takes the place of another

    def pack(x: Tensor) -> Tensor:
        storage = x.untyped_storage()
        alive.append(storage)
        sizes[storage._cdata] = storage.nbytes()
        return x

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
        yield sizes


def _report(model: nn.Module, costs: Costs, rows: int, length: int) -> tuple[Any, ...]:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in ("layer", "kind", "sizes"):
        table.add_column(heading, no_wrap=heading != "sizes")
    for heading in ("parameters", "", "FLOPs/token"):
        table.add_column(heading, justify="right", no_wrap=True)
    total = sum(p.numel() for p in model.parameters())
    flops = costs.flops or {}
    for name, layer in _layers(model):
        count = sum(p.numel() for p in layer.parameters())
        own = [f"{count:,}", f"{100 * count / total:.0f} %", _short(flops[name]) if name in flops else ""]
        *above, last = name.split(".")
        table.add_row("  " * len(above) + last, type(layer).__name__, Text(_sizes(layer)), *own)
    table.add_section()
    whole = _short(flops["Global"]) if flops else ""
    table.add_row("all", type(model).__name__, "", f"{total:,}", "", whole, style="bold")
    size = _short(sum(costs.memory.values()))
    parts = ", ".join(f"{name} {_short(value)}B" for name, value in costs.memory.items())
    if not flops:
        note = f"{type(model).__name__} has no dry_loss, so that FLOPs, activations and optimizer are unknown."
    else:
        note = "FLOPs are those of matrix products, forward, with the loss; a training step takes three times as many."
    return table, f"A training step with {rows} rows of {length} tokens, in 32 bits: about {size}B ({parts}).", note


def _layers(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """The layers that say something: those of the first level, and those below with parameters of their own."""
    seen: set[int] = set()
    for name, layer in model.named_children():
        inner = [child for child in layer.children() if any(True for _ in child.parameters())]
        if not any(True for _ in layer.parameters()) or id(layer) in seen:
            continue
        seen.add(id(layer))
        yield name, layer
        if len(inner) > 1:
            yield from ((f"{name}.{key}", child) for key, child in layer.named_children() if child in inner)


def _sizes(layer: nn.Module) -> str:
    pairs = ("in_features", "out_features"), ("num_embeddings", "embedding_dim"), ("input_size", "output_size")
    known = [pair for pair in pairs if all(isinstance(getattr(layer, name, None), int) for name in pair)]
    sizes = [f"{getattr(layer, before)} → {getattr(layer, after)}" for before, after in known[:1]]
    for name, unit in {"num_layers": "layers", "num_heads": "heads"}.items():
        if getattr(layer, name, 1) > 1:
            sizes.append(f"{getattr(layer, name)} {unit}")
    sizes += [f"window {layer.window}"] if getattr(layer, "window", None) else []
    sizes += ["both ways"] if getattr(layer, "bidirectional", False) else []
    return ", ".join(sizes)


def _short(number: float) -> str:
    """A number in three digits: ``2.48 M``."""
    power = 0
    while number >= 999.5 and power < len(UNITS) - 1:
        number, power = number / 1000, power + 1
    return f"{number:.3g}{UNITS[power]}"
