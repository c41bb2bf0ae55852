// What torch's recurrent networks do between their matrix products, and the gradients, on a CPU: the loops behind
// native.py.
//
// Letters: N rows, D features, G gates. Arrays are contiguous float32: states (N, D); gates and their like (N, G D), one
// gate beside the other in torch's order; a bias (G D). Any pointer that is said to be optional may be null.

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

// Where there is an array: what is at a place, and writing there.
template <typename Real>
inline Real get(const float* x, int64_t place) {
    return x ? read<Real>(x + place) : Real{};
}
template <typename Real>
inline void put(float* x, int64_t place, const Real& value) {
    if (x) write(x + place, value);
}

// Calls a function for each row and each place of it, with a vector where one fits.
template <typename Function>
inline void each(int64_t N, int64_t D, Function function) {
#pragma omp parallel for if (N * D > 8192)
    for (int64_t n = 0; n < N; ++n) {
        int64_t d = 0;
        for (; d + LANES <= D; d += LANES) function(n, d, Vector{});
        for (; d < D; ++d) function(n, d, 0.0f);
    }
}

// The two shares of G gates, the inputs' and the state's; the latter (optional) with a bias (optional).
template <int G>
struct Shares {
    float* by_x;
    const float *by_h, *bias;
    int64_t D;

    int64_t place(int64_t n, int gate, int64_t d) const { return (G * n + gate) * D + d; }
    template <typename Real>
    Real of_state(int64_t n, int gate, int64_t d) const {
        return get<Real>(by_h, place(n, gate, d)) + get<Real>(bias, gate * D + d);
    }
    template <typename Real>
    Real sum(int64_t n, int gate, int64_t d) const {
        return read<Real>(by_x + place(n, gate, d)) + of_state<Real>(n, gate, d);
    }
};

template <typename Activation>
void elman_step(Shares<1> gates, float* h, float* h_before, float* output, int64_t N, Activation activation) {
    each(N, gates.D, [=](int64_t n, int64_t d, auto kind) {
        using Real = decltype(kind);
        const int64_t at = n * gates.D + d;
        const Real out = activation(gates.template sum<Real>(n, 0, d));
        put(h_before, at, read<Real>(h + at));
        put(output, at, out);
        write(gates.by_x + at, out);
        write(h + at, out);
    });
}

template <typename Slope>
void elman_step_backward(const float* out, const float* grad_output, float* grad_h, float* grad_gates, int64_t N,
                         int64_t D, Slope slope) {
    each(N, D, [=](int64_t n, int64_t d, auto kind) {
        using Real = decltype(kind);
        const int64_t at = n * D + d;
        const Real grad = read<Real>(grad_h + at) + get<Real>(grad_output, at);
        write(grad_gates + at, grad * slope(read<Real>(out + at)));
        write(grad_h + at, Real{});
    });
}

}  // namespace

