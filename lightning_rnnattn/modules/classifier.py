"""Sequence classifier: a label, or several, for a whole sequence.

Letters: B batch, T time, D features, R learnt queries of the pooling, L labels.
"""

from functools import partial
from typing import Any

import torch
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch import Tensor
from torchmetrics import AUROC, Accuracy, F1Score, Metric

from lightning_rnnattn.errors import UserError
from lightning_rnnattn.layers import LSTM, AttentionPooling, PoolingFactory, RNNFactory, redundancy
from lightning_rnnattn.layers.class_output import ClassOutputFactory, MultiLabel, SingleLabel
from lightning_rnnattn.layers.inputs import InputFactory, TokenEmbedding
from lightning_rnnattn.modules.base import Loss
from lightning_rnnattn.modules.labelling import Decisions, LabelModule
from lightning_rnnattn.modules.metrics import by_stage
from lightning_rnnattn.modules.views import AttentionView, encoded
from lightning_rnnattn.ops.cross_entropy import IGNORE
from lightning_rnnattn.ops.masks import lengths_mask


class SequenceClassifier(LabelModule):
    r"""Gives a sequence a label, or several.

    .. math::
        h = \mathrm{RNN}(\mathrm{input}(x)), \qquad m, A = \mathrm{pooling}(h), \qquad p = \mathrm{output}(m) \\
        \mathrm{loss} = -\log p_y + \lambda \|A A^\top - I\|_F^2

    With a bidirectional LSTM and `AttentionPooling` of several queries this is the self-attentive sentence embedding of
    Lin et al. (2017). To change the model, override `features`; to change what is learnt, `loss`.

    Args:
        input_size: size of the vocabulary, or features of an element; on the command line from the data.
        num_labels: L; on the command line from the data.
        input: makes the layer that reads elements from ``input_size``: `TokenEmbedding`, `Features`.
        rnn: makes the recurrent network from its input size.
        pooling: makes the layer from the network's outputs to one vector.
        output: makes the output layer from (features, ``num_labels``): `SingleLabel`, `MultiLabel`.
        dropout: probability of dropping a feature before the recurrent network, and one before the output layer.
        penalty: :math:`\lambda`, what keeps the pooling's queries from looking at the same elements, and each of them
            from looking everywhere (Lin et al. 2017, equation 8); in training only.
        auroc: whether the area under the ROC curve is measured, too, which keeps the probabilities of a whole split.
        optimizer: see `SequenceModule`.
        lr_scheduler: see `SequenceModule`.

    Attributes:
        predict_attention: whether predictions have the weight of each element, too; ``predict --attention`` sets it.

    Raises:
        UserError: if ``dropout`` is no probability, or ``penalty`` is negative.

    Example:
        >>> classifier = SequenceClassifier(input_size=100, num_labels=2)
        >>> probabilities = classifier(torch.zeros(3, 5, dtype=torch.long), lengths=torch.tensor([5, 3, 0]))
        >>> probabilities.shape
        torch.Size([3, 2])
    """

    changeable = (*LabelModule.changeable, "penalty", "auroc")
    predict_attention = False

    def __init__(
        self,
        input_size: int,
        num_labels: int,
        input: InputFactory = TokenEmbedding,
        rnn: RNNFactory = partial(LSTM, bidirectional=True),  # noqa: B008  (immutable)
        pooling: PoolingFactory = AttentionPooling,
        output: ClassOutputFactory = SingleLabel,
        dropout: float = 0.0,
        penalty: float = 0.0,
        auroc: bool = False,
        optimizer: OptimizerCallable | None = None,
        lr_scheduler: LRSchedulerCallable | None = None,
    ) -> None:
        super().__init__(input_size, input, dropout, optimizer, lr_scheduler)
        if penalty < 0:
            raise UserError(f"penalty={penalty} must be at least 0")
        self.rnn = rnn(self.input.output_size)
        self.pooling = pooling(self.rnn.output_size, self.rnn.directions)
        self.output = output(self.pooling.output_size, num_labels)
        self.penalty, self.auroc = penalty, auroc
        self.metrics = by_stage(self.build_metrics)

    def build_metrics(self) -> dict[str, Metric]:
        """Makes a stage's metrics; each is updated with probabilities (B, L), and labels, `IGNORE` where none count."""
        labels: dict[str, Any] = {
            "task": self.output.task,
            "num_classes": self.output.num_labels,
            "num_labels": self.output.num_labels,
            "ignore_index": IGNORE,
        }
        metrics = {"accuracy": Accuracy(**labels, average="micro"), "f1": F1Score(**labels, average="macro")}
        return metrics | ({"auroc": AUROC(**labels)} if self.auroc else {})

    def forward(self, values: Tensor, lengths: Tensor | None = None) -> Tensor:
        """The probability of each label, (B, L); for the arguments see `features`."""
        vector, _ = self.features(values, lengths)
        return self.output.probabilities(vector)

    def features(self, values: Tensor, lengths: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """What the output layer reads.

        Args:
            values: (B, T) int64, or (B, T, F) features.
            lengths: (B,) real elements of each row, on the CPU, zero allowed; None where all are real.

        Returns:
            Vectors (B, D), and the weights (B, R, T) of the pooling; None where it has none.
        """
        hidden, _ = self.rnn(self.dropout(self.input(values)), None, lengths)
        mask = torch.ones(hidden.shape[:2], dtype=torch.bool)
        if lengths is not None:
            mask = lengths_mask(lengths, hidden.shape[1])
        vector, weights = self.pooling(hidden, mask.to(hidden.device))
        return self.dropout(vector), weights

    def loss(self, vector: Tensor, weights: Tensor | None, labels: Tensor, counts: Tensor) -> Loss:
        """What is minimised: the labels' loss, weighted, and in training the penalty.

        Args:
            vector: (B, D), of `features`.
            weights: (B, R, T), of `features`.
            labels: (B,) int64, or (B, L) bool.
            counts: (B,) bool, the rows that count.

        Raises:
            UserError: if the labels are not of the output layer's kind; or there is a penalty, and the pooling has no
                weights.
        """
        if labels.dim() != (2 if self.output.task == "multilabel" else 1):
            kind, other = ("several labels", MultiLabel) if labels.dim() == 2 else ("one label", SingleLabel)
            raise UserError(f"the data has {kind} for each sequence: set model.output to {other.__name__}")
        losses = self.output.losses(vector, labels)
        if not self.training:
            return Loss((losses * counts).sum(), counts.sum())
        if self.penalty:
            if weights is None:
                raise UserError(f"model.penalty: {type(self.pooling).__name__} has no weights: leave it 0")
            losses = losses + self.penalty * redundancy(weights)
        shares = self.output.weights(labels) * counts
        return Loss((losses * shares).sum(), shares.sum())

    def step(self, batch: Any, stage: str) -> Loss:
        """The loss of a batch (a ``ClassBatch``), per sequence."""
        return self.loss(*self._batch_features(batch), batch.labels, batch.counts)

    def dry_loss(self, rows: int, length: int) -> Tensor:
        """See `SequenceModule.dry_loss`; labels of one kind or the other, as the output layer has them."""
        values = self.input.zeros(rows, length, self.device)
        vector, weights = self.features(values, torch.full((rows,), length))
        several = (self.output.num_labels,) if self.output.task == "multilabel" else ()
        labels = torch.zeros(rows, *several, dtype=torch.bool if several else torch.int64, device=self.device)
        return self.loss(vector, weights, labels, torch.ones(rows, dtype=torch.bool, device=self.device)).total

    def evaluate(self, batch: Any, stage: str) -> Decisions:
        """See `LabelModule.evaluate`."""
        vector, weights = self._batch_features(batch)
        self.log_loss(self.loss(vector, weights, batch.labels, batch.counts), stage)
        probabilities = self.output.probabilities(vector)
        counts = batch.counts.view(-1, *[1] * (batch.labels.dim() - 1))
        actual = batch.labels.long().masked_fill(~counts, IGNORE)
        self.log_metrics(self.metrics, stage, probabilities, actual)
        return Decisions(predicted=self.output.decide(probabilities), actual=actual)

    def predict_step(self, batch: Any, batch_idx: int) -> list[dict[str, Any]]:
        """A dict for each row: ``index``, ``label`` (a name, or a list of them), ``probabilities`` by name, ``text``.

        Where the batch has texts there is the ``input``, too; and with `predict_attention` the ``tokens``, where there
        are any, and the ``weights`` of each element, the mean over the pooling's queries.

        Raises:
            UserError: if weights are asked for, and the pooling has none.
        """
        vector, weights = self._batch_features(batch)
        probabilities = self.output.probabilities(vector)
        decisions, shares = self.output.decide(probabilities).cpu(), probabilities.tolist()
        rows: list[dict[str, Any]] = []
        for b, (index, counts) in enumerate(zip(batch.indices, batch.counts.tolist(), strict=True)):
            if not counts:
                continue
            label = self.output.names(decisions[b], self.label_names)
            row = {
                "index": index,
                "label": label,
                "probabilities": {name: round(p, 6) for name, p in zip(self.label_names, shares[b], strict=True)},
                "text": label if isinstance(label, str) else " ".join(label),
            }
            if batch.texts is not None:
                row["input"] = batch.texts[b]
            if self.predict_attention:
                row |= self._looked(batch, weights, b)
            rows.append(row)
        return rows

    def num_tokens(self, batch: Any) -> Tensor:
        """Elements that a batch trains on, for throughput; a tensor, so that no step waits for the device."""
        return (batch.inputs.lengths.to(batch.counts.device) * batch.counts).sum()

    @torch.no_grad()
    def attention_weights(self, values: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Where the pooling looks: (B, 1, R, T); for the arguments see `features`.

        Raises:
            UserError: if the pooling has no weights.
        """
        _, weights = self.features(values, lengths)
        return self._required(weights).unsqueeze(1)

    def attention_views(self, batch: Any, rows: int) -> list[list[AttentionView]]:
        """See `ShowsAttention`; elements that are no tokens are numbered."""
        inputs, texts = batch.inputs, batch.texts
        weights = self.attention_weights(inputs.values[:rows], inputs.lengths[:rows])
        names = [list(map(str, range(1, length + 1))) for length in inputs.lengths[:rows].tolist()]
        if self.tokenizer is not None and texts is not None:
            names = [self.tokenizer.pieces(text) for text in texts[:rows]]
        return [[self._view(row, keys)] for row, keys in zip(weights, names, strict=True)]

    def text_views(self, text: str) -> list[AttentionView]:
        """See `ShowsAttention`."""
        ids = torch.tensor([encoded(self.tokenizer, text)], device=self.device)
        assert self.tokenizer is not None
        return [self._view(self.attention_weights(ids)[0], self.tokenizer.pieces(text))]

    def _batch_features(self, batch: Any) -> tuple[Tensor, Tensor | None]:
        way = "ClassBatch: set data to ClassifiedDataModule, or model to SequenceTagger"
        self.check_batch(batch, "inputs", f"learns labels of whole sequences, from {way}")
        return self.features(batch.inputs.values, batch.inputs.lengths)

    def _view(self, weights: Tensor, keys: list[str]) -> AttentionView:
        return AttentionView.of(weights, [f"pooling {query}" for query in range(1, weights.shape[1] + 1)], keys)

    def _required(self, weights: Tensor | None) -> Tensor:
        if weights is None:
            raise UserError(f"model.pooling: {type(self.pooling).__name__} has no attention weights")
        return weights

    def _looked(self, batch: Any, weights: Tensor | None, b: int) -> dict[str, Any]:
        length = int(batch.inputs.lengths[b])
        mean = self._required(weights)[b].mean(0)[:length].tolist()
        looked: dict[str, Any] = {"weights": [round(weight, 6) for weight in mean]}
        if self.tokenizer is not None and batch.texts is not None:
            looked["tokens"] = self.tokenizer.pieces(batch.texts[b])
        return looked
