"""Sequence to sequence: an encoder, a decoder that attends to what it read, and a bridge between them.

Letters: B batch, N target tokens, S source time, T target time, D features, H heads, V target vocabulary.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch import Tensor, nn

from lightning_rnnattn.decoding import Greedy, Search
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
from lightning_rnnattn.modules.base import Loss
from lightning_rnnattn.modules.checkpointed import Vocabulary
from lightning_rnnattn.modules.seq2seq_cache import Seq2SeqCache
from lightning_rnnattn.modules.seq2seq_module import Seq2SeqModule, Taught, log_softmax
from lightning_rnnattn.modules.text_metrics import TextMetric
from lightning_rnnattn.ops.cross_entropy import IGNORE, linear_cross_entropy
from lightning_rnnattn.ops.masks import lengths_mask


class Seq2Seq(Seq2SeqModule):
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

    changeable = (*Seq2SeqModule.changeable, "dropout", "label_smoothing")

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
        super().__init__(search, text_metrics, optimizer, lr_scheduler)
        require_probability(dropout=dropout, label_smoothing=label_smoothing)
        if share_embeddings and source_vocab_size != target_vocab_size:
            raise UserError(
                f"model.share_embeddings: the source has {source_vocab_size} tokens, the target {target_vocab_size}: "
                "one matrix needs one vocabulary for both (data.target_tokenizer: null)"
            )
        self.dropout = nn.Dropout(dropout)
        self.label_smoothing = label_smoothing
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

    def num_ids(self) -> dict[str, int]:
        """See `CheckpointedModule.num_ids`."""
        return {"source_tokenizer": self.source_embedding.num_embeddings, "target_tokenizer": len(self.output.weight)}

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
        features, targets = self._read(batch)
        smoothing = self.label_smoothing if stage == "train" else 0.0
        return Loss(self.loss(features, targets, smoothing), (targets != IGNORE).sum())

    def log_probs(self, batch: Any) -> tuple[Tensor, Tensor]:
        """See `Seq2SeqModule.log_probs`."""
        features, targets = self._read(batch)
        return log_softmax(self.output(features)), targets

    def teach(self, batch: Any) -> Taught:
        """See `Seq2SeqModule.teach`."""
        features, targets = self._read(batch)
        return Taught(self.loss(features, targets), self.output(features).argmax(-1), targets)

    def dry_loss(self, rows: int, length: int) -> Tensor:
        """See `SequenceModule.dry_loss`; source and target are of one length."""
        tokens = torch.zeros(rows, length, dtype=torch.int64, device=self.device)
        features, _ = self.features(tokens, torch.full((rows,), length), tokens)
        return self.loss(self._read_out(features.flatten(0, 1)), tokens.flatten())

    def start(self, source: Tensor, lengths: Tensor) -> Seq2SeqCache:
        """See `Seq2SeqModule.start`."""
        encoded, last = self.encoder(self.dropout(self.source_embedding(source)), None, lengths)
        mask = lengths_mask(lengths, source.shape[1]).to(source.device)
        memory = self.decoder.memory(self.dropout(encoded), mask)
        return Seq2SeqCache(self.decoder.start(self.bridge(last)), memory)

    def decode_step(
        self, tokens: Tensor, cache: Seq2SeqCache, need_weights: bool = False
    ) -> tuple[Tensor, Seq2SeqCache, Tensor | None]:
        """See `Seq2SeqModule.decode_step`."""
        inputs = self.dropout(self.target_embedding(tokens))
        features, state, weights = self.decoder.recur(inputs, cache.state, cache.memory, need_weights)
        logits = self.output(self._read_out(features))
        return logits, cache._replace(state=state), None if weights is None else weights.mean(1)

    @torch.no_grad()
    def attention_weights(self, source: Tensor, lengths: Tensor, target: Tensor) -> Tensor:
        """See `Seq2SeqModule.attention_weights`."""
        _, weights = self.features(source, lengths, self.shifted(target), need_weights=True)
        assert weights is not None
        return weights

    def _read(self, batch: Any) -> tuple[Tensor, Tensor]:
        """What the output layer reads (N, D) for the N tokens of all targets, and these (N,); IGNORE if uncounted."""
        self.check_batch(batch, "target", "learns from pairs, PairBatch: set data to PairDataModule")
        values, lengths = batch.target.values, batch.target.lengths
        features, _ = self.features(batch.source.values, batch.source.lengths, self.shifted(values))
        # The output layer is most of the work: it is spared the padding. Lengths are on the CPU, so nothing waits.
        real = lengths_mask(lengths, values.shape[1]).flatten().nonzero().squeeze(-1).to(values.device)
        targets = values.masked_fill(~batch.counts.unsqueeze(-1), IGNORE)
        return self._read_out(features.flatten(0, 1)[real]), targets.flatten()[real]

    def _read_out(self, features: Tensor) -> Tensor:
        return self.dropout(self.projection(features))
