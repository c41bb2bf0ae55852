"""Sequence tagger: a label for each element of a sequence.

Letters: B batch, T time (words), C characters of a word, D features, H heads, L labels.
"""

import functools
from functools import partial
from typing import Any

import torch
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from torchmetrics import Metric

from lightning_rnnattn.errors import UserError
from lightning_rnnattn.layers import LSTM, Attentional, AttentionFactory, CombineFactory, RNNFactory
from lightning_rnnattn.layers.characters import CharacterFactory
from lightning_rnnattn.layers.inputs import InputFactory, TokenEmbedding
from lightning_rnnattn.layers.tag_output import SoftmaxOutput, TagOutputFactory
from lightning_rnnattn.modules.base import Loss
from lightning_rnnattn.modules.labelling import Decisions, LabelModule
from lightning_rnnattn.modules.metrics import by_stage
from lightning_rnnattn.modules.schemes import LabelScheme
from lightning_rnnattn.modules.tag_metrics import SentenceAccuracy, SpanF1, SpanPrecision, SpanRecall, TokenAccuracy
from lightning_rnnattn.modules.views import AttentionView
from lightning_rnnattn.ops.crf import Allowed
from lightning_rnnattn.ops.cross_entropy import IGNORE
from lightning_rnnattn.ops.masks import lengths_mask
from lightning_rnnattn.ops.spans import SpanTable, count_spans
from lightning_rnnattn.tokenizers import Tokenizer


