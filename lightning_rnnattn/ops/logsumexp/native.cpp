// The logarithm of the sum of exponentials of each row, on a CPU: the loop behind native.py.
//
// Letters: N rows, V numbers of a row. Arrays are contiguous float32.

#include <cmath>
#include <cstdint>

#include "../arithmetic.h"

extern "C" {

// In two readings of a row, which the cache keeps meanwhile, and no writing.
void logsumexp(const float* rows, float* out, int64_t N, int64_t V) {
#pragma omp parallel for
    for (int64_t n = 0; n < N; ++n) {
        const float* x = rows + n * V;
        const int64_t whole = V / LANES * LANES;
        float highest = x[V - 1];
        if (whole) {
            Vector best = load(x);
            for (int64_t i = LANES; i < whole; i += LANES) best = larger(load(x + i), best);
            for (int64_t i = 0; i < LANES; ++i) highest = larger<float>(best[i], highest);
        }
        for (int64_t i = whole; i < V; ++i) highest = larger(x[i], highest);
        Vector sums = {};
        for (int64_t i = 0; i < whole; i += LANES) sums += exponential(load(x + i) - highest);
        double total = sum(sums);
        for (int64_t i = whole; i < V; ++i) total += exponential(x[i] - highest);
        out[n] = static_cast<float>(highest + std::log(total));
    }
}

}  // extern "C"
