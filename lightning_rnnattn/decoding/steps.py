"""The loop over target time that every search shares.

Letters: B sentences, K hypotheses of a sentence, S source time, T target time, V vocabulary.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from lightning_rnnattn.decoding.filters import block_repeats
from lightning_rnnattn.decoding.generate import evaluating
from lightning_rnnattn.decoding.search import DecoderModel, Hypothesis, Search
from lightning_rnnattn.errors import UserError
from lightning_rnnattn.ops.logsumexp import normalize
from lightning_rnnattn.ops.topk import top_k


class Continuation(NamedTuple):
    """One more token of each text.

    Attributes:
        parents: (B, K') the text that each goes on from; None where all keep their places.
        tokens: (B, K').
        log_probs: (B, K') of the texts with their new tokens.
    """

    parents: Tensor | None
    tokens: Tensor
    log_probs: Tensor


class Scores(NamedTuple):
    """What texts may go on with.

    Attributes:
        logits: (B, K, V) of the next tokens, minus infinity for those that are not allowed.
        totals: (B, K), so that the log-probability of a token is its logit less the total.
    """

    logits: Tensor
    totals: Tensor

    def best(self, k: int) -> tuple[Tensor, Tensor]:
        """The log-probabilities and ids (B, K, k) of each text's k most likely tokens, the most likely first."""
        values, tokens = top_k(self.logits, k)
        return values - self.totals.unsqueeze(-1), tokens

    def log_probs(self, tokens: Tensor) -> Tensor:
        """The log-probabilities (B, K) of a token (B, K) for each text."""
        return self.logits.gather(-1, tokens.unsqueeze(-1)).squeeze(-1) - self.totals


class Texts(NamedTuple):
    """The hypotheses of sentences so far.

    Attributes:
        tokens: (B, K, T) ids, the end included, and repeated after a text's end.
        log_probs: (B, K) in nats; minus infinity at a place that no text has taken.
        lengths: (B, K) tokens of each text, its end counted.
        ended: (B, K) bool.
        weights: (B, K, T, S) the attention's, zero after a text's end; None where they are not wanted.
        longest: (B,) tokens that a text may have at most, the end not counted.
        sentences: (B,) the place of each sentence in the batch that came in; on the CPU.
    """

    tokens: Tensor
    log_probs: Tensor
    lengths: Tensor
    ended: Tensor
    weights: Tensor | None
    longest: Tensor
    sentences: Tensor

    def extend(self, new: Continuation, weights: Tensor | None, eos_id: int) -> "Texts":
        """Each text with one more token.

        Args:
            new: from the function that chooses.
            weights: (B, K, S) the attention's, for the texts before.
            eos_id: the token that ends a text.
        """
        old = self if new.parents is None else self._take(new.parents)
        history = old.weights
        if history is not None and weights is not None:
            weights = weights if new.parents is None else _take(weights, new.parents)
            weights = weights.masked_fill(old.ended.unsqueeze(-1), 0.0)
            history = torch.cat([history, weights.unsqueeze(2)], dim=2)
        return old._replace(
            tokens=torch.cat([old.tokens, new.tokens.unsqueeze(2)], dim=2),
            log_probs=new.log_probs,
            lengths=old.lengths + ~old.ended,
            ended=(new.tokens == eos_id) & (new.log_probs > float("-inf")),
            weights=history,
        )

    def keep(self, rows: Tensor) -> "Texts":
        """Some of the sentences."""
        return Texts(
            tokens=self.tokens[rows],
            log_probs=self.log_probs[rows],
            lengths=self.lengths[rows],
            ended=self.ended[rows],
            weights=None if self.weights is None else self.weights[rows],
            longest=self.longest[rows],
            sentences=self.sentences[rows.cpu()],
        )

    def _take(self, parents: Tensor) -> "Texts":
        return self._replace(
            tokens=_take(self.tokens, parents),
            log_probs=_take(self.log_probs, parents),
            lengths=_take(self.lengths, parents),
            ended=_take(self.ended, parents),
            weights=None if self.weights is None else _take(self.weights, parents),
        )


def run(
    model: DecoderModel,
    source: Tensor,
    lengths: Tensor,
    options: Search,
    extend: Callable[[Texts, Scores], Continuation],
    *,
    bos_id: int,
    eos_id: int,
    need_weights: bool = False,
    width: int = 1,
    nbest: int = 1,
    rank: Callable[[Texts], Tensor] = lambda texts: texts.log_probs,
    settled: Callable[[Texts], Tensor] = lambda texts: texts.ended.all(-1),
) -> list[list[Hypothesis]]:
    """Goes on with texts, token by token, until those of every sentence are settled; a settled one leaves the batch.

    Args:
        model: see `Search.search`.
        source: see `Search.search`.
        lengths: see `Search.search`.
        options: limits of length and repetition.
        extend: chooses how the texts go on, from them and their next tokens' scores. A text that has ended goes on
            with ends, at no cost.
        bos_id: see `Search.search`.
        eos_id: see `Search.search`.
        need_weights: see `Search.search`.
        width: texts of each sentence at the beginning, all empty.
        nbest: hypotheses to return for each sentence, at most.
        rank: the scores (B, K) of texts that have ended.
        settled: (B,) bool, whether a sentence needs no more steps.

    Returns:
        See `Search.search`.

    Raises:
        UserError: if weights are wanted of a model that has none, or its logits are not finite.
    """
    found: list[list[Hypothesis]] = [[] for _ in source]
    limits = options.longest(lengths)
    # Not under a caller's no_grad alone: inference mode also saves the bookkeeping of views and versions.
    with torch.inference_mode(), evaluating(model):
        cache = model.start(source, lengths)
        token = source.new_full((len(source), width), bos_id, dtype=torch.int64)
        if width > 1:
            cache = cache.select(torch.zeros_like(token))
        texts = _begin(token, limits, source.shape[1] if need_weights else None)
        for step in range(int(limits.max()) + 1):
            logits, cache, weights = model.decode_step(token, cache, need_weights)
            if need_weights and weights is None:
                raise UserError("the model has no attention, so that there are neither alignments nor coverage")
            logits, totals = normalize(logits)
            logits = _restrict(logits, texts, options, step >= limits[texts.sentences], eos_id)
            new = extend(texts, Scores(logits, totals))
            texts, parents = texts.extend(new, weights, eos_id), new.parents
            done = settled(texts).cpu()
            if done.any():
                for sentence, best in _collect(texts, rank(texts), done, nbest, lengths):
                    found[sentence] = best
                if done.all():
                    break
                rest = (~done).nonzero().squeeze(-1).to(source.device)
                texts, cache = texts.keep(rest), cache.keep(rest)
                parents = None if parents is None else parents[rest]
            if parents is not None:
                cache = cache.select(parents)
            token = texts.tokens[..., -1]
    if not all(found):  # every text is made to end, unless its probability is not a number
        raise UserError("the model gives no text: its logits are not finite")
    return found


def follow(texts: Texts, scores: Scores, tokens: Tensor, eos_id: int) -> Continuation:
    """Every text goes on with the token (B, K) that was chosen for it; one that has ended stays as it is."""
    return Continuation(
        parents=None,
        tokens=tokens.masked_fill(texts.ended, eos_id),
        log_probs=texts.log_probs + scores.log_probs(tokens).masked_fill(texts.ended, 0.0),
    )


def _begin(tokens: Tensor, limits: Tensor, source_length: int | None) -> Texts:
    batch, width = tokens.shape
    weights = None
    if source_length is not None:
        weights = torch.zeros(batch, width, 0, source_length, device=tokens.device)
    return Texts(
        tokens=tokens.new_empty(batch, width, 0),
        log_probs=torch.zeros(batch, width, device=tokens.device),
        lengths=torch.zeros_like(tokens),
        ended=torch.zeros_like(tokens, dtype=torch.bool),
        weights=weights,
        longest=limits.to(tokens.device),
        sentences=torch.arange(batch),
    )


def _restrict(logits: Tensor, texts: Texts, options: Search, must_end: Tensor, eos_id: int) -> Tensor:
    """Takes away tokens that would make a text too short, too long, or repeat itself.

    Args:
        logits: (B, K, V).
        texts: what they go on from.
        options: the limits.
        must_end: (B,) bool, on the CPU: texts have their greatest length.
        eos_id: the token that ends a text.
    """
    end = logits[..., eos_id]
    if options.no_repeat_ngram is not None:
        logits = block_repeats(logits, texts.tokens, options.no_repeat_ngram)
    if texts.tokens.shape[2] < options.min_length:
        logits = logits.index_fill(-1, torch.tensor([eos_id], device=logits.device), float("-inf"))
        if options.no_repeat_ngram is not None:  # where every other token would repeat, the text ends all the same
            stuck = logits.amax(-1) == float("-inf")
            logits[..., eos_id] = torch.where(stuck, end, float("-inf"))
    if must_end.any():
        rows = must_end.nonzero().squeeze(-1).to(logits.device)
        logits = logits.index_fill(0, rows, float("-inf"))
        logits[rows, :, eos_id] = end[rows]
    return logits


def _collect(
    texts: Texts, scores: Tensor, done: Tensor, nbest: int, lengths: Tensor
) -> list[tuple[int, list[Hypothesis]]]:
    """The best hypotheses of the sentences that are done, each with the sentence's place."""
    scores = scores.masked_fill(~texts.ended, float("-inf"))
    scores, order = scores.sort(dim=-1, descending=True, stable=True)
    columns = (texts.tokens, texts.log_probs, texts.lengths - 1, texts.ended)
    tokens, log_probs, sizes, ended = (_take(column, order).cpu() for column in columns)
    weights = None if texts.weights is None else _take(texts.weights, order).cpu()
    collected = []
    for row in done.nonzero().squeeze(-1).tolist():
        sentence = int(texts.sentences[row])
        best = []
        for place in ended[row].nonzero().squeeze(-1).tolist()[:nbest]:
            size = int(sizes[row, place])
            best.append(
                Hypothesis(
                    tokens=tokens[row, place, :size].tolist(),
                    score=float(scores[row, place]),
                    log_prob=float(log_probs[row, place]),
                    weights=None if weights is None else weights[row, place, :size, : lengths[sentence]].clone(),
                )
            )
        collected.append((sentence, best))
    return collected


def _take(x: Tensor, index: Tensor) -> Tensor:
    """(B, K, ...) at places (B, K') to (B, K', ...)."""
    return x[torch.arange(len(x), device=x.device).unsqueeze(-1), index]
