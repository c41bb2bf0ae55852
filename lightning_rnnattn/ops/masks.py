"""Boolean masks, True = attend.

Letters: B batch, T query time, S key time.
"""

import torch
from torch import Tensor


def lengths_mask(lengths: Tensor, max_len: int | None = None) -> Tensor:
    """Marks the real positions of padded sequences.

    Args:
        lengths: (B,) integers, zero allowed.
        max_len: padded length S; the longest length where not given.

    Returns:
        (B, S) bool, True at positions before each sequence's end, on the device of ``lengths``.

    Example:
        >>> lengths_mask(torch.tensor([2, 0, 3]))
        tensor([[ True,  True, False],
                [False, False, False],
                [ True,  True,  True]])
    """
    if max_len is None:
        max_len = int(lengths.max()) if lengths.numel() else 0
    return torch.arange(max_len, device=lengths.device) < lengths.unsqueeze(-1)


def distances(num_queries: int, num_keys: int, device: torch.device | str | None = None) -> Tensor:
    """How far behind each query each key stands, (T, S); negative for keys that come after it.

    Time is aligned to the end: the last query stands at the last key, query t at key S - T + t.

    Example:
        >>> distances(2, 3)
        tensor([[ 1,  0, -1],
                [ 2,  1,  0]])
    """
    query = torch.arange(num_queries, device=device).unsqueeze(-1) + (num_keys - num_queries)
    return query - torch.arange(num_keys, device=device)


def band_mask(
    num_queries: int,
    num_keys: int,
    *,
    is_causal: bool,
    window: int | None = None,
    device: torch.device | str | None = None,
) -> Tensor:
    """Marks the keys within each query's reach.

    Time is aligned as in `distances`. (The ``is_causal`` of ``scaled_dot_product_attention`` aligns to the start, so
    that a single query would see the first key only.) A key is visible at a distance >= 0, if causal, and at one whose
    magnitude is below the window, if there is one.

    Args:
        num_queries: T.
        num_keys: S.
        is_causal: hide the keys that come after the query.
        window: number of positions in reach, the query's own included; None for no limit.
        device: where the mask is made.

    Returns:
        (T, S) bool.

    Example:
        >>> band_mask(2, 4, is_causal=True, window=2).int()
        tensor([[0, 1, 1, 0],
                [0, 0, 1, 1]], dtype=torch.int32)
    """
    distance = distances(num_queries, num_keys, device)
    reach = torch.ones_like(distance, dtype=torch.bool) if not is_causal else distance >= 0
    return reach if window is None else reach & (distance.abs() < window)


def combine_masks(
    mask: Tensor | None,
    num_queries: int,
    num_keys: int,
    *,
    is_causal: bool = False,
    window: int | None = None,
    device: torch.device | str | None = None,
) -> Tensor | None:
    """Lowers a mask, causality and a window to one boolean mask.

    Args:
        mask: bool, broadcastable to (..., T, S), or None.
        num_queries: T.
        num_keys: S.
        is_causal: see `band_mask`.
        window: see `band_mask`.
        device: where a new mask is made.

    Returns:
        bool, broadcastable to (..., T, S); None where every query sees every key.
    """
    if not is_causal and (window is None or window >= max(num_queries, num_keys)):
        return mask
    if is_causal and num_queries == 1:
        is_causal = False  # a single query stands at the last key: nothing comes after it
        if window is None or window >= num_keys:
            return mask
    band = band_mask(num_queries, num_keys, is_causal=is_causal, window=window, device=device)
    return band if mask is None else mask & band
