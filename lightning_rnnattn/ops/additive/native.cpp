// Additive scores and their gradients on a CPU: the loops behind native.py.
//
// Letters: N batch x heads, H heads, T queries, S keys, D features. Arrays are contiguous float32; query and key hold
// e^{2q} and e^{2k}. Every element (t, s, d) needs the reciprocal r = 1 / (1 + e^{2q} e^{2k}), of which
// tanh(q + k) = 1 - 2r. Query t reaches the keys from t + first up to t + last, exclusive, as far as they exist.
//
// The divider is what limits both loops; everything else hides behind it.

#include <cstdint>
#include <cstring>
#include <vector>

#include "../arithmetic.h"

namespace {

inline int64_t clamp(int64_t x, int64_t low, int64_t high) { return x < low ? low : x > high ? high : x; }

// The backward loop for a single query of each n, as a decoder makes them: every row lies and is met in one piece, where
// the blocks of additive_score_backward would touch each row of keys D / LANES times.
void single_query_backward(const float* grad, const float* query, const float* key, const float* v, float* grad_query,
                           float* grad_key, float* grad_v, int64_t N, int64_t H, int64_t S, int64_t D, int64_t first,
                           int64_t last) {
    const int64_t begin = clamp(first, 0, S), end = clamp(last, begin, S);
#pragma omp parallel for schedule(guided)
    for (int64_t n = 0; n < N; ++n) {
        const float *q = query + n * D, *weight = v + n % H * D, *g = grad + n * S;
        float *to_query = grad_query + n * D, *to_v = grad_v + n * D;
        std::memset(to_query, 0, D * sizeof(float));
        std::memset(to_v, 0, D * sizeof(float));
        std::memset(grad_key + n * S * D, 0, begin * D * sizeof(float));
        std::memset(grad_key + (n * S + end) * D, 0, (S - end) * D * sizeof(float));
        for (int64_t s = begin; s < end; ++s) {
            const float* k = key + (n * S + s) * D;
            float* to_key = grad_key + (n * S + s) * D;
            const auto block = [&](int64_t d, int64_t size) {
                const Vector r = 1.0f / (1.0f + load(q + d, size) * load(k + d, size));
                const Vector gr = g[s] * r, w = 4.0f * load(weight + d, size) * (gr - gr * r);
                store(to_key + d, w, size);
                store(to_query + d, load(to_query + d, size) + w, size);
                store(to_v + d, load(to_v + d, size) - 2.0f * gr, size);
            };
            int64_t d = 0;
            for (; d + LANES <= D; d += LANES) block(d, LANES);
            if (d < D) block(d, D - d);
        }
    }
}

}  // namespace

extern "C" {

// score[n,t,s] = sum_d v[h,d] (1 - 2 r[n,t,s,d]), h = n mod H; zero out of reach.
void additive_score(const float* query, const float* key, const float* v, float* score, int64_t N, int64_t H, int64_t T,
                    int64_t S, int64_t D, int64_t first, int64_t last) {
#pragma omp parallel for collapse(2) schedule(guided)
    for (int64_t n = 0; n < N; ++n) {
        for (int64_t t = 0; t < T; ++t) {
            const float *weight = v + n % H * D, *q = query + (n * T + t) * D;
            float* out = score + (n * T + t) * S;
            double total = 0;  // a long sum, met by every score of the row
            for (int64_t d = 0; d < D; ++d) total += weight[d];
            std::memset(out, 0, S * sizeof(float));
            for (int64_t s = clamp(t + first, 0, S); s < clamp(t + last, 0, S); ++s) {
                const float* k = key + (n * S + s) * D;
                Vector acc = {};
                int64_t d = 0;
                for (; d + LANES <= D; d += LANES) acc += load(weight + d) / (1.0f + load(q + d) * load(k + d));
                if (d < D) acc += load(weight + d, D - d) / (1.0f + load(q + d, D - d) * load(k + d, D - d));
                out[s] = static_cast<float>(total - 2.0 * sum(acc));
            }
        }
    }
}

// With g = grad of score: grad_query[n,t,d] = 4 v_d sum_s g r (1 - r), grad_key[n,s,d] = 4 v_d sum_t g r (1 - r) and
// grad_v[n,d] = -2 sum_{t,s} g r. A thread owns LANES features of one n, so that nothing is summed across threads.
void additive_score_backward(const float* grad, const float* query, const float* key, const float* v, float* grad_query,
                             float* grad_key, float* grad_v, int64_t N, int64_t H, int64_t T, int64_t S, int64_t D,
                             int64_t first, int64_t last) {
    if (T == 1)
        return single_query_backward(grad, query, key, v, grad_query, grad_key, grad_v, N, H, S, D, first, last);
    const int64_t blocks = (D + LANES - 1) / LANES;
#pragma omp parallel
    {
        std::vector<Vector> keys(S), sums(S);
#pragma omp for collapse(2) schedule(guided)
        for (int64_t n = 0; n < N; ++n) {
            for (int64_t block = 0; block < blocks; ++block) {
                const int64_t d = block * LANES, size = clamp(D - d, 0, LANES);
                const Vector scale = 4.0f * load(v + n % H * D + d, size);
                for (int64_t s = 0; s < S; ++s) {
                    keys[s] = load(key + (n * S + s) * D + d, size);
                    sums[s] = Vector{};
                }
                Vector total = {};
                for (int64_t t = 0; t < T; ++t) {
                    const int64_t row = (n * T + t) * D + d;
                    const float* g = grad + (n * T + t) * S;
                    const Vector q = load(query + row, size);
                    Vector slope = {}, plain = {};
                    for (int64_t s = clamp(t + first, 0, S); s < clamp(t + last, 0, S); ++s) {
                        const Vector r = 1.0f / (1.0f + q * keys[s]), gr = g[s] * r, w = gr - gr * r;
                        plain += gr;
                        slope += w;
                        sums[s] += w;
                    }
                    total += plain;  // long sums lose less in two levels
                    store(grad_query + row, scale * slope, size);
                }
                for (int64_t s = 0; s < S; ++s) store(grad_key + (n * S + s) * D + d, scale * sums[s], size);
                store(grad_v + n * D + d, -2.0f * total, size);
            }
        }
    }
}

}  // extern "C"
