"""Language model: a recurrent network with attention over its own outputs.

Letters: B batch, T time, D features, H heads, V vocabulary.
"""

from typing import Any

import torch
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch import Tensor, nn
from torch.nn import functional as F
from torchmetrics import Metric

from lightning_rnnattn.errors import UserError
from lightning_rnnattn.layers import LSTM, Attentional, AttentionFactory, CombineFactory, RNNFactory, State
from lightning_rnnattn.layers.past import Cache, Past, extend, newest
from lightning_rnnattn.modules.base import Loss, SequenceModule
from lightning_rnnattn.modules.metrics import BitsPerCharacter, LossMetric, Perplexity
from lightning_rnnattn.ops.cross_entropy import IGNORE, linear_cross_entropy


class LanguageModel(SequenceModule):
    r"""Predicts each token from those before it.

    .. math::
        h_t &= \mathrm{RNN}(E x_t, h_{t-1}), \qquad
        c_t = \sum_{j=t-W+1}^{t} \alpha_{tj} h_j \\
        \tilde h_t &= \mathrm{combine}(h_t, c_t), \qquad
        p(x_{t+1} \mid x_{\le t}) = \mathrm{softmax}(W_o \tilde h_t + b_o)

    The state, and the last W - 1 outputs for the attention to reach, are carried from batch to batch of a contiguous
    stream, detached (truncated back-propagation through time). Logits do not depend on how a text is cut into pieces.

    To change the model, override `build_embedding`, `build_output`, or `features` (then `decode_step`, its like for one
    token, too); to change what is learnt, `loss` or `step`.

    Args:
        vocab_size: V; on the command line it comes from the data.
        embedding_size: features of a token's embedding.
        rnn: makes the recurrent network from its input size. It reads forward only.
        attention: makes the attention from (query_dim, key_dim), with a ``window``; None for the plain recurrent
            network.
        combine: makes the layer that joins output and context.
        tie_weights: one matrix for embedding and output (Press and Wolf 2017; Inan et al. 2017); a linear layer
            between them where their sizes differ.
        dropout: probability of dropping a feature of an embedding, and one before the output layer.
        label_smoothing: share of a target's probability that is spread over the vocabulary, in training.
        optimizer: see `SequenceModule`.
        lr_scheduler: see `SequenceModule`.

    Raises:
        UserError: if the recurrent network is bidirectional, the attention has no window, or a size or a share is out
            of range.

    Example:
        >>> model = LanguageModel(vocab_size=65, attention=partial(Attention, score=AdditiveScore, window=32))
        >>> logits, past = model(torch.zeros(2, 10, dtype=torch.long))
        >>> logits.shape
        torch.Size([2, 10, 65])
    """

    def __init__(
        self,
        vocab_size: int,
        embedding_size: int = 128,
        rnn: RNNFactory = LSTM,
        attention: AttentionFactory | None = None,
        combine: CombineFactory = Attentional,
        tie_weights: bool = False,
        dropout: float = 0.0,
        label_smoothing: float = 0.0,
        optimizer: OptimizerCallable | None = None,
        lr_scheduler: LRSchedulerCallable | None = None,
    ) -> None:
        super().__init__(optimizer, lr_scheduler)
        for name, share in (("dropout", dropout), ("label_smoothing", label_smoothing)):
            if not 0.0 <= share < 1.0:
                raise UserError(f"{name}={share} must lie in [0, 1)")
        for name, size in (("vocab_size", vocab_size), ("embedding_size", embedding_size)):
            if size < 1:
                raise UserError(f"{name}={size}: LanguageModel needs at least 1")
        self.dropout = nn.Dropout(dropout)
        self.label_smoothing = label_smoothing
        self.embedding = self.build_embedding(vocab_size, embedding_size)
        self.rnn = rnn(embedding_size)
        hidden = self.rnn.output_size
        if getattr(self.rnn, "bidirectional", False):
            raise UserError("rnn: a language model predicts what comes next: bidirectional must be false")
        self.attention = None if attention is None else attention(hidden, hidden)
        self.combine = None if self.attention is None else combine(hidden, self.attention.value_dim)
        if self.attention is not None and self.attention.window is None:
            raise UserError("attention.window: null: a language model needs a bounded reach: give a number, 64 say")
        self.window: int = getattr(self.attention, "window", None) or 1
        # What lies between the recurrent network and a tied output layer of another size.
        self.projection = (
            nn.Linear(hidden, embedding_size, bias=False) if tie_weights and hidden != embedding_size else nn.Identity()
        )
        self.output = self.build_output(embedding_size if tie_weights else hidden, vocab_size)
        if tie_weights:
            self.output.weight = self.embedding.weight

        self.metrics = nn.ModuleDict({stage: nn.ModuleDict(self.build_metrics()) for stage in ("val", "test")})
        self._carried: dict[str, Past] = {}  # by stage, from batch to batch

    def build_embedding(self, vocab_size: int, embedding_size: int) -> nn.Embedding:
        """Makes the map from token ids to vectors."""
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
        """Makes a stage's metrics; each is updated with (summed nats, number of tokens), ``bpc`` with characters."""
        return {"loss": LossMetric(), "perplexity": Perplexity(), "bpc": BitsPerCharacter()}

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
        return self.output(features), past

    def features(self, tokens: Tensor, past: Past | None = None, lengths: Tensor | None = None) -> tuple[Tensor, Past]:
        """What the output layer reads, (B, T, D); for the arguments see `forward`."""
        hidden, rnn_state = self._recur(tokens, past, lengths)
        if self.attention is None or self.combine is None:
            return self._read_out(hidden), Past(rnn_state, None, None)
        outputs, mask = extend(past, hidden)
        context, _ = self.attention(hidden, self.attention.memory(outputs, mask=mask), is_causal=True)
        padding = None if lengths is None else tokens.shape[1] - lengths
        carried = newest(outputs, mask, self.window - 1, padding)
        return self._read_out(self.combine(hidden, context)), Past(rnn_state, *carried)

    def loss(self, features: Tensor, targets: Tensor, mask: Tensor, label_smoothing: float = 0.0) -> Tensor:
        """Summed cross entropy in nats.

        Args:
            features: (B, T, D) from `features`.
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
        past = None if batch.is_first else self._carried.get(stage)
        features, past = self.features(batch.tokens, past)
        self._carried[stage] = past.map(Tensor.detach)
        smoothing = self.label_smoothing if stage == "train" else 0.0
        return Loss(self.loss(features, batch.targets, batch.mask, smoothing), batch.mask.sum())

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        """Updates the metrics of the validation set."""
        self._evaluate(batch, "val")

    def test_step(self, batch: Any, batch_idx: int) -> None:
        """Updates the metrics of the test set."""
        self._evaluate(batch, "test")

    def predict_step(self, batch: Any, batch_idx: int) -> list[dict[str, Any]]:
        """Log-probability of each token, by row: ``document``, ``tokens`` (ids) and ``log_probs`` (nats)."""
        past = None if batch.is_first else self._carried.get("predict")
        logits, past = self(batch.tokens, past)
        self._carried["predict"] = past.map(Tensor.detach)
        log_probs = -F.cross_entropy(logits.float().transpose(1, 2), batch.targets, reduction="none")
        rows = zip(batch.documents, batch.targets, log_probs, batch.mask, strict=False)  # rows beyond them are empty
        return [
            {"document": document, "tokens": targets[mask].tolist(), "log_probs": row[mask].tolist()}
            for document, targets, row, mask in rows
        ]

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
        if self.attention is None:
            raise UserError("attention: null: a plain recurrent network has no attention weights")
        hidden, _ = self._recur(tokens, None, None)
        _, weights = self.attention(hidden, self.attention.memory(hidden), is_causal=True, need_weights=True)
        return weights

    def prefill(self, tokens: Tensor, lengths: Tensor) -> tuple[Tensor, Cache]:
        """Reads prompts, for generation.

        Args:
            tokens: (B, T) int64, T at least 1.
            lengths: (B,) real tokens of each row, on the CPU, at least 1.

        Returns:
            Logits (B, V) of each prompt's next token, and what `decode_step` needs.
        """
        features, past = self.features(tokens, None, lengths)
        last = features[torch.arange(len(tokens), device=tokens.device), (lengths - 1).to(tokens.device)]
        memory = None
        if self.attention is not None and past.outputs is not None:
            memory = self.attention.memory(past.outputs, mask=past.mask)
        return self.output(last), Cache(past.rnn, memory)

    def decode_step(self, tokens: Tensor, cache: Cache) -> tuple[Tensor, Cache]:
        """Reads one more token of each text; time and memory do not grow with what was read before.

        Args:
            tokens: (B,) int64.
            cache: from `prefill` or from the step before.

        Returns:
            Logits (B, V) of the next token, and what the next step needs.
        """
        hidden, rnn_state = self.rnn(self.dropout(self.embedding(tokens[:, None])), cache.rnn)
        features, memory = hidden, cache.memory
        if self.attention is not None and self.combine is not None and memory is not None:
            memory = memory.append(self.attention.memory(hidden)).last(self.window)
            context, _ = self.attention(hidden, memory, is_causal=True)
            features = self.combine(hidden, context)
        return self.output(self._read_out(features))[:, 0], Cache(rnn_state, memory)

    def _recur(self, tokens: Tensor, past: Past | None, lengths: Tensor | None) -> tuple[Tensor, State]:
        state = None if past is None else past.rnn
        return self.rnn(self.dropout(self.embedding(tokens)), state, lengths)

    def _read_out(self, features: Tensor) -> Tensor:
        return self.dropout(self.projection(features))

    def _evaluate(self, batch: Any, stage: str) -> None:
        total, num_tokens = self.step(batch, stage)
        metrics = self.metrics[stage]
        characters = None if self.tokenizer is None else self.tokenizer.num_chars
        for name, metric in metrics.items():  # type: ignore[operator]
            if name != "bpc":
                metric.update(total, num_tokens)
            elif characters is None:
                continue
            else:
                metric.update(total, characters.to(total.device)[batch.targets][batch.mask].sum())
            self.log(f"{stage}_{name}", metric, prog_bar=name != "loss", batch_size=1)