extern "C" {

// A step. `gates`, the inputs' share, become what the gradient needs; h (and an LSTM's c) become the next state. Optional:
// the state's share `by_h` and its `bias`; `output`, which becomes the next h; `h_before`, which becomes h as it was; and
// `kept`, which becomes what else the gradient needs.

void tanh_step(float* gates, const float* by_h, const float* bias, float* h, float*, float* h_before, float*,
               float* output, int64_t N, int64_t D) {
    elman_step({gates, by_h, bias, D}, h, h_before, output, N, [](auto x) { return hyperbolic(x); });
}

void relu_step(float* gates, const float* by_h, const float* bias, float* h, float*, float* h_before, float*,
               float* output, int64_t N, int64_t D) {
    elman_step({gates, by_h, bias, D}, h, h_before, output, N, [](auto x) { return larger(decltype(x){}, x); });
}

// r, z = sigmoid, n = tanh(x's share + r times h's), h' = (1 - z) n + z h; keeps h's share of n. h is read.
void gru_step(float* gates, const float* by_h, const float* bias, float* h, float*, float* h_before, float* kept,
              float* output, int64_t N, int64_t D) {
    const Shares<3> shares{gates, by_h, bias, D};
    each(N, D, [=](int64_t n, int64_t d, auto kind) {
        using Real = decltype(kind);
        const int64_t at = n * D + d;
        const Real r = sigmoid(shares.template sum<Real>(n, 0, d)), z = sigmoid(shares.template sum<Real>(n, 1, d));
        const Real by_state = shares.template of_state<Real>(n, 2, d), before = read<Real>(h + at);
        const Real fresh = hyperbolic(read<Real>(gates + shares.place(n, 2, d)) + r * by_state);
        const Real out = fresh + z * (before - fresh);
        put(h_before, at, before), put(kept, at, by_state), put(output, at, out);
        write(gates + shares.place(n, 0, d), r), write(gates + shares.place(n, 1, d), z);
        write(gates + shares.place(n, 2, d), fresh);
        write(h + at, out);
    });
}

// i, f, o = sigmoid, g = tanh, c' = f c + i g, h' = o tanh(c'); keeps c. h is read for `h_before` alone.
void lstm_step(float* gates, const float* by_h, const float* bias, float* h, float* c, float* h_before, float* kept,
               float* output, int64_t N, int64_t D) {
    const Shares<4> shares{gates, by_h, bias, D};
    each(N, D, [=](int64_t n, int64_t d, auto kind) {
        using Real = decltype(kind);
        const int64_t at = n * D + d;
        const Real i = sigmoid(shares.template sum<Real>(n, 0, d)), f = sigmoid(shares.template sum<Real>(n, 1, d));
        const Real g = hyperbolic(shares.template sum<Real>(n, 2, d)), o = sigmoid(shares.template sum<Real>(n, 3, d));
        const Real before = read<Real>(c + at), cell = f * before + i * g, out = o * hyperbolic(cell);
        if (h_before) write(h_before + at, read<Real>(h + at));
        put(kept, at, before), put(output, at, out);
        write(gates + shares.place(n, 0, d), i), write(gates + shares.place(n, 1, d), f);
        write(gates + shares.place(n, 2, d), g), write(gates + shares.place(n, 3, d), o);
        write(h + at, out), write(c + at, cell);
    });
}

// The gradient, from what the step made of `gates`, `h_before` and `kept`, and the gradients of `output` (optional), h and
// an LSTM's c: that of the inputs' share, and a GRU's of the state's share, which elsewhere is the same. Those of h and c
// become the gradients of the state before, but for what comes by its share.

void tanh_step_backward(const float* gates, const float*, const float*, const float* grad_output, float* grad_h, float*,
                        float* grad_gates, float*, int64_t N, int64_t D) {
    elman_step_backward(gates, grad_output, grad_h, grad_gates, N, D, [](auto y) { return 1.0f - y * y; });
}

void relu_step_backward(const float* gates, const float*, const float*, const float* grad_output, float* grad_h, float*,
                        float* grad_gates, float*, int64_t N, int64_t D) {
    elman_step_backward(gates, grad_output, grad_h, grad_gates, N, D, [](auto y) {
        using Real = decltype(y);
        return y > Real{} ? Real{} + 1.0f : Real{};
    });
}

void gru_step_backward(const float* gates, const float* h_before, const float* kept, const float* grad_output,
                       float* grad_h, float*, float* grad_by_x, float* grad_by_h, int64_t N, int64_t D) {
    each(N, D, [=](int64_t n, int64_t d, auto kind) {
        using Real = decltype(kind);
        const int64_t at = n * D + d, row = 3 * n * D + d;
        const Real r = read<Real>(gates + row), z = read<Real>(gates + row + D), fresh = read<Real>(gates + row + 2 * D);
        const Real grad = read<Real>(grad_h + at) + get<Real>(grad_output, at);
        const Real by_n = grad * (1.0f - z) * (1.0f - fresh * fresh);
        const Real by_r = by_n * read<Real>(kept + at) * r * (1.0f - r);
        const Real by_z = grad * (read<Real>(h_before + at) - fresh) * z * (1.0f - z);
        write(grad_by_x + row, by_r), write(grad_by_x + row + D, by_z), write(grad_by_x + row + 2 * D, by_n);
        write(grad_by_h + row, by_r), write(grad_by_h + row + D, by_z), write(grad_by_h + row + 2 * D, by_n * r);
        write(grad_h + at, grad * z);
    });
}

void lstm_step_backward(const float* gates, const float*, const float* kept, const float* grad_output, float* grad_h,
                        float* grad_c, float* grad_gates, float*, int64_t N, int64_t D) {
    each(N, D, [=](int64_t n, int64_t d, auto kind) {
        using Real = decltype(kind);
        const int64_t at = n * D + d, row = 4 * n * D + d;
        const Real i = read<Real>(gates + row), f = read<Real>(gates + row + D);
        const Real g = read<Real>(gates + row + 2 * D), o = read<Real>(gates + row + 3 * D);
        const Real before = read<Real>(kept + at), tanh = hyperbolic(f * before + i * g);
        const Real by_h = read<Real>(grad_h + at) + get<Real>(grad_output, at);
        const Real by_c = read<Real>(grad_c + at) + by_h * o * (1.0f - tanh * tanh);
        write(grad_gates + row, by_c * g * i * (1.0f - i));
        write(grad_gates + row + D, by_c * before * f * (1.0f - f));
        write(grad_gates + row + 2 * D, by_c * i * (1.0f - g * g));
        write(grad_gates + row + 3 * D, by_h * tanh * o * (1.0f - o));
        write(grad_h + at, Real{});
        write(grad_c + at, by_c * f);
    });
}

}  // extern "C"
