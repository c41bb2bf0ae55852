"""Language model: a recurrent network with attention over its own outputs.

Letters: B batch, T time, D features, H heads, V vocabulary.
"""

from typing import Any

import torch
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch import Tensor, nn
from torch.nn import functional as F
from torchmetrics import Metric

from lightning_rnnattn.errors import UserError, require_probability
from lightning_rnnattn.layers import LSTM, RNN, Attentional, AttentionFactory, CombineFactory, RNNFactory
from lightning_rnnattn.layers.attentive_rnn import AttentiveRNN
from lightning_rnnattn.layers.dropout import LockedDropout
from lightning_rnnattn.layers.inputs import InputFactory, TokenEmbedding
from lightning_rnnattn.layers.past import Cache, Past
from lightning_rnnattn.modules.base import Loss, SequenceModule
from lightning_rnnattn.modules.metrics import BitsPerCharacter, Perplexity, by_stage
from lightning_rnnattn.modules.neural_cache import CacheEntries, NeuralCache
from lightning_rnnattn.modules.views import AttentionView, encoded
from lightning_rnnattn.modules.word_vectors import prepare_input
from lightning_rnnattn.ops.cross_entropy import IGNORE, linear_cross_entropy
from lightning_rnnattn.ops.penalties import activation_penalty, slowness_penalty


