"""Sequence to sequence: an encoder, a decoder that attends to what it read, and a bridge between them.

Letters: B batch, K hypotheses of a sentence, S source time, T target time, D features, H heads, V target vocabulary.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch import Tensor, nn
from torchmetrics import Metric

from lightning_rnnattn.decoding import Greedy, Hypothesis, Search
from lightning_rnnattn.errors import UserError, require_probability
from lightning_rnnattn.layers import (
    LSTM,
    BridgeFactory,
    DecoderFactory,
    InputFeedingDecoder,
    ProjectionBridge,
    RNNFactory,
    StateShape,
)
from lightning_rnnattn.modules.base import Loss, SequenceModule, Vocabulary
from lightning_rnnattn.modules.labelling import by_stage
from lightning_rnnattn.modules.metrics import LossMetric, Perplexity
from lightning_rnnattn.modules.seq2seq_cache import Seq2SeqCache
from lightning_rnnattn.modules.tag_metrics import TokenAccuracy
from lightning_rnnattn.modules.text_metrics import TextMetric
from lightning_rnnattn.modules.views import AttentionView
from lightning_rnnattn.ops.cross_entropy import IGNORE, linear_cross_entropy
from lightning_rnnattn.ops.masks import lengths_mask
from lightning_rnnattn.tokenizers import Tokenizer


class Seq2Seq(SequenceModule):
    r"""Reads a source, and writes a target token by token: translation, pronunciation, transduction of any kind.

    .. math::
        h, z = \mathrm{encoder}(E_s x), \qquad s_0 = \mathrm{bridge}(z), \qquad
        \tilde s_t = \mathrm{decoder}(E_t y_{t-1}, s_{t-1}, h), \qquad
        p(y_t \mid y_{<t}, x) = \mathrm{softmax}(W_o \tilde s_t + b_o)

    It is trained on targets that are given (teacher forcing). Validation and test also decode with ``search``, where
    there are ``text_metrics`` to judge what comes out.

    To change the model, override `build_embedding` or `build_output`; to change what is learnt, `loss` or `step`.

    Args:
        source_vocab_size: tokens that a source may have; on the command line it comes from the data.
        target_vocab_size: V; likewise.
        embedding_size: features of a token's embedding, on either side.
        encoder: makes the network that reads the source from its input size.
        decoder: makes the decoder from (input_size, memory_size): `BahdanauDecoder`, `LuongDecoder`,
            `InputFeedingDecoder`.
        bridge: makes what turns the encoder's last state into the decoder's first: `ProjectionBridge`,
            `LastStateBridge`, `ZeroBridge`.
        share_embeddings: one matrix for source and target embeddings, of one vocabulary.
        tie_weights: one matrix for target embedding and output (Press and Wolf 2017); a linear layer before it where
            their sizes differ. With ``share_embeddings``, one for all three.
        dropout: probability of dropping a feature of an embedding, of what the encoder read, and before the output.
        label_smoothing: share of a target's probability that is spread over the vocabulary, in training.
        search: how to find texts: `Greedy`, `BeamSearch`, `Sampling`.
        text_metrics: each makes a metric of what is written: `BLEU`, `PhoneErrorRate` and others.
        optimizer: see `SequenceModule`.
        lr_scheduler: see `SequenceModule`.

    Raises:
        UserError: if embeddings are to be shared by vocabularies of different sizes, a share is out of range, or two
            text metrics have one name.

    Example:
        >>> model = Seq2Seq(source_vocab_size=90, target_vocab_size=70, decoder=LuongDecoder)
        >>> logits = model(torch.zeros(2, 6, dtype=torch.long), torch.tensor([6, 4]), torch.zeros(2, 5).long())
        >>> logits.shape
        torch.Size([2, 5, 70])
    """

    vocabularies = ("source_tokenizer", "target_tokenizer")
    source_tokenizer: Tokenizer | None
    target_tokenizer: Tokenizer | None

    def __init__(
        self,
        source_vocab_size: int,
        target_vocab_size: int,
        embedding_size: int = 256,
        encoder: RNNFactory = partial(LSTM, bidirectional=True),  # noqa: B008  (immutable)
        decoder: DecoderFactory = InputFeedingDecoder,
        bridge: BridgeFactory = ProjectionBridge,
        share_embeddings: bool = False,
        tie_weights: bool = False,
        dropout: float = 0.0,
        label_smoothing: float = 0.0,
        search: Search = Greedy(),  # noqa: B008  (frozen)
        text_metrics: Sequence[Callable[[], TextMetric]] = (),
        optimizer: OptimizerCallable | None = None,
        lr_scheduler: LRSchedulerCallable | None = None,
    ) -> None:
        super().__init__(optimizer, lr_scheduler)
        require_probability(dropout=dropout, label_smoothing=label_smoothing)
        if share_embeddings and source_vocab_size != target_vocab_size:
            raise UserError(
                f"model.share_embeddings: the source has {source_vocab_size} tokens, the target {target_vocab_size}: "
                "one matrix needs one vocabulary for both (data.target_tokenizer: null)"
            )
        self.dropout = nn.Dropout(dropout)
        self.label_smoothing = label_smoothing
        self.search = search
        self.source_embedding = self.build_embedding(source_vocab_size, embedding_size)
        self.target_embedding = (
            self.source_embedding if share_embeddings else self.build_embedding(target_vocab_size, embedding_size)
        )
        self.encoder = encoder(embedding_size)
        self.decoder = decoder(embedding_size, self.encoder.output_size)
        self.bridge = bridge(StateShape.of(self.encoder), StateShape.of(self.decoder.rnn))
        hidden = self.decoder.output_size
        self.projection = (
            nn.Linear(hidden, embedding_size, bias=False) if tie_weights and hidden != embedding_size else nn.Identity()
        )
        self.output = self.build_output(embedding_size if tie_weights else hidden, target_vocab_size)
        if tie_weights:
            self.output.weight = self.target_embedding.weight

        self.losses = by_stage(lambda: {"loss": LossMetric(), "perplexity": Perplexity()})
        self.metrics = by_stage(self.build_metrics)
        self.text_metrics = by_stage(lambda: _by_name(make() for make in text_metrics))

    def take_vocabularies(self, vocabularies: Mapping[str, Vocabulary | None]) -> None:
        """See `SequenceModule.take_vocabularies`.

        Raises:
            UserError: if embeddings are shared by two vocabularies, too.
        """
        super().take_vocabularies(vocabularies)
        known = None not in (self.source_tokenizer, self.target_tokenizer)
        if known and self.source_embedding is self.target_embedding and self.source_tokenizer != self.target_tokenizer:
            raise UserError(
                "model.share_embeddings: source and target have vocabularies of their own, if of one size: one matrix "
                "needs one vocabulary for both (data.target_tokenizer: null)"
            )

    def build_embedding(self, vocab_size: int, embedding_size: int) -> nn.Embedding:
        """Makes the map from token ids to vectors, for either side."""
        embedding = nn.Embedding(vocab_size, embedding_size)
        nn.init.uniform_(embedding.weight, -0.1, 0.1)
        return embedding

    def build_output(self, hidden_size: int, vocab_size: int) -> nn.Linear:
        """Makes the map from features to logits."""
        output = nn.Linear(hidden_size, vocab_size)
        nn.init.uniform_(output.weight, -0.1, 0.1)
        nn.init.zeros_(output.bias)
        return output

    def build_metrics(self) -> dict[str, Metric]:
        """Makes a stage's metrics of tokens, each predicted from those before it as they should be.

        Each is updated with tokens (N,) predicted, actual, and a mask (N,).
        """
        return {"accuracy": TokenAccuracy()}

    def forward(self, source: Tensor, lengths: Tensor, inputs: Tensor) -> Tensor:
        """Logits (B, T, V) of the token that follows each of a target's; for the arguments see `features`."""
        features, _ = self.features(source, lengths, inputs)
        return self.output(self._read_out(features))

    def features(
        self, source: Tensor, lengths: Tensor, inputs: Tensor, need_weights: bool = False
    ) -> tuple[Tensor, Tensor | None]:
        """The decoder's output along a target that is given.

        Args:
            source: (B, S) int64.
            lengths: (B,) real tokens of each source, on the CPU.
            inputs: (B, T) int64, the target's tokens behind one that begins it.
            need_weights: also return the attention's weights.

        Returns:
            Features (B, T, D), and weights (B, H, T, S) or None.
        """
        state, memory = self.start(source, lengths)
        return self.decoder(self.dropout(self.target_embedding(inputs)), state, memory, need_weights)

    def loss(self, features: Tensor, targets: Tensor, label_smoothing: float = 0.0) -> Tensor:
        """Summed cross entropy in nats.

        Args:
            features: (N, D), what the output layer reads, for the tokens of all targets.
            targets: (N,) int64; ``IGNORE`` (-100) where one does not count.
            label_smoothing: see the class.
        """
        return linear_cross_entropy(features, self.output.weight, targets, self.output.bias, label_smoothing)

    def step(self, batch: Any, stage: str) -> Loss:
        """The loss of a batch of pairs (a ``PairBatch``), per target token, its end included."""
        features, targets = self._teach(batch)
        smoothing = self.label_smoothing if stage == "train" else 0.0
        return Loss(self.loss(features, targets, smoothing), (targets != IGNORE).sum())

    def dry_loss(self, rows: int, length: int) -> Tensor:
        """See `SequenceModule.dry_loss`; source and target are of one length."""
        tokens = torch.zeros(rows, length, dtype=torch.int64, device=self.device)
        features, _ = self.features(tokens, torch.full((rows,), length), tokens)
        return self.loss(self._read_out(features.flatten(0, 1)), tokens.flatten())

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        """Updates the metrics of the validation set."""
        self._evaluate(batch, "val")

    def test_step(self, batch: Any, batch_idx: int) -> None:
        """Updates the metrics of the test set."""
        self._evaluate(batch, "test")

    def predict_step(self, batch: Any, batch_idx: int) -> list[dict[str, Any]]:
        """A dict for each row: ``index``, ``source``, the best ``text`` and its ``score``, and all in ``nbest``.

        ``nbest`` (a list of ``text`` and ``score``) is there where ``search`` gives more than one. The text of an
        empty source is empty, with the score 0: no model was trained on one.
        """
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

    def start(self, source: Tensor, lengths: Tensor) -> Seq2SeqCache:
        """Reads sources; see `lightning_rnnattn.decoding.DecoderModel`."""
        encoded, last = self.encoder(self.dropout(self.source_embedding(source)), None, lengths)
        mask = lengths_mask(lengths, source.shape[1]).to(source.device)
        memory = self.decoder.memory(self.dropout(encoded), mask)
        return Seq2SeqCache(self.decoder.start(self.bridge(last)), memory)

    def decode_step(
        self, tokens: Tensor, cache: Seq2SeqCache, need_weights: bool = False
    ) -> tuple[Tensor, Seq2SeqCache, Tensor | None]:
        """Reads one more token of each hypothesis; see `lightning_rnnattn.decoding.DecoderModel`.

        Args:
            tokens: (B, K) int64.
            cache: from `start`, or from the step before.
            need_weights: also return the attention's weights.

        Returns:
            Logits (B, K, V) of the next token, what the next step needs, and weights (B, K, S), the mean of the heads',
            or None.
        """
        inputs = self.dropout(self.target_embedding(tokens))
        features, state, weights = self.decoder.recur(inputs, cache.state, cache.memory, need_weights)
        logits = self.output(self._read_out(features))
        return logits, cache._replace(state=state), None if weights is None else weights.mean(1)

    def num_tokens(self, batch: Any) -> Tensor:
        """Target tokens that a batch trains on, for throughput; a tensor, so that no step waits for the device."""
        return (batch.target.lengths.to(batch.counts.device) * batch.counts).sum()

    @torch.no_grad()
    def attention_weights(self, source: Tensor, lengths: Tensor, target: Tensor) -> Tensor:
        """Where the model looks as it writes targets (B, T) that are given: (B, H, T, S).

        Row t is where it looked to write the target's token t.
        """
        _, weights = self.features(source, lengths, self._shifted(target), need_weights=True)
        assert weights is not None
        return weights

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

    def _teach(self, batch: Any) -> tuple[Tensor, Tensor]:
        """What the output layer reads (N, D) for the N tokens of all targets, and these (N,); IGNORE if uncounted."""
        values, lengths = batch.target.values, batch.target.lengths
        features, _ = self.features(batch.source.values, batch.source.lengths, self._shifted(values))
        # The output layer is most of the work: it is spared the padding. Lengths are on the CPU, so nothing waits.
        real = lengths_mask(lengths, values.shape[1]).flatten().nonzero().squeeze(-1).to(values.device)
        targets = values.masked_fill(~batch.counts.unsqueeze(-1), IGNORE)
        return self._read_out(features.flatten(0, 1)[real]), targets.flatten()[real]

    def _shifted(self, target: Tensor) -> Tensor:
        """Targets (B, T) as the decoder reads them: behind a token that begins them, without their last."""
        bos_id = self._tokenizer("target_tokenizer").bos_id
        assert bos_id is not None
        return torch.cat([torch.full_like(target[:, :1], bos_id), target[:, :-1]], dim=1)

    def _read_out(self, features: Tensor) -> Tensor:
        return self.dropout(self.projection(features))

    def _tokenizer(self, name: str) -> Tokenizer:
        tokenizer: Tokenizer | None = getattr(self, name)
        if tokenizer is None:
            raise UserError(f"the {name.replace('_', ' ')} is not known: set model.{name}, or use a data module")
        return tokenizer

    def _tokens(self, name: str, ids: Tensor, lengths: Tensor) -> list[list[str]]:
        """The text of each id of rows (B, T) of ``lengths``."""
        tokenizer = self._tokenizer(name)
        return [tokenizer.tokens(row[:length]) for row, length in zip(ids.tolist(), lengths.tolist(), strict=False)]

    def _evaluate(self, batch: Any, stage: str) -> None:
        features, targets = self._teach(batch)
        mask = targets != IGNORE
        loss = self.loss(features, targets)
        for name, metric in self.losses[stage].items():  # type: ignore[operator]
            metric.update(loss, mask.sum())
            self.log(f"{stage}_{name}", metric, prog_bar=name != "loss", batch_size=1)
        predicted = self.output(features).argmax(-1)
        for name, metric in self.metrics[stage].items():  # type: ignore[operator]
            metric.update(predicted, targets, mask)
            self.log(f"{stage}_{name}", metric, batch_size=1)
        if not self.text_metrics[stage]:
            return
        found = self.decode(batch.source.values, batch.source.lengths)
        counted = [i for i, counts in enumerate(batch.counts.tolist()) if counts]
        texts = [self.text(found[i][0].tokens) for i in counted]
        references = [batch.texts[i].references for i in counted]
        for name, metric in self.text_metrics[stage].items():  # type: ignore[operator]
            metric.update(texts, references)
            self.log(f"{stage}_{name}", metric, prog_bar=True, batch_size=1)


def _by_name(metrics: Iterable[TextMetric]) -> dict[str, Metric]:
    named: dict[str, Metric] = {}
    for metric in metrics:
        if metric.name in named:
            raise UserError(f"model.text_metrics: two are called {metric.name!r}: leave one out, or change its options")
        named[metric.name] = metric
    return named
