"""What the modules share that read a source and write a target.

Letters: B batch, N target tokens, K hypotheses of a sentence, S source time, T target time, H heads, V vocabulary.
"""

from abc import abstractmethod
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import torch
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch import Tensor
from torch.nn import functional as F
from torchmetrics import Metric

from lightning_rnnattn.decoding import DecoderCache, Greedy, Hypothesis, Search
from lightning_rnnattn.errors import UserError
from lightning_rnnattn.modules.base import Loss, SequenceModule
from lightning_rnnattn.modules.metrics import Perplexity, by_stage
from lightning_rnnattn.modules.tag_metrics import TokenAccuracy
from lightning_rnnattn.modules.text_metrics import TextMetric
from lightning_rnnattn.modules.views import AttentionView
from lightning_rnnattn.ops.cross_entropy import IGNORE
from lightning_rnnattn.tokenizers import Tokenizer


class Taught(NamedTuple):
    """What a model makes of targets that are given.

    Attributes:
        loss: summed over the targets that count, in nats.
        predicted: (N,) the most likely token at each place.
        targets: (N,) what stands there; ``IGNORE`` where it does not count.
    """

    loss: Tensor
    predicted: Tensor
    targets: Tensor


class Seq2SeqModule(SequenceModule):
    """Base of the modules that write a text for a source: how texts are found, judged and shown.

    A subclass implements `log_probs`, `start`, `decode_step`, `attention_weights`, and what `SequenceModule` asks for.

    Args:
        search: how to find texts: `Greedy`, `BeamSearch`, `Sampling`.
        text_metrics: each makes a metric of what is written: `BLEU`, `PhoneErrorRate` and others.
        optimizer: see `SequenceModule`.
        lr_scheduler: see `SequenceModule`.

    Raises:
        UserError: if two text metrics have one name.
    """

    changeable = (*SequenceModule.changeable, "search", "text_metrics")
    vocabularies = ("source_tokenizer", "target_tokenizer")
    source_tokenizer: Tokenizer | None
    target_tokenizer: Tokenizer | None

    def __init__(
        self,
        search: Search = Greedy(),  # noqa: B008  (frozen)
        text_metrics: Sequence[Callable[[], TextMetric]] = (),
        optimizer: OptimizerCallable | None = None,
        lr_scheduler: LRSchedulerCallable | None = None,
    ) -> None:
        super().__init__(optimizer, lr_scheduler)
        self.search = search
        self.metrics = by_stage(self.build_metrics)
        self.text_metrics = by_stage(lambda: _by_name(make() for make in text_metrics))

    @abstractmethod
    def log_probs(self, batch: Any) -> tuple[Tensor, Tensor]:
        """What the model expects of a batch's targets, each token from those before it as they should be.

        Args:
            batch: of pairs (a ``PairBatch``).

        Returns:
            Log-probabilities (N, V) for the N tokens of all targets, and these (N,); ``IGNORE`` where one does not
            count.
        """

    @abstractmethod
    def start(self, source: Tensor, lengths: Tensor) -> DecoderCache:
        """Reads sources; see `lightning_rnnattn.decoding.DecoderModel`."""

    @abstractmethod
    def decode_step(self, tokens: Tensor, cache: Any, need_weights: bool = False) -> tuple[Tensor, Any, Tensor | None]:
        """Reads one more token of each hypothesis; see `lightning_rnnattn.decoding.DecoderModel`.

        Args:
            tokens: (B, K) int64.
            cache: from `start`, or from the step before.
            need_weights: also return the attention's weights.

        Returns:
            Logits (B, K, V) of the next token, what the next step needs, and weights (B, K, S), the mean of the heads',
            or None.
        """

    @abstractmethod
    def attention_weights(self, source: Tensor, lengths: Tensor, target: Tensor) -> Tensor:
        """Where the model looks as it writes targets (B, T) that are given: (B, H, T, S).

        Row t is where it looked to write the target's token t.
        """

    def build_losses(self) -> dict[str, Metric]:
        """See `SequenceModule.build_losses`."""
        return {**super().build_losses(), "perplexity": Perplexity()}

    def build_metrics(self) -> dict[str, Metric]:
        """Makes a stage's metrics of tokens, each predicted from those before it as they should be.

        Each is updated with tokens (N,) predicted, actual, and a mask (N,). The network is not made yet when this is
        called; `self.hparams` has what it is to be made from.
        """
        return {"accuracy": TokenAccuracy()}

    def evaluate(self, batch: Any, stage: str) -> None:
        """See `SequenceModule.evaluate`: the loss, metrics of tokens, and where there are some, those of texts."""
        loss, predicted, targets = self.teach(batch)
        mask = targets != IGNORE
        self.log_loss(Loss(loss, mask.sum()), stage)
        self.log_metrics(self.metrics, stage, predicted, targets, mask, shown=())
        if not self.text_metrics[stage]:
            return
        found = self.decode(batch.source.values, batch.source.lengths)
        counted = [i for i, counts in enumerate(batch.counts.tolist()) if counts]
        texts = [self.text(found[i][0].tokens) for i in counted]
        self.log_metrics(self.text_metrics, stage, texts, [batch.texts[i].references for i in counted])

    def predict_step(self, batch: Any, batch_idx: int) -> list[dict[str, Any]]:
        """A dict for each row: ``index``, ``source``, the best ``text`` and its ``score``, and all in ``nbest``.

        ``nbest`` (a list of ``text`` and ``score``) is there where ``search`` gives more than one. The text of an
        empty source is empty, with the score 0: no model was trained on one.
        """
        self.check_batch(batch, "source", "reads sources, of PairBatch: set data to PairDataModule")
        found = self.decode(batch.source.values, batch.source.lengths)
        rows = zip(batch.indices, batch.texts, batch.counts.tolist(), found, strict=True)
        records = []
        for index, text, counts, hypotheses in rows:
            if not counts:
                continue
            texts = [{"text": "", "score": 0.0}]
            if text.source:
                texts = [{"text": self.text(each.tokens), "score": round(each.score, 6)} for each in hypotheses]
            more = {"nbest": texts} if len(texts) > 1 else {}
            records.append({"index": index, "source": text.source, **texts[0], **more})
        return records

    def decode(self, source: Tensor, lengths: Tensor, need_weights: bool = False) -> list[list[Hypothesis]]:
        """Texts for sources (B, S) of ``lengths`` (B,), by ``search``; see `Search.search`."""
        tokenizer = self._tokenizer("target_tokenizer")
        bos_id, eos_id = tokenizer.bos_id, tokenizer.eos_id
        assert bos_id is not None
        assert eos_id is not None
        return self.search.search(self, source, lengths, bos_id=bos_id, eos_id=eos_id, need_weights=need_weights)

    def text(self, tokens: Sequence[int]) -> str:
        """The text of a hypothesis."""
        return self._tokenizer("target_tokenizer").decode(tokens)

    def teach(self, batch: Any) -> Taught:
        """The loss of a batch, and what was expected; override it where `log_probs` need not be made for that."""
        log_probs, targets = self.log_probs(batch)
        loss = F.nll_loss(log_probs, targets, ignore_index=IGNORE, reduction="sum")
        return Taught(loss, log_probs.argmax(-1), targets)

    def num_tokens(self, batch: Any) -> Tensor:
        """Target tokens that a batch trains on, for throughput; a tensor, so that no step waits for the device."""
        return (batch.target.lengths.to(batch.counts.device) * batch.counts).sum()

    def attention_views(self, batch: Any, rows: int) -> list[list[AttentionView]]:
        """See `ShowsAttention`: where the model looked as it wrote the first reference."""
        source, lengths, target = batch.source.values[:rows], batch.source.lengths[:rows], batch.target.values[:rows]
        weights = self.attention_weights(source, lengths, target)
        read = self._tokens("source_tokenizer", source, lengths)
        written = self._tokens("target_tokenizer", target, batch.target.lengths)
        return [[AttentionView.of(*view)] for view in zip(weights, written, read, strict=True)]

    def text_views(self, text: str) -> list[AttentionView]:
        """See `ShowsAttention`: where the model looked as it wrote each of its hypotheses."""
        tokenizer = self._tokenizer("source_tokenizer")
        source = torch.tensor([[*tokenizer.encode(text), tokenizer.eos_id]], device=self.device)
        lengths = torch.tensor([source.shape[1]])
        (found,) = self.decode(source, lengths, need_weights=True)
        (read,) = self._tokens("source_tokenizer", source, lengths)
        views = []
        for number, each in enumerate(found, start=1):
            assert each.weights is not None
            written = self._tokenizer("target_tokenizer").tokens(each.tokens)
            name = f"hypothesis {number}" if len(found) > 1 else ""
            views.append(AttentionView.of(each.weights[None], written, read, name))
        return views

    def shifted(self, target: Tensor) -> Tensor:
        """Targets (B, T) as the decoder reads them: behind a token that begins them, without their last."""
        bos_id = self._tokenizer("target_tokenizer").bos_id
        assert bos_id is not None
        return torch.cat([torch.full_like(target[:, :1], bos_id), target[:, :-1]], dim=1)

    def _tokenizer(self, name: str) -> Tokenizer:
        tokenizer: Tokenizer | None = getattr(self, name)
        if tokenizer is None:
            raise UserError(f"the {name.replace('_', ' ')} is not known: set model.{name}, or use a data module")
        return tokenizer

    def _tokens(self, name: str, ids: Tensor, lengths: Tensor) -> list[list[str]]:
        """The text of each id of rows (B, T) of ``lengths``."""
        tokenizer = self._tokenizer(name)
        return [tokenizer.tokens(row[:length]) for row, length in zip(ids.tolist(), lengths.tolist(), strict=False)]


def log_softmax(logits: Tensor) -> Tensor:
    """Log-probabilities (..., V), in float32 at least."""
    return logits.log_softmax(-1, dtype=torch.promote_types(logits.dtype, torch.float32))


def _by_name(metrics: Iterable[TextMetric]) -> dict[str, Metric]:
    named: dict[str, Metric] = {}
    for metric in metrics:
        if metric.name in named:
            raise UserError(f"model.text_metrics: two are called {metric.name!r}: leave one out, or change its options")
        named[metric.name] = metric
    return named
