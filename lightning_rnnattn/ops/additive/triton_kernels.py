"""Triton kernels for additive scores and attention. This module imports triton; `triton_path` launches what is here.

Letters: N batch × heads, H heads, T queries, S keys, D features, V value features. A program works on tiles of BT
queries × BS keys × BD features, held in registers; D lies along the fastest dimension, so that loads coalesce.

``a`` and ``b`` hold e^{2q} and e^{2k}; or, where ``narrow`` is zero since their products would not hold, q and k.
Tiles are given at launch, not autotuned there: a choice by elapsed time would change the order of sums from run to run.
"""

# Kernels are typed by triton, at the call; their sizes go by the capital letters of the legend.
# ruff: noqa: ANN001, ANN201, ANN202, N803, SIM108
# mypy: ignore-errors

import triton
import triton.language as tl


@triton.jit
def _one_plus(a, b, narrow):
    """1 + e^{2q} e^{2k} (BT, BS, BD), up to 2^30: more is zero, as a reciprocal, to the last bit of 1 - 2r."""
    if narrow:
        e = a[:, None, :] * b[None, :, :]
    else:
        e = tl.exp(2.0 * (a[:, None, :] + b[None, :, :]))
    return tl.minimum(e, 1073741824.0, propagate_nan=tl.PropagateNan.ALL) + 1.0


@triton.jit
def _load(x, rows, num_rows, d, D):
    """Rows and columns of a contiguous matrix; zero beyond its end, where v is zero too."""
    inside = (rows[:, None] < num_rows) & (d[None, :] < D)
    return tl.load(x + rows[:, None] * D + d[None, :], mask=inside, other=0.0)


@triton.jit
def _scores(a, b, v, t, s, T, S, D, narrow, BT: tl.constexpr, BS: tl.constexpr, BD: tl.constexpr):
    """Scores (BT, BS). Two reciprocals share a division, since the unit that takes them is the slowest of all."""
    half = tl.zeros([BT, BS, BD], dtype=tl.float32)
    total = tl.zeros([BD], dtype=tl.float32)
    for start in range(0, D, 2 * BD):
        d0 = start + tl.arange(0, BD)
        d1 = d0 + BD
        v0 = tl.load(v + d0, mask=d0 < D, other=0.0)
        v1 = tl.load(v + d1, mask=d1 < D, other=0.0)
        x0 = _one_plus(_load(a, t, T, d0, D), _load(b, s, S, d0, D), narrow)
        x1 = _one_plus(_load(a, t, T, d1, D), _load(b, s, S, d1, D), narrow)
        inverse = 1.0 / (x0 * x1)
        half += v0[None, None, :] * (inverse * x1) + v1[None, None, :] * (inverse * x0)
        total += v0 + v1
    return tl.sum(total, 0) - 2.0 * tl.sum(half, 2)


@triton.jit
def _visible(mask, t, s, T, S, first, last, stride_t, stride_s, HAS_MASK: tl.constexpr):
    """Which keys each query may attend to (BT, BS)."""
    t, s = t[:, None], s[None, :]
    visible = (t < T) & (s < S) & (s >= t + first) & (s < t + last)
    if HAS_MASK:
        visible &= tl.load(mask + t * stride_t + s * stride_s, mask=visible, other=0) != 0
    return visible


@triton.jit
def _kept(seed, n, t, s, T_all, S, start, dropout_p):
    """What each weight is multiplied with (BT, BS): a function of seed and place, so that backward draws it again."""
    place = ((n * T_all + start + t[:, None]) * S + s[None, :]).to(tl.int32)
    return tl.where(tl.rand(tl.load(seed), place) >= dropout_p, 1.0 / (1.0 - dropout_p), 0.0)


@triton.jit
def score_kernel(
    a, b, v, narrow, out, H, T, S, D, first, last,
    BT: tl.constexpr, BS: tl.constexpr, BD: tl.constexpr,
):  # fmt: skip
    """Scores (N, T, S); zero out of reach."""
    t, s = tl.program_id(0) * BT + tl.arange(0, BT), tl.program_id(1) * BS + tl.arange(0, BS)
    n = tl.program_id(2).to(tl.int64)
    a, b, v, out = a + n * T * D, b + n * S * D, v + n % H * D, out + n * T * S
    visible = _visible(out, t, s, T, S, first, last, 0, 0, False)
    score = tl.zeros([BT, BS], dtype=tl.float32)
    if tl.max(visible.to(tl.int32)) > 0:
        score = _scores(a, b, v, t, s, T, S, D, tl.load(narrow), BT, BS, BD)
    inside = (t[:, None] < T) & (s[None, :] < S)
    tl.store(out + t[:, None] * S + s[None, :], tl.where(visible, score, 0.0), mask=inside)


