// The linear recurrence h[t] = a[t] h[t-1] + b[t] and its gradient on a CPU: the loops behind native.py.
//
// Letters: B batch, T time, D features. Arrays are contiguous: a, b, h (B, T, D), the state before and its gradient
// (B, D). Time runs backwards where `reverse` is set: h[t] = a[t] h[t+1] + b[t].
//
// The loops are as fast as memory gives and takes the arrays: steps follow one another, features go side by side.

#include <algorithm>
#include <cstdint>

namespace {

constexpr int64_t BLOCK = 512;  // features of one thread: whole lines of the cache, and pages that prefetching follows

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

}  // extern "C"