class SequenceTagger(LabelModule):
    r"""Gives each element of a sequence a label.

    .. math::
        x_t &= [\mathrm{input}(w_t); \mathrm{characters}(w_t)], \qquad
        h = \mathrm{RNN}(x), \qquad c_t = \sum_j \alpha_{tj} h_j \\
        \tilde h_t &= \mathrm{combine}(h_t, c_t), \qquad
        p(y) = \mathrm{output}(\tilde h)

    Without characters and without attention the parts with them are absent. To change the model, override `features`;
    to change what is learnt, `loss`.

    Args:
        input_size: size of the vocabulary of words, or features of an element; on the command line from the data.
        num_labels: L; on the command line from the data.
        num_characters: size of the vocabulary of characters, 0 where the data has none; on the command line from the
            data.
        input: makes the layer that reads words from ``input_size``.
        characters: makes the layer that reads the characters of words from ``num_characters``; None for none.
        rnn: makes the recurrent network from its input size.
        attention: makes the attention of the network's outputs to each other, in both directions, from (query_dim,
            key_dim); None for none.
        combine: makes the layer that joins output and context.
        output: makes the output layer from (features, ``num_labels``): `SoftmaxOutput`, `CRFOutput`.
        scheme: how labels mark spans (`BIO`): spans are scored, and what the scheme forbids is never predicted; None
            for labels that mark none.
        dropout: probability of dropping a feature before the recurrent network, and one before the output layer.
        optimizer: see `SequenceModule`.
        lr_scheduler: see `SequenceModule`.

    Attributes:
        predict_attention: whether predictions have the weights, too; ``predict --attention`` sets it.

    Raises:
        UserError: if characters are to be read and the data has none, or ``dropout`` is no probability.

    Example:
        >>> tagger = SequenceTagger(input_size=100, num_labels=17, num_characters=0, output=CRFOutput)
        >>> labels = tagger(torch.zeros(2, 5, dtype=torch.long), lengths=torch.tensor([5, 3]))
        >>> labels.shape
        torch.Size([2, 5])
    """

    predict_attention = False
    vocabularies = ("tokenizer", "character_tokenizer", "labels")
    character_tokenizer: Tokenizer | None

    def __init__(
        self,
        input_size: int,
        num_labels: int,
        num_characters: int,
        input: InputFactory = TokenEmbedding,
        characters: CharacterFactory | None = None,
        rnn: RNNFactory = partial(LSTM, bidirectional=True),  # noqa: B008  (immutable)
        attention: AttentionFactory | None = None,
        combine: CombineFactory = Attentional,
        output: TagOutputFactory = SoftmaxOutput,
        scheme: LabelScheme | None = None,
        dropout: float = 0.0,
        optimizer: OptimizerCallable | None = None,
        lr_scheduler: LRSchedulerCallable | None = None,
    ) -> None:
        super().__init__(input_size, input, dropout, optimizer, lr_scheduler)
        if characters is not None and not num_characters:
            raise UserError("model.characters: the data has no characters: give it a character_tokenizer")
        self.characters = None if characters is None else characters(num_characters)
        self.rnn = rnn(self.input.output_size + (0 if self.characters is None else self.characters.output_size))
        hidden = self.rnn.output_size
        self.attention = None if attention is None else attention(hidden, hidden)
        self.combine = None if self.attention is None else combine(hidden, self.attention.value_dim)
        self.output = output(hidden, num_labels)
        self.scheme = scheme
        self.metrics = by_stage(self.build_metrics)
        self.span_metrics = by_stage(dict if scheme is None else self.build_span_metrics)

    def build_metrics(self) -> dict[str, Metric]:
        """Makes a stage's metrics; each is updated with labels (B, T) predicted, actual, and a mask (B, T)."""
        return {"accuracy": TokenAccuracy(), "sentence_accuracy": SentenceAccuracy()}

    def build_span_metrics(self) -> dict[str, Metric]:
        """Makes a stage's metrics of spans, where there is a scheme; each is updated with `SpanCounts`."""
        return {"span_f1": SpanF1(), "span_precision": SpanPrecision(), "span_recall": SpanRecall()}

    def forward(
        self,
        words: Tensor,
        lengths: Tensor | None = None,
        characters: Tensor | None = None,
        character_lengths: Tensor | None = None,
    ) -> Tensor:
        """The most probable labels, (B, T) int64, zeros past each sequence's end; for the arguments see `features`."""
        features = self.features(words, lengths, characters, character_lengths)
        return self.output.decode(features, _lengths(words, lengths), self.allowed)

    def features(
        self,
        words: Tensor,
        lengths: Tensor | None = None,
        characters: Tensor | None = None,
        character_lengths: Tensor | None = None,
    ) -> Tensor:
        """What the output layer reads, (B, T, D).

        Args:
            words: (B, T) int64, or (B, T, F) features.
            lengths: (B,) real elements of each row, on the CPU, zero allowed; None where all are real.
            characters: (B, T, C) int64, where the model reads characters.
            character_lengths: (B, T) real characters of each word.
        """
        hidden = self._recur(words, lengths, characters, character_lengths)
        if self.attention is not None and self.combine is not None:
            context, _ = self._attend(hidden, lengths)
            hidden = self.combine(hidden, context)
        return self.dropout(hidden)

    def loss(self, features: Tensor, labels: Tensor, lengths: Tensor) -> Tensor:
        """Summed nats of the labels (B, T), given features (B, T, D), of rows of ``lengths`` (B,); 0 counts nothing."""
        return self.output.loss(features, labels, lengths)

    def step(self, batch: Any, stage: str) -> Loss:
        """The loss of a batch (a ``TagBatch``), per element."""
        features, lengths = self._batch_features(batch), _counted(batch)
        return Loss(self.loss(features, batch.labels, lengths), lengths.sum())

    def evaluate(self, batch: Any, stage: str) -> Decisions:
        """See `LabelModule.evaluate`."""
        features, lengths = self._batch_features(batch), _counted(batch)
        mask = lengths_mask(lengths, features.shape[1])
        predicted = self.output.decode(features, lengths, self.allowed)
        self.log_loss(Loss(self.loss(features, batch.labels, lengths), lengths.sum()), stage)
        self.log_metrics(self.metrics, stage, predicted, batch.labels, mask)
        if self.scheme is not None:
            counts = count_spans(predicted, batch.labels, mask, _span_table(self.scheme, self.label_names))
            self.log_metrics(self.span_metrics, stage, counts, shown=("span_f1",))
        return Decisions(predicted=predicted, actual=batch.labels.masked_fill(~mask, IGNORE))

    def dry_loss(self, rows: int, length: int) -> Tensor:
        """See `SequenceModule.dry_loss`; words have six characters."""
        lengths = torch.full((rows,), length)
        labels = torch.zeros(rows, length, dtype=torch.int64, device=self.device)
        words, characters = self.input.zeros(rows, length, self.device), labels.new_zeros(rows, length, 6)
        features = self.features(words, lengths, characters, torch.full((rows, length), 6))
        return self.loss(features, labels, lengths)

    def predict_step(self, batch: Any, batch_idx: int) -> list[dict[str, Any]]:
        """A dict for each row: ``index``, ``words``, ``labels`` (names), their ``probabilities``, and ``text``.

        A probability is that of the label at its place, summed over all paths of labels that the scheme allows. With
        `predict_attention` there are the ``weights``, too: for each word those of all words, the mean over the heads.

        Raises:
            UserError: if weights are asked for, and the model has no attention.
        """
        features, lengths = self._batch_features(batch), _counted(batch)
        best = self.output.decode(features, lengths, self.allowed)
        marginals = self.output.marginals(features, lengths, self.allowed)
        probabilities = marginals.gather(-1, best.unsqueeze(-1)).squeeze(-1).cpu()
        weights = self._batch_weights(batch, len(best)).mean(1).cpu() if self.predict_attention else None
        best = best.cpu()
        rows: list[dict[str, Any]] = []
        for b, (index, words, counts) in enumerate(zip(batch.indices, batch.texts, batch.counts.tolist(), strict=True)):
            if not counts:
                continue
            size = len(words)
            names = [self.label_names[label] for label in best[b, :size].tolist()]
            row = {
                "index": index,
                "words": list(words),
                "labels": names,
                "probabilities": _rounded(probabilities[b, :size]),
                "text": " ".join(names),
            }
            if weights is not None:
                row["weights"] = [_rounded(word) for word in weights[b, :size, :size]]
            rows.append(row)
        return rows

    def num_tokens(self, batch: Any) -> Tensor:
        """Elements that a batch trains on, for throughput; a tensor, so that no step waits for the device."""
        return _counted(batch).sum()

    @torch.no_grad()
    def attention_weights(
        self,
        words: Tensor,
        lengths: Tensor | None = None,
        characters: Tensor | None = None,
        character_lengths: Tensor | None = None,
    ) -> Tensor:
        """Where the model looks: (B, H, T, T); for the arguments see `features`.

        Raises:
            UserError: if the model has no attention.
        """
        if self.attention is None:
            raise UserError("attention: null: a plain recurrent network has no attention weights")
        hidden = self._recur(words, lengths, characters, character_lengths)
        _, weights = self._attend(hidden, lengths, need_weights=True)
        return weights

    def attention_views(self, batch: Any, rows: int) -> list[list[AttentionView]]:
        """See `ShowsAttention`."""
        weights = self._batch_weights(batch, rows)
        names = batch.texts or [map(str, range(1, length + 1)) for length in batch.words.lengths.tolist()]
        return [[AttentionView.of(row, own := tuple(name), own)] for row, name in zip(weights, names, strict=False)]

    def text_views(self, text: str) -> list[AttentionView]:
        """See `ShowsAttention`; words are what white space separates."""
        if self.tokenizer is None:
            raise UserError("the model has no tokenizer to read a text with: set model.tokenizer")
        words = text.split()
        if not words:
            raise UserError(f"there is no word in the text {text!r}")
        # Where the whole vocabulary is in lower case, so are the words that are looked up in it.
        vocabulary = self.tokenizer.tokens(range(self.tokenizer.vocab_size))
        forms = [word.lower() for word in words] if all(token == token.lower() for token in vocabulary) else words
        ids = torch.tensor([self.tokenizer.ids(forms)], device=self.device)
        characters = sizes = None
        if self.characters is not None and self.character_tokenizer is not None:
            rows = [torch.tensor(row) for row in self.character_tokenizer.encode_batch(words)]
            characters = pad_sequence(rows, batch_first=True)[None].to(self.device)
            sizes = torch.tensor([[len(row) for row in rows]], device=self.device)
        weights = self.attention_weights(ids, None, characters, sizes)
        return [AttentionView.of(weights[0], words, words)]

    def setup(self, stage: str) -> None:
        """Takes the data's vocabularies; see `SequenceModule.setup`.

        Raises:
            UserError: if the labels are not of the scheme.
        """
        super().setup(stage)
        if self.scheme is not None:
            _span_table(self.scheme, self.label_names)

    @property
    def allowed(self) -> Allowed | None:
        """The paths of labels that the scheme allows; None for all."""
        return None if self.scheme is None else _allowed(self.scheme, self.label_names)

    def _recur(
        self, words: Tensor, lengths: Tensor | None, characters: Tensor | None, character_lengths: Tensor | None
    ) -> Tensor:
        x = self.input(words)
        if self.characters is not None:
            if characters is None or character_lengths is None:
                raise UserError("model.characters: the batch has no characters: give the data a character_tokenizer")
            x = torch.cat([x, self.characters(characters, character_lengths)], dim=-1)
        hidden, _ = self.rnn(self.dropout(x), None, lengths)
        return hidden

    def _attend(self, hidden: Tensor, lengths: Tensor | None, need_weights: bool = False) -> tuple[Tensor, Any]:
        assert self.attention is not None
        mask = None if lengths is None else lengths_mask(lengths, hidden.shape[1]).to(hidden.device)
        return self.attention(hidden, self.attention.memory(hidden, mask=mask), need_weights=need_weights)

    def _batch_features(self, batch: Any) -> Tensor:
        way = "TagBatch: set data to TaggedDataModule, or model to SequenceClassifier"
        self.check_batch(batch, "words", f"learns a label for each element, from {way}")
        return self.features(batch.words.values, batch.words.lengths, batch.characters, batch.character_lengths)

    def _batch_weights(self, batch: Any, rows: int) -> Tensor:
        characters, sizes = (None if x is None else x[:rows] for x in (batch.characters, batch.character_lengths))
        return self.attention_weights(batch.words.values[:rows], batch.words.lengths[:rows], characters, sizes)


def _lengths(words: Tensor, lengths: Tensor | None) -> Tensor:
    return torch.full((words.shape[0],), words.shape[1], device=words.device) if lengths is None else lengths


def _counted(batch: Any) -> Tensor:
    """The lengths of a batch's rows, zero for those that do not count, on the batch's device."""
    return batch.words.lengths.to(batch.counts.device) * batch.counts


def _rounded(values: Tensor) -> list[float]:
    return [round(value, 6) for value in values.tolist()]


@functools.cache
def _allowed(scheme: LabelScheme, labels: tuple[str, ...]) -> Allowed:
    return scheme.allowed(labels)


@functools.cache
def _span_table(scheme: LabelScheme, labels: tuple[str, ...]) -> SpanTable:
    return scheme.table(labels)
