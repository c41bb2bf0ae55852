// The largest numbers of each row, on a CPU: the loop behind native.py.
//
// Letters: N rows, V numbers of a row, K to find. Arrays are contiguous; numbers are float32.

#include <cstdint>

#include "../arithmetic.h"

namespace {

constexpr int64_t BLOCK = 8 * LANES;

// Puts a number behind those that are not smaller; the last one falls out.
inline void insert(float x, int64_t place, float* values, int64_t* index, int64_t size) {
    int64_t at = size - 1;
    for (; at > 0 && values[at - 1] < x; --at) {
        values[at] = values[at - 1];
        index[at] = index[at - 1];
    }
    values[at] = x;
    index[at] = place;
}

inline float highest(const float* x) {
    Vector best = load(x);
    for (int64_t i = LANES; i < BLOCK; i += LANES) best = larger(load(x + i), best);
    float out = best[0];
    for (int64_t i = 1; i < LANES; ++i) out = larger<float>(best[i], out);
    return out;
}

}  // namespace

extern "C" {

// A block without a number above the smallest of those found is passed over: most are.
void topk(const float* rows, float* values, int64_t* index, int64_t N, int64_t V, int64_t K) {
#pragma omp parallel for
    for (int64_t n = 0; n < N; ++n) {
        const float* x = rows + n * V;
        float* best = values + n * K;
        int64_t* where = index + n * K;
        for (int64_t i = 0; i < K; ++i) insert(x[i], i, best, where, i + 1);
        for (int64_t start = K; start < V; start += BLOCK) {
            const int64_t end = smaller(start + BLOCK, V);
            if (end - start == BLOCK && !(highest(x + start) > best[K - 1])) continue;
            for (int64_t i = start; i < end; ++i)
                if (x[i] > best[K - 1]) insert(x[i], i, best, where, K);
        }
    }
}

}  // extern "C"
