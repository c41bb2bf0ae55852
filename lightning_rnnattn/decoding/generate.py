"""Sampling from a model that reads one token at a time.

Letters: B texts, V vocabulary.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from lightning_rnnattn.decoding.filters import keep_top_k, keep_top_p
from lightning_rnnattn.errors import UserError
from lightning_rnnattn.layers.prepacked import Prepacked


class StepModel(Protocol):
    """What decoding asks of a model: explicit steps, whose state is passed in and out."""

    def prefill(self, tokens: Tensor, lengths: Tensor) -> tuple[Tensor, Any]:
        """Logits (B, V) that follow prompts (B, T) of lengths (B,), and a cache."""

    def decode_step(self, tokens: Tensor, cache: Any) -> tuple[Tensor, Any]:
        """Logits (B, V) that follow one more token (B,) of each text, and the next cache."""


def generate(
    model: StepModel,
    prompts: Sequence[Tensor],
    *,
    max_new_tokens: int,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    seed: int = 0,
    stop_id: int | None = None,
) -> list[list[int]]:
    """Continues several texts at once; each comes out as if it were alone.

    Text i draws from a random stream of its own, seeded with ``seed + i``: neither its companions nor the global
    generator play a part.

    Args:
        model: in whatever mode; it is put into evaluation mode meanwhile.
        prompts: token ids of each text, 1-D, at least one, on the model's device.
        max_new_tokens: tokens to add.
        temperature: divides the logits; 0 takes the most likely token each time.
        top_k: see `lightning_rnnattn.decoding.filters.keep_top_k`; None for all.
        top_p: see `lightning_rnnattn.decoding.filters.keep_top_p`; None for all.
        seed: of the random streams.
        stop_id: a text ends with this token; None to go on.

    Returns:
        The new token ids of each text, ``stop_id`` included.

    Raises:
        UserError: if a prompt is empty, a setting out of range, or the model's logits are not finite.
    """
    texts: list[list[int]] = [[] for _ in prompts]
    for tokens in stream(
        model,
        prompts,
        max_new_tokens=max_new_tokens,
        temperature=temperature,
        top_k=top_k,
        top_p=top_p,
        seed=seed,
    ):
        for text, token in zip(texts, tokens.tolist(), strict=True):
            if stop_id is None or not text or text[-1] != stop_id:
                text.append(token)
        if stop_id is not None and all(text[-1] == stop_id for text in texts):
            break
    return texts


def stream(
    model: StepModel,
    prompts: Sequence[Tensor],
    *,
    max_new_tokens: int,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    seed: int = 0,
) -> Iterator[Tensor]:
    """`generate`, token by token.

    Yields:
        The next token (B,) of every text.
    """
    if not prompts or any(len(prompt) == 0 for prompt in prompts):
        raise UserError("prompt: empty: give at least one token to continue")
    if max_new_tokens < 0:
        raise UserError(f"max_new_tokens={max_new_tokens}: must not be negative")
    check_sampling(temperature, top_k, top_p)
    lengths = torch.tensor([len(prompt) for prompt in prompts])
    tokens = pad_sequence(list(prompts), batch_first=True)
    generators = [torch.Generator().manual_seed(seed + i) for i in range(len(prompts))]
    uniform = torch.stack([torch.rand(max_new_tokens, generator=g, dtype=torch.float64) for g in generators], dim=-1)
    uniform = uniform.to(tokens.device)

    token, cache, prepacked = torch.empty(0), None, Prepacked(model)
    for step in range(max_new_tokens):
        # Not around the yield: what the caller does meanwhile is the caller's.
        with torch.inference_mode(), evaluating(model), prepacked:
            logits, cache = model.decode_step(token, cache) if step else model.prefill(tokens, lengths)
            if not logits.amax(-1).isfinite().all():  # single ones may be minus infinity
                raise UserError("the model gives no text: its logits are not finite")
            token = choose(logits, uniform[step], temperature, top_k, top_p)
        yield token


def choose(
    logits: Tensor, uniform: Tensor, temperature: float = 1.0, top_k: int | None = None, top_p: float | None = None
) -> Tensor:
    """Draws a token from each row's distribution, by inverting its cumulative sum.

    Args:
        logits: (B, V).
        uniform: (B,) numbers in [0, 1) that decide the draws.
        temperature: see `generate`.
        top_k: see `generate`.
        top_p: see `generate`.

    Returns:
        (B,) int64, some token where the logits are not numbers.
    """
    if temperature == 0:
        return logits.argmax(-1)
    logits = logits.double() / temperature
    if top_k is not None:
        logits = keep_top_k(logits, top_k)
    if top_p is not None:
        logits = keep_top_p(logits, top_p)
    cumulative = logits.softmax(-1).cumsum(-1)
    total = cumulative[:, -1:]
    # Rounding must not lift a draw to the total itself, which lies beyond the last token.
    draw = torch.minimum(uniform.unsqueeze(-1) * total, torch.nextafter(total, torch.zeros_like(total)))
    return torch.searchsorted(cumulative, draw, right=True).squeeze(-1).clamp(max=logits.shape[-1] - 1)


@contextmanager
def evaluating(model: object) -> Iterator[None]:
    """Puts a module into evaluation mode, and each of its parts back into its own mode afterwards."""
    modules = list(model.modules()) if isinstance(model, nn.Module) else []
    modes = [module.training for module in modules]
    for module in modules:
        module.training = False
    try:
        yield
    finally:
        for module, mode in zip(modules, modes, strict=True):
            module.training = mode


def check_sampling(temperature: float, top_k: int | None, top_p: float | None) -> None:
    """Checks the settings of `choose`.

    Raises:
        UserError: if one is out of range.
    """
    if temperature < 0:
        raise UserError(f"temperature={temperature}: must not be negative; 0 takes the most likely token")
    if top_k is not None and top_k < 1:
        raise UserError(f"top_k={top_k}: keeps nothing; must be at least 1")
    if top_p is not None and not 0 < top_p <= 1:
        raise UserError(f"top_p={top_p}: must lie in (0, 1]")
