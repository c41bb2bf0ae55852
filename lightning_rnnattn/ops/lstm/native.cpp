// What an LSTM does between its matrix products, and the gradient, on a CPU: the loops behind native.py.
//
// Letters: N rows, D features. Arrays are contiguous float32: states (N, D), and gates (N, 4 D) in torch's order i, f,
// g, o.

#include <cstdint>

#include "../arithmetic.h"

namespace {

// By a power series near zero, where the difference of the other formula keeps few digits.
template <typename Real>
inline Real hyperbolic(Real x) {
    const Real s = x * x;
    Real series = s * 0.02186949f - 0.05396825f;
    series = series * s + 0.13333333f;
    series = series * s - 0.33333333f;
    series = x + x * s * series;
    const Real other = 1.0f - 2.0f / (1.0f + exponential(x + x));
    return s < 0.09f ? series : other;
}

// Calls a function for each place of a row of D features, with a vector where one fits.
template <typename Function>
inline void along(int64_t D, Function function) {
    int64_t d = 0;
    for (; d + LANES <= D; d += LANES) function(d, Vector{});
    for (; d < D; ++d) function(d, 0.0f);
}

template <typename Real>
inline Real read(const float* x) {
    Real out;
    std::memcpy(&out, x, sizeof out);
    return out;
}

template <typename Real>
inline void write(float* x, const Real& value) {
    std::memcpy(x, &value, sizeof value);
}

}  // namespace

extern "C" {

// c becomes sigmoid(f) c + sigmoid(i) tanh(g), h becomes sigmoid(o) tanh(c), and gates what is named here. Where they are
// not null, h_before and c_before become what the states were, and output becomes h.
void lstm_step(float* gates, float* h, float* c, float* h_before, float* c_before, float* output, int64_t N, int64_t D) {
#pragma omp parallel for if (N * D > 8192)
    for (int64_t n = 0; n < N; ++n) {
        float* row = gates + 4 * n * D;
        along(D, [=](int64_t d, auto kind) {
            using Real = decltype(kind);
            const int64_t at = n * D + d;
            const Real i = sigmoid(read<Real>(row + d)), f = sigmoid(read<Real>(row + D + d));
            const Real g = hyperbolic(read<Real>(row + 2 * D + d)), o = sigmoid(read<Real>(row + 3 * D + d));
            const Real before = read<Real>(c + at), cell = f * before + i * g, out = o * hyperbolic(cell);
            write(row + d, i), write(row + D + d, f), write(row + 2 * D + d, g), write(row + 3 * D + d, o);
            if (h_before) write(h_before + at, read<Real>(h + at));
            if (c_before) write(c_before + at, before);
            if (output) write(output + at, out);
            write(h + at, out);
            write(c + at, cell);
        });
    }
}

// From what lstm_step made of the gates, and the gradients of output (where not null), h and c: those of the gates, and in
// place of that of c, its gradient before the step.
void lstm_step_backward(const float* gates, const float* c_before, const float* grad_output, const float* grad_h,
                        float* grad_c, float* grad_gates, int64_t N, int64_t D) {
#pragma omp parallel for if (N * D > 8192)
    for (int64_t n = 0; n < N; ++n) {
        const float* row = gates + 4 * n * D;
        float* out = grad_gates + 4 * n * D;
        along(D, [=](int64_t d, auto kind) {
            using Real = decltype(kind);
            const int64_t at = n * D + d;
            const Real i = read<Real>(row + d), f = read<Real>(row + D + d);
            const Real g = read<Real>(row + 2 * D + d), o = read<Real>(row + 3 * D + d);
            const Real before = read<Real>(c_before + at), tanh = hyperbolic(f * before + i * g);
            Real by_h = read<Real>(grad_h + at);
            if (grad_output) by_h += read<Real>(grad_output + at);
            const Real by_c = read<Real>(grad_c + at) + by_h * o * (1.0f - tanh * tanh);
            write(out + d, by_c * g * i * (1.0f - i));
            write(out + D + d, by_c * before * f * (1.0f - f));
            write(out + 2 * D + d, by_c * i * (1.0f - g * g));
            write(out + 3 * D + d, by_h * tanh * o * (1.0f - o));
            write(grad_c + at, by_c * f);
        });
    }
}

}  // extern "C"
