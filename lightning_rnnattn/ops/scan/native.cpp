// Linear recurrences and their gradients on a CPU: the loops behind native.py.
//
// Letters: B batch, T time, D features. Arrays are contiguous: (B, T, D), the state before and its gradient (B, D); but
// for update, candidate and forget, whose rows lie as many numbers apart as `..._row` says. Time runs backwards where
// `reverse` is set: what is written t-1 is t+1 then.
//
// The loops are as fast as memory gives and takes the arrays: steps follow one another, features go side by side.

#include <algorithm>
#include <cstdint>

#include "../arithmetic.h"

namespace {

constexpr int64_t BLOCK = 512;  // features of one thread: whole lines of the cache, and pages that prefetching follows

// The share z of the candidate, and its slopes.
struct Share {
    float value, by_update, by_forget;
};

// z = sigmoid(u).
struct Single {
    static constexpr bool forgets = false;
    static Share share(float u, float) {
        const float z = sigmoid(u);
        return {z, z * (1.0f - z), 0.0f};
    }
};

// z = sigmoid(u) / (sigmoid(u) + sigmoid(f)) = (1 + e^-f) / (2 + e^-u + e^-f), by e^m, the largest of the terms.
struct Pair {
    static constexpr bool forgets = true;
    static Share share(float u, float f) {
        u = -larger(-1e30f, u), f = -larger(-1e30f, f);
        const float m = larger(larger(u, f), 0.0f);
        const float one = exponential(-m), eu = exponential(u - m), ef = exponential(f - m);
        const float inverse = 1.0f / (one + one + eu + ef), z = (one + ef) * inverse;
        return {z, z * eu * inverse, -(one + eu) * inverse * ef * inverse};
    }
};

// h[t] = a[t] h[t-1] + b[t].
template <typename Real>
void scan(const Real* a, const Real* b, const Real* start, Real* h, int64_t B, int64_t T, int64_t D, int64_t reverse) {
    const int64_t step = reverse ? -D : D;
#pragma omp parallel for collapse(2)
    for (int64_t n = 0; n < B; ++n) {
        for (int64_t d = 0; d < D; d += BLOCK) {
            const int64_t size = std::min(BLOCK, D - d);
            int64_t at = (n * T + (reverse ? T - 1 : 0)) * D + d;
            const Real* before = start + n * D + d;
            for (int64_t t = 0; t < T; ++t, at += step) {
#pragma omp simd
                for (int64_t i = 0; i < size; ++i) h[at + i] = a[at + i] * before[i] + b[at + i];
                before = h + at;
            }
        }
    }
}

// With g[t] = grad[t] + a[t+1] g[t+1]: grad_b[t] = g[t], grad_a[t] = g[t] h[t-1], grad_start = a[0] g[0].
template <typename Real>
void scan_backward(const Real* grad, const Real* a, const Real* start, const Real* h, Real* grad_a, Real* grad_b,
                   Real* grad_start, int64_t B, int64_t T, int64_t D, int64_t reverse) {
    const int64_t step = reverse ? -D : D;
#pragma omp parallel for collapse(2)
    for (int64_t n = 0; n < B; ++n) {
        for (int64_t d = 0; d < D; d += BLOCK) {
            const int64_t size = std::min(BLOCK, D - d);
            int64_t at = (n * T + (reverse ? 0 : T - 1)) * D + d;
            Real* carried = grad_start + n * D + d;  // a[t+1] g[t+1]
            std::fill(carried, carried + size, Real(0));
            for (int64_t t = T; t-- > 0; at -= step) {
                const Real* before = t ? h + at - step : start + n * D + d;
#pragma omp simd
                for (int64_t i = 0; i < size; ++i) {
                    const Real g = grad[at + i] + carried[i];
                    grad_b[at + i] = g;
                    grad_a[at + i] = g * before[i];
                    carried[i] = g * a[at + i];
                }
            }
        }
    }
}

// With z the share, and g the activation of the candidate, x + 1/2 or, below zero, sigmoid(x):
// h[t] = h[t-1] + z[t] (g[t] - h[t-1]).
template <typename Gates>
void gated_scan(const float* update, const float* candidate, const float* forget, const float* start, float* h,
                int64_t B, int64_t T, int64_t D, int64_t reverse, int64_t update_row, int64_t candidate_row,
                int64_t forget_row) {
    const int64_t step = reverse ? -1 : 1;
#pragma omp parallel for collapse(2)
    for (int64_t n = 0; n < B; ++n) {
        for (int64_t d = 0; d < D; d += BLOCK) {
            const int64_t size = std::min(BLOCK, D - d);
            int64_t row = n * T + (reverse ? T - 1 : 0);
            const float* before = start + n * D + d;
            for (int64_t t = 0; t < T; ++t, row += step) {
                const float *u = update + row * update_row + d, *c = candidate + row * candidate_row + d;
                const float* f = forget + row * forget_row + d;
                float* out = h + row * D + d;
#pragma omp simd
                for (int64_t i = 0; i < size; ++i) {
                    const float g = larger(0.0f, c[i]) + sigmoid(smaller(0.0f, c[i]));
                    out[i] = before[i] + Gates::share(u[i], f[i]).value * (g - before[i]);
                }
                before = out;
            }
        }
    }
}

template <typename Gates>
void gated_scan_backward(const float* grad, const float* update, const float* candidate, const float* forget,
                         const float* start, const float* h, float* grad_update, float* grad_candidate,
                         float* grad_forget, float* grad_start, int64_t B, int64_t T, int64_t D, int64_t reverse,
                         int64_t update_row, int64_t candidate_row, int64_t forget_row) {
    const int64_t step = reverse ? -1 : 1;
#pragma omp parallel for collapse(2)
    for (int64_t n = 0; n < B; ++n) {
        for (int64_t d = 0; d < D; d += BLOCK) {
            const int64_t size = std::min(BLOCK, D - d);
            int64_t row = n * T + (reverse ? 0 : T - 1);
            float* carried = grad_start + n * D + d;
            std::fill(carried, carried + size, 0.0f);
            for (int64_t t = T; t-- > 0; row -= step) {
                const float *u = update + row * update_row + d, *c = candidate + row * candidate_row + d;
                const float* f = forget + row * forget_row + d;
                const float *before = t ? h + (row - step) * D + d : start + n * D + d, *from = grad + row * D + d;
                float *to_u = grad_update + row * D + d, *to_c = grad_candidate + row * D + d;
                float* to_f = grad_forget + row * D + d;
#pragma omp simd
                for (int64_t i = 0; i < size; ++i) {
                    const Share z = Gates::share(u[i], f[i]);
                    const float s = sigmoid(smaller(0.0f, c[i])), total = from[i] + carried[i];
                    const float gap = total * (larger(0.0f, c[i]) + s - before[i]);
                    if (Gates::forgets) to_f[i] = gap * z.by_forget;
                    to_u[i] = gap * z.by_update;
                    to_c[i] = total * z.value * (c[i] > 0.0f ? 1.0f : s * (1.0f - s));
                    carried[i] = total * (1.0f - z.value);
                }
            }
        }
    }
}

}  // namespace

