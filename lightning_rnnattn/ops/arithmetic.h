// Arithmetic that the compiled loops share, in instructions that a compiler can do for many numbers at once.

#pragma once

#include <cstdint>
#include <cstring>

namespace {

constexpr int64_t LANES = 16;  // floats of one vector; the compiler splits it where registers are shorter
typedef float Vector __attribute__((vector_size(LANES * sizeof(float))));
typedef int32_t Integers __attribute__((vector_size(LANES * sizeof(int32_t))));

// By value: references, as std::min has them, keep the compiler from doing many at once. What is not a number comes out
// of either where it is y.
template <typename Real>
inline Real larger(Real x, Real y) {
    return x > y ? x : y;
}
template <typename Real>
inline Real smaller(Real x, Real y) {
    return x < y ? x : y;
}

inline int32_t integers(float x) { return static_cast<int32_t>(x); }
inline Integers integers(Vector x) { return __builtin_convertvector(x, Integers); }

// e^x to 2 units in the last place, zero or infinity where that is beyond what float32 holds.
template <typename Real>
inline Real exponential(Real x) {
    const Real zero = {};
    x = smaller(zero + 89.0f, larger(zero - 88.0f, x));
    const Real n = (x * 1.44269504f + 12582912.0f) - 12582912.0f;  // the nearest integer, by what float32 drops
    const Real r = x - n * 0.693359375f + n * 2.12194440e-4f;      // log 2 in two parts: n times the first is exact
    Real p = r * 1.9875691500e-4f + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * r * r + r + 1.0f;
    const auto bits = (integers(n) + 127) << 23;
    Real power;
    std::memcpy(&power, &bits, sizeof power);
    return p * power;
}

template <typename Real>
inline Real sigmoid(Real x) {
    return 1.0f / (1.0f + exponential(-x));
}

inline Vector load(const float* x, int64_t size = LANES) {
    Vector out = {};
    std::memcpy(&out, x, size * sizeof(float));
    return out;
}

inline void store(float* x, const Vector& value, int64_t size) { std::memcpy(x, &value, size * sizeof(float)); }

inline float sum(const Vector& x) {
    float half[LANES / 2], out = 0;
    for (int64_t i = 0; i < LANES / 2; ++i) half[i] = x[i] + x[i + LANES / 2];
    for (int64_t i = 0; i < LANES / 2; ++i) out += half[i];
    return out;
}

}  // namespace