class LanguageModel(SequenceModule):
    r"""Predicts each token from those before it.

    .. math::
        \tilde h = \mathrm{AttentiveRNN}(\mathrm{input}(x)), \qquad
        p(x_{t+1} \mid x_{\le t}) = \mathrm{softmax}(W_o \tilde h_t + b_o)

    The state, and the last W - 1 outputs for the attention to reach, are carried from batch to batch of a contiguous
    stream, detached (truncated back-propagation through time). Logits do not depend on how a text is cut into pieces.

    To change the model, override `build_output`, or `features` (then `decode_step`, its like for one token, too); to
    change what is learnt, `loss` or `step`.

    Args:
        vocab_size: V; on the command line it comes from the data.
        input: makes the layer that reads tokens from their number.
        rnn: makes the recurrent network from its input size. It reads forward only.
        attention: makes the attention from (query_dim, key_dim), with a ``window``; None for the plain recurrent
            network.
        combine: makes the layer that joins output and context.
        tie_weights: one matrix for embedding and output (Press and Wolf 2017; Inan et al. 2017); a linear layer
            between them where their sizes differ.
        dropout: probability of dropping a feature before the output layer.
        locked_dropout: the same, with one mask for all steps of a batch: see `LockedDropout`.
        label_smoothing: share of a target's probability that is spread over the vocabulary, in training.
        activation_penalty: how much the mean square of what the output layer reads adds to the training loss.
        slowness_penalty: how much the mean square of the change from step to step, before dropout, adds to it.
        cache: a memory of recent words that takes part in validation, test and prediction; None for none.
        optimizer: see `SequenceModule`.
        lr_scheduler: see `SequenceModule`.

    Raises:
        UserError: if the recurrent network is bidirectional, the attention has no window, a share is out of range, or
            weights are to be tied to an input without an embedding.

    Example:
        >>> model = LanguageModel(vocab_size=65, attention=partial(Attention, score=AdditiveScore, window=32))
        >>> logits, past = model(torch.zeros(2, 10, dtype=torch.long))
        >>> logits.shape
        torch.Size([2, 10, 65])
    """

    changeable = (
        *SequenceModule.changeable,
        "dropout",
        "locked_dropout",
        "label_smoothing",
        "activation_penalty",
        "slowness_penalty",
        "cache",
    )

    def __init__(
        self,
        vocab_size: int,
        input: InputFactory = TokenEmbedding,
        rnn: RNNFactory = LSTM,
        attention: AttentionFactory | None = None,
        combine: CombineFactory = Attentional,
        tie_weights: bool = False,
        dropout: float = 0.0,
        locked_dropout: float = 0.0,
        label_smoothing: float = 0.0,
        activation_penalty: float = 0.0,
        slowness_penalty: float = 0.0,
        cache: NeuralCache | None = None,
        optimizer: OptimizerCallable | None = None,
        lr_scheduler: LRSchedulerCallable | None = None,
    ) -> None:
        super().__init__(optimizer, lr_scheduler)
        require_probability(dropout=dropout, locked_dropout=locked_dropout, label_smoothing=label_smoothing)
        self.label_smoothing = label_smoothing
        self.activation_penalty, self.slowness_penalty = activation_penalty, slowness_penalty
        self.cache = cache
        self.input = input(vocab_size)
        self.core = AttentiveRNN(self.input.output_size, rnn, attention, combine)
        size = self.core.output_size
        embedding = getattr(self.input, "embedding", None)
        if tie_weights and not isinstance(embedding, nn.Embedding):
            raise UserError(f"tie_weights: {type(self.input).__name__} has no embedding to tie the output to")
        # What lies between the recurrent network and a tied output layer of another size.
        self.projection: nn.Module = nn.Identity()
        if tie_weights and size != self.input.output_size:
            self.projection = nn.Linear(size, self.input.output_size, bias=False)
        self.dropout = nn.Sequential(nn.Dropout(dropout), LockedDropout(locked_dropout))
        self.output = self.build_output(self.input.output_size if tie_weights else size, vocab_size)
        if tie_weights:
            self.output.weight = embedding.weight  # type: ignore[union-attr]

        self.character_metrics = by_stage(self.build_character_metrics)
        self._carried: dict[str, Past] = {}  # by stage, from batch to batch
        self._cached: dict[str, CacheEntries] = {}

    @property
    def rnn(self) -> RNN:
        """The recurrent network, for callbacks that look at it."""
        return self.core.rnn

    def num_ids(self) -> dict[str, int]:
        """See `CheckpointedModule.num_ids`."""
        return {"tokenizer": len(self.output.weight)}

    def build_output(self, hidden_size: int, vocab_size: int) -> nn.Linear:
        """Makes the map from features to logits."""
        output = nn.Linear(hidden_size, vocab_size)
        nn.init.uniform_(output.weight, -0.1, 0.1)
        nn.init.zeros_(output.bias)
        return output

    def build_losses(self) -> dict[str, Metric]:
        """See `SequenceModule.build_losses`."""
        return {**super().build_losses(), "perplexity": Perplexity()}

    def build_character_metrics(self) -> dict[str, Metric]:
        """Makes a stage's metrics by character; each is updated with a batch's summed nats, and its characters.

        They are left out where the tokenizer does not say how many characters a token stands for.
        """
        return {"bpc": BitsPerCharacter()}

    def forward(self, tokens: Tensor, past: Past | None = None, lengths: Tensor | None = None) -> tuple[Tensor, Past]:
        """Logits of the token that follows each position.

        Args:
            tokens: (B, T) int64.
            past: what an earlier call returned, for the text that these tokens continue; None at a text's start.
            lengths: (B,) real tokens of each row, on the CPU; None where all are real.

        Returns:
            Logits (B, T, V), and what the next piece needs.
        """
        features, past = self.features(tokens, past, lengths)
        return self.output(self._read_out(features)), past

    def features(self, tokens: Tensor, past: Past | None = None, lengths: Tensor | None = None) -> tuple[Tensor, Past]:
        """What the network makes of tokens, (B, T, D), before dropout and output; for the arguments see `forward`."""
        return self.core(self.input(tokens), past, lengths)

    def loss(self, features: Tensor, targets: Tensor, mask: Tensor, label_smoothing: float = 0.0) -> Tensor:
        """Summed cross entropy in nats.

        Args:
            features: (B, T, D) what the output layer reads.
            targets: (B, T) int64.
            mask: (B, T) bool, True where a target counts.
            label_smoothing: see the class.
        """
        return linear_cross_entropy(
            features.flatten(0, 1),
            self.output.weight,
            targets.masked_fill(~mask, IGNORE).flatten(),
            self.output.bias,
            label_smoothing,
        )

    def step(self, batch: Any, stage: str) -> Loss:
        """The loss of a batch of contiguous streams (a ``TokenBatch``), the state carried from the batch before."""
        features = self._advance(batch, stage)
        read, count = self._read_out(features), batch.mask.sum()
        if stage != "train":
            if self.cache is None:
                return Loss(self.loss(read, batch.targets, batch.mask), count)
            return Loss(-self._log_probs(read, batch, stage)[batch.mask].sum(), count)
        total = self.loss(read, batch.targets, batch.mask, self.label_smoothing)
        if self.activation_penalty:
            total = total + self.activation_penalty * activation_penalty(read, batch.mask)
        if self.slowness_penalty:
            total = total + self.slowness_penalty * slowness_penalty(features, batch.mask)
        return Loss(total, count)

    def dry_loss(self, rows: int, length: int) -> Tensor:
        """See `SequenceModule.dry_loss`."""
        tokens = torch.zeros(rows, length, dtype=torch.int64, device=self.device)
        features, _ = self.features(tokens)
        return self.loss(self._read_out(features), tokens, torch.ones_like(tokens, dtype=torch.bool))

    def evaluate(self, batch: Any, stage: str) -> None:
        """See `SequenceModule.evaluate`: the loss by token, and by character."""
        loss = self.step(batch, stage)
        self.log_loss(loss, stage)
        characters = None if self.tokenizer is None else self.tokenizer.num_chars
        if characters is not None:
            count = characters.to(loss.total.device)[batch.targets][batch.mask].sum()
            self.log_metrics(self.character_metrics, stage, loss.total, count)

    def predict_step(self, batch: Any, batch_idx: int) -> list[dict[str, Any]]:
        """Log-probability of each token, by row: ``document``, ``tokens`` (ids) and ``log_probs`` (nats)."""
        log_probs = self._log_probs(self._read_out(self._advance(batch, "predict")), batch, "predict")
        rows = zip(batch.documents, batch.targets, log_probs, batch.mask, strict=False)  # rows beyond them are empty
        return [
            {"document": document, "tokens": targets[mask].tolist(), "log_probs": row[mask].tolist()}
            for document, targets, row, mask in rows
        ]

    def on_fit_start(self) -> None:
        """Lets the input layer take its pretrained vectors."""
        super().on_fit_start()
        prepare_input(self.input, self.tokenizer)

    def rank_state(self) -> dict[str, Any]:
        """Adds what training carries from batch to batch."""
        carried = self._carried.get("train")
        return {**super().rank_state(), "carried": None if carried is None else tuple(carried)}

    def restore_rank_state(self, state: dict[str, Any]) -> None:
        """Takes up what training carried."""
        super().restore_rank_state(state)
        if state["carried"] is not None:
            self._carried["train"] = Past(*state["carried"]).map(self._like_parameters)

    def forget(self) -> None:
        """Drops what training carries: the next batch starts from nothing, as after a step that was left out."""
        self._carried.pop("train", None)

    def _like_parameters(self, x: Tensor) -> Tensor:
        # The run may be resumed in another precision.
        return x.to(self.device, self.dtype if x.is_floating_point() else None)  # type: ignore[arg-type]

    def num_tokens(self, batch: Any) -> Tensor:
        """Tokens that a batch trains on, for throughput; a tensor, so that no step waits for the device."""
        return batch.mask.sum()

    @torch.no_grad()
    def attention_weights(self, tokens: Tensor) -> Tensor:
        """Where the model looks: (B, H, T, T) for texts (B, T) that start at their beginning.

        Raises:
            UserError: if the model has no attention.
        """
        return self.core.weights(self.input(tokens))

    def attention_views(self, batch: Any, rows: int) -> list[list[AttentionView]]:
        """See `ShowsAttention`; a row is looked at as if a text began with it."""
        return [self._views(tokens[mask]) for tokens, mask in zip(batch.tokens[:rows], batch.mask[:rows], strict=True)]

    def text_views(self, text: str) -> list[AttentionView]:
        """See `ShowsAttention`."""
        return self._views(torch.tensor(encoded(self.tokenizer, text), device=self.device))

    def prefill(self, tokens: Tensor, lengths: Tensor) -> tuple[Tensor, Cache]:
        """Reads prompts (B, T) of real lengths (B,), at least 1: logits (B, V) of their next tokens, and a cache."""
        features, cache = self.core.prefill(self.input(tokens), lengths)
        return self.output(self._read_out(features)), cache

    def decode_step(self, tokens: Tensor, cache: Cache) -> tuple[Tensor, Cache]:
        """Reads one more token (B,) of each text: logits (B, V) of the next, and the cache for it."""
        features, cache = self.core.step(self.input(tokens[:, None])[:, 0], cache)
        return self.output(self._read_out(features)), cache

    def _views(self, tokens: Tensor) -> list[AttentionView]:
        ids = tokens.tolist()
        names = list(map(str, ids)) if self.tokenizer is None else self.tokenizer.tokens(ids)
        return [AttentionView.of(self.attention_weights(tokens[None])[0], names, names)]

    def _read_out(self, features: Tensor) -> Tensor:
        return self.dropout(self.projection(features))

    def _advance(self, batch: Any, stage: str) -> Tensor:
        """The features of a batch, the state carried from the batch before and to the next."""
        self.check_batch(batch, "is_first", "learns from streams of tokens, TokenBatch: set data to TextDataModule")
        past = None if batch.is_first else self._carried.get(stage)
        features, past = self.features(batch.tokens, past)
        self._carried[stage] = past.map(Tensor.detach)
        return features

    def _log_probs(self, read: Tensor, batch: Any, stage: str) -> Tensor:
        """Log-probabilities (B, T) of a batch's targets, the cache's part included."""
        log_probs = -F.cross_entropy(self.output(read).float().transpose(1, 2), batch.targets, reduction="none")
        if self.cache is not None:
            entries = None if batch.is_first else self._cached.get(stage)
            log_probs, self._cached[stage] = self.cache.mix(log_probs, read, batch.targets, batch.mask, entries)
        return log_probs