@triton.jit
def grad_query_kernel(
    g, a, b, v, narrow, grad_query, grad_v, H, T, S, D, first, last,
    BT: tl.constexpr, BS: tl.constexpr, BD: tl.constexpr,
):  # fmt: skip
    """4 v sum_s g r (1 - r) to (N, T, D), and sum_{t,s} g (1 - 2r) of each block of queries to (N, blocks, D)."""
    block, n = tl.program_id(0), tl.program_id(2).to(tl.int64)
    t, d = block * BT + tl.arange(0, BT), tl.program_id(1) * BD + tl.arange(0, BD)
    g, b = g + n * T * S, b + n * S * D
    weight = tl.load(v + n % H * D + d, mask=d < D, other=0.0)
    at = _load(a + n * T * D, t, T, d, D)
    fast = tl.load(narrow)
    slope = tl.zeros([BT, BS, BD], dtype=tl.float32)
    units = tl.zeros([BT, BS, BD], dtype=tl.float32)
    for start in range(tl.maximum(0, block * BT + first), tl.minimum(S, block * BT + BT - 1 + last), BS):
        s = start + tl.arange(0, BS)
        gs = _load(g, t, T, s, S)[:, :, None]
        r = 1.0 / _one_plus(at, _load(b, s, S, d, D), fast)
        slope += gs * (r - r * r)
        units += gs * (1.0 - 2.0 * r)
    out = grad_query + n * T * D + t[:, None] * D + d[None, :]
    tl.store(out, 4.0 * weight[None, :] * tl.sum(slope, 1), mask=(t[:, None] < T) & (d[None, :] < D))
    tl.store(grad_v + (n * tl.num_programs(0) + block) * D + d, tl.sum(tl.sum(units, 1), 0), mask=d < D)


@triton.jit
def grad_key_kernel(
    g, a, b, v, narrow, grad_key, H, T, S, D, first, last,
    BT: tl.constexpr, BS: tl.constexpr, BD: tl.constexpr,
):  # fmt: skip
    """Adds 4 v sum_t g r (1 - r) to (N, S, D)."""
    block, n = tl.program_id(0), tl.program_id(2).to(tl.int64)
    s, d = block * BS + tl.arange(0, BS), tl.program_id(1) * BD + tl.arange(0, BD)
    g, a = g + n * T * S, a + n * T * D
    weight = tl.load(v + n % H * D + d, mask=d < D, other=0.0)
    bs = _load(b + n * S * D, s, S, d, D)
    fast = tl.load(narrow)
    slope = tl.zeros([BT, BS, BD], dtype=tl.float32)
    for start in range(tl.maximum(0, block * BS - last + 1), tl.minimum(T, block * BS + BS - first), BT):
        t = start + tl.arange(0, BT)
        r = 1.0 / _one_plus(_load(a, t, T, d, D), bs, fast)
        slope += _load(g, t, T, s, S)[:, :, None] * (r - r * r)
    out = grad_key + n * S * D + s[:, None] * D + d[None, :]
    inside = (s[:, None] < S) & (d[None, :] < D)
    tl.store(out, tl.load(out, mask=inside) + 4.0 * weight[None, :] * tl.sum(slope, 0), mask=inside)


