"""The loop over target time that every search shares.

Letters: B sentences, K hypotheses of a sentence, S source time, T target time, V vocabulary.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from lightning_rnnattn.decoding.filters import block_repeats
from lightning_rnnattn.decoding.generate import evaluating
from lightning_rnnattn.decoding.search import DecoderModel, Hypothesis, Search
from lightning_rnnattn.decoding.texts import Continuation, Scores, Texts, take
from lightning_rnnattn.errors import UserError
from lightning_rnnattn.layers.prepacked import Prepacked
from lightning_rnnattn.ops.logsumexp import normalize


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
    with torch.inference_mode(), evaluating(model), Prepacked(model):
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
            del logits  # the largest of all: the next take their place, where fresh memory would cost page faults
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
    tokens, log_probs, sizes, ended = (take(column, order).cpu() for column in columns)
    weights = None if texts.weights is None else take(texts.weights, order).cpu()
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
