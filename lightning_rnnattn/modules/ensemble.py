"""Several models that write as one.

Letters: M members, B batch, N target tokens, K hypotheses of a sentence, S source time, T target time, V vocabulary.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from functools import reduce
from typing import Any, NamedTuple

import torch
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch import Tensor, nn

from lightning_rnnattn.decoding import DecoderCache, Greedy, Search
from lightning_rnnattn.errors import UserError
from lightning_rnnattn.modules.base import Loss
from lightning_rnnattn.modules.seq2seq_module import Seq2SeqModule, log_softmax
from lightning_rnnattn.modules.text_metrics import TextMetric
from lightning_rnnattn.ops.cross_entropy import IGNORE


class EnsembleCache(NamedTuple):
    """What a search carries from token to token: what it would carry for each member."""

    members: tuple[DecoderCache, ...]

    def select(self, hypotheses: Tensor) -> "EnsembleCache":
        """See `DecoderCache.select`."""
        return EnsembleCache(tuple(cache.select(hypotheses) for cache in self.members))

    def keep(self, sentences: Tensor) -> "EnsembleCache":
        """See `DecoderCache.keep`."""
        return EnsembleCache(tuple(cache.keep(sentences) for cache in self.members))


def _of_members(name: str) -> Any:
    """An attribute that the members of an ensemble share."""

    def get(ensemble: "Ensemble") -> Any:
        return getattr(ensemble.members[0], name)

    def put(ensemble: "Ensemble", value: Any) -> None:
        for member in getattr(ensemble, "members", ()):  # there are none before the base is made
            setattr(member, name, value)

    return property(get, put)


class Ensemble(Seq2SeqModule):
    r"""Several models that write as one: with the mean of their probabilities, token by token.

    .. math::
        p(y_t \mid y_{<t}, x) = \frac{1}{M} \sum_{m=1}^{M} p_m(y_t \mid y_{<t}, x)

    as in Sutskever, Vinyals and Le (2014). The members were trained apart, with other seeds or of another make; what
    they share is their vocabularies. `lightning_rnnattn ensemble` makes one from checkpoints.

    Args:
        members: the models.
        search: see `Seq2SeqModule`; the members' own searches are not used.
        text_metrics: see `Seq2SeqModule`.
        optimizer: see `SequenceModule`; a fit trains the members together, on the mixture's loss.
        lr_scheduler: see `SequenceModule`.

    Raises:
        UserError: if there is no member, or one of another kind, or they have different vocabularies.

    Example:
        >>> Ensemble([load("seed1.ckpt"), load("seed2.ckpt")], search=BeamSearch())  # doctest: +SKIP
    """

    source_tokenizer = _of_members("source_tokenizer")
    target_tokenizer = _of_members("target_tokenizer")

    def __init__(
        self,
        members: Sequence[Seq2SeqModule],
        search: Search = Greedy(),  # noqa: B008  (frozen)
        text_metrics: Sequence[Callable[[], TextMetric]] = (),
        optimizer: OptimizerCallable | None = None,
        lr_scheduler: LRSchedulerCallable | None = None,
    ) -> None:
        super().__init__(search, text_metrics, optimizer, lr_scheduler)
        if not members or not all(isinstance(member, Seq2SeqModule) for member in members):
            raise UserError("members: an ensemble needs at least one, and each a Seq2SeqModule")
        for name in ("source_vocab_size", "target_vocab_size"):
            sizes = {size for member in members if (size := member.hparams.get(name)) is not None}
            if len(sizes) > 1:
                raise UserError(f"members: their {name} must be the same, and is {', '.join(map(str, sorted(sizes)))}")
        for name in self.vocabularies:
            known = [vocabulary for member in members if (vocabulary := getattr(member, name)) is not None]
            if any(other != known[0] for other in known):
                raise UserError(f"members: each has a {name.replace('_', ' ')} of its own: they must have the same")
            for member in members if known else ():
                setattr(member, name, known[0])
        self.members = nn.ModuleList(members)
        self.train(all(member.training for member in members))  # where one is to be used, so are all

    def num_ids(self) -> dict[str, int]:
        """See `CheckpointedModule.num_ids`: the fewest of any member."""
        known = [member.num_ids() for member in self._members]
        return {name: min(ids[name] for ids in known) for name in set.intersection(*map(set, known))}

    def step(self, batch: Any, stage: str) -> Loss:
        """The mixture's loss of a batch of pairs, per target token."""
        loss, _, targets = self.teach(batch)
        return Loss(loss, (targets != IGNORE).sum())

    def dry_loss(self, rows: int, length: int) -> Tensor:
        """See `SequenceModule.dry_loss`."""
        return torch.stack([member.dry_loss(rows, length) for member in self._members]).sum()

    def log_probs(self, batch: Any) -> tuple[Tensor, Tensor]:
        """See `Seq2SeqModule.log_probs`."""
        log_probs, targets = zip(*(member.log_probs(batch) for member in self._members), strict=True)
        return mixture(log_probs), targets[0]

    def start(self, source: Tensor, lengths: Tensor) -> EnsembleCache:
        """See `Seq2SeqModule.start`."""
        return EnsembleCache(tuple(member.start(source, lengths) for member in self._members))

    def decode_step(
        self, tokens: Tensor, cache: EnsembleCache, need_weights: bool = False
    ) -> tuple[Tensor, EnsembleCache, Tensor | None]:
        """See `Seq2SeqModule.decode_step`; the weights are the mean of the members'."""
        steps = [
            member.decode_step(tokens, own, need_weights)
            for member, own in zip(self._members, cache.members, strict=True)
        ]
        logits, caches, weights = zip(*steps, strict=True)
        looked = [each for each in weights if each is not None]
        return (
            mixture(map(log_softmax, logits)),
            EnsembleCache(caches),
            torch.stack(looked).mean(0) if len(looked) == len(weights) else None,
        )

    def attention_weights(self, source: Tensor, lengths: Tensor, target: Tensor) -> Tensor:
        """See `Seq2SeqModule.attention_weights`: (B, 1, T, S), the mean of all heads of all members."""
        weights = [member.attention_weights(source, lengths, target).mean(1, keepdim=True) for member in self._members]
        return torch.stack(weights).mean(0)

    @property
    def _members(self) -> Sequence[Seq2SeqModule]:
        return tuple(self.members)  # type: ignore[arg-type]  # a ModuleList does not say what it holds


def mixture(log_probs: Iterable[Tensor]) -> Tensor:
    """The logarithm of the mean of probabilities, each given by its logarithm; all of one shape."""
    log_probs = list(log_probs)
    return reduce(torch.logaddexp, log_probs) - math.log(len(log_probs))