@triton.jit
def attention_kernel(
    a, b, v, narrow, value, mask, seed, context, lse,
    stride_b, stride_h, stride_t, stride_s, groups, H, T, S, D, V, first, last, dropout_p,
    HAS_MASK: tl.constexpr, DROPOUT: tl.constexpr,
    BT: tl.constexpr, BS: tl.constexpr, BD: tl.constexpr, BV: tl.constexpr,
):  # fmt: skip
    """Context (N, T, V), and the logarithm of each row's sum of exponentials (N, T): one pass over the keys.

    The softmax is online (Milakov and Gimelshein 2018): a running maximum m, and sums that are rescaled when it grows.
    """
    block, n = tl.program_id(0), tl.program_id(1).to(tl.int64)
    t, columns = block * BT + tl.arange(0, BT), tl.arange(0, BV)
    a, b, v, value = a + n * T * D, b + n * S * D, v + n % H * D, value + n * S * V
    mask += n // groups * stride_b + n % groups * stride_h
    fast = tl.load(narrow)
    m = tl.full([BT], float("-inf"), dtype=tl.float32)
    total = tl.zeros([BT], dtype=tl.float32)
    acc = tl.zeros([BT, BV], dtype=tl.float32)
    for start in range(tl.maximum(0, block * BT + first), tl.minimum(S, block * BT + BT - 1 + last), BS):
        s = start + tl.arange(0, BS)
        visible = _visible(mask, t, s, T, S, first, last, stride_t, stride_s, HAS_MASK)
        score = tl.where(visible, _scores(a, b, v, t, s, T, S, D, fast, BT, BS, BD), float("-inf"))
        higher = tl.maximum(m, tl.max(score, 1))
        shift = tl.where(higher == float("-inf"), 0.0, higher)  # a row that has seen no key yet
        p = tl.exp(score - shift[:, None])
        shrink = tl.exp(m - shift)
        total = total * shrink + tl.sum(p, 1)
        if DROPOUT:
            p *= _kept(seed, n, t, s, T, S, 0, dropout_p)
        rows = _load(value, s, S, columns, V)
        acc *= shrink[:, None]
        if BT >= 16:
            acc += tl.dot(p, rows, input_precision="ieee")
        else:
            acc += tl.sum(p[:, :, None] * rows[None, :, :], 1)
        m = higher
    seen = total > 0
    out = context + n * T * V + t[:, None] * V + columns[None, :]
    inside = (t[:, None] < T) & (columns[None, :] < V)
    tl.store(out, tl.where(seen[:, None], acc / tl.where(seen, total, 1.0)[:, None], 0.0), mask=inside)
    tl.store(lse + n * T + t, tl.where(seen, m + tl.log(tl.where(seen, total, 1.0)), 0.0), mask=t < T)


@triton.jit
def grad_score_kernel(
    grad, a, b, v, narrow, value, mask, seed, lse, delta, weights, grad_score,
    stride_b, stride_h, stride_t, stride_s, groups, H, T, S, D, V, first, last, start, T_all, dropout_p,
    HAS_MASK: tl.constexpr, DROPOUT: tl.constexpr,
    BT: tl.constexpr, BS: tl.constexpr, BD: tl.constexpr, BV: tl.constexpr,
):  # fmt: skip
    """Weights after dropout (N, T, S), and the gradient of the scores (N, T, S), of queries that begin at ``start``.

    With p the weights before dropout, k what dropout multiplies them with and delta = grad · context, the gradient of
    a score is p (k grad · value - delta).
    """
    t, s = tl.program_id(0) * BT + tl.arange(0, BT), tl.program_id(1) * BS + tl.arange(0, BS)
    n = tl.program_id(2).to(tl.int64)
    mask += n // groups * stride_b + n % groups * stride_h
    visible = _visible(mask, t, s, T, S, first, last, stride_t, stride_s, HAS_MASK)
    p = tl.zeros([BT, BS], dtype=tl.float32)
    grad_s = tl.zeros([BT, BS], dtype=tl.float32)
    if tl.max(visible.to(tl.int32)) > 0:
        score = _scores(a + n * T * D, b + n * S * D, v + n % H * D, t, s, T, S, D, tl.load(narrow), BT, BS, BD)
        shift = tl.load(lse + n * T + t, mask=t < T, other=0.0)
        p = tl.where(visible, tl.exp(tl.where(visible, score - shift[:, None], 0.0)), 0.0)
        product = tl.zeros([BT, BS], dtype=tl.float32)
        for first_column in range(0, V, BV):
            columns = first_column + tl.arange(0, BV)
            rows = _load(grad + n * T * V, t, T, columns, V)
            product += tl.dot(rows, tl.trans(_load(value + n * S * V, s, S, columns, V)), input_precision="ieee")
        keep = tl.full([BT, BS], 1.0, dtype=tl.float32)
        if DROPOUT:
            keep = _kept(seed, n, t, s, T_all, S, start, dropout_p)
        grad_s = p * (keep * product - tl.load(delta + n * T + t, mask=t < T, other=0.0)[:, None])
        p *= keep
    inside = (t[:, None] < T) & (s[None, :] < S)
    place = n * T * S + t[:, None] * S + s[None, :]
    tl.store(weights + place, p, mask=inside)
    tl.store(grad_score + place, grad_s, mask=inside)