extern "C" {

void scan_float32(const float* a, const float* b, const float* start, float* h, int64_t B, int64_t T, int64_t D,
                  int64_t reverse) {
    scan(a, b, start, h, B, T, D, reverse);
}

void scan_float64(const double* a, const double* b, const double* start, double* h, int64_t B, int64_t T, int64_t D,
                  int64_t reverse) {
    scan(a, b, start, h, B, T, D, reverse);
}

void scan_backward_float32(const float* grad, const float* a, const float* start, const float* h, float* grad_a,
                           float* grad_b, float* grad_start, int64_t B, int64_t T, int64_t D, int64_t reverse) {
    scan_backward(grad, a, start, h, grad_a, grad_b, grad_start, B, T, D, reverse);
}

void scan_backward_float64(const double* grad, const double* a, const double* start, const double* h, double* grad_a,
                           double* grad_b, double* grad_start, int64_t B, int64_t T, int64_t D, int64_t reverse) {
    scan_backward(grad, a, start, h, grad_a, grad_b, grad_start, B, T, D, reverse);
}

// Without a forget gate update takes its place, unused, and its gradient is not written.
void gated_scan_single(const float* update, const float* candidate, const float* start, float* h, int64_t B, int64_t T,
                       int64_t D, int64_t reverse, int64_t update_row, int64_t candidate_row) {
    gated_scan<Single>(update, candidate, update, start, h, B, T, D, reverse, update_row, candidate_row, update_row);
}

void gated_scan_pair(const float* update, const float* candidate, const float* forget, const float* start, float* h,
                     int64_t B, int64_t T, int64_t D, int64_t reverse, int64_t update_row, int64_t candidate_row,
                     int64_t forget_row) {
    gated_scan<Pair>(update, candidate, forget, start, h, B, T, D, reverse, update_row, candidate_row, forget_row);
}

void gated_scan_backward_single(const float* grad, const float* update, const float* candidate, const float* start,
                                const float* h, float* grad_update, float* grad_candidate, float* grad_start, int64_t B,
                                int64_t T, int64_t D, int64_t reverse, int64_t update_row, int64_t candidate_row) {
    gated_scan_backward<Single>(grad, update, candidate, update, start, h, grad_update, grad_candidate, grad_update,
                                grad_start, B, T, D, reverse, update_row, candidate_row, update_row);
}

void gated_scan_backward_pair(const float* grad, const float* update, const float* candidate, const float* forget,
                              const float* start, const float* h, float* grad_update, float* grad_candidate,
                              float* grad_forget, float* grad_start, int64_t B, int64_t T, int64_t D, int64_t reverse,
                              int64_t update_row, int64_t candidate_row, int64_t forget_row) {
    gated_scan_backward<Pair>(grad, update, candidate, forget, start, h, grad_update, grad_candidate, grad_forget,
                              grad_start, B, T, D, reverse, update_row, candidate_row, forget_row);
}

}  // extern "C"
