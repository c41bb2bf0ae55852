// A step of a decoder's additive attention, and its gradients, on a CPU: the loops behind native.py.
//
// Letters: N batch x heads, H heads, K queries, S keys, D features, V features of a value. Arrays are contiguous
// float32. As in additive/native.cpp, r = 1 / (1 + e^{2q} e^{2k}) gives tanh(q + k) = 1 - 2r, where the product holds
// it; where it would not, e^{2(q + k)} is taken anew, feature by feature.

#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <type_traits>
#include <vector>

#include "../arithmetic.h"

namespace {

constexpr float LIMIT = 43, BOUND = 33;  // as in additive/exponentials.py

// 1 + e^{2(q + k)} of e^{2q} and e^{2k}.
struct ByProduct {
    static Vector terms(const Vector& q, const Vector& k) { return 1.0f + q * k; }
};

// The same of q and k.
struct BySum {
    static Vector terms(const Vector& q, const Vector& k) { return 1.0f + exponential(2.0f * (q + k)); }
};

// Calls function(at, size) for each block of features; the size of a whole one is known when it is compiled.
template <typename Function>
inline void each_block(int64_t size, const Function& function) {
    int64_t at = 0;
    for (; at + LANES <= size; at += LANES) function(at, std::integral_constant<int64_t, LANES>());
    if (at < size) function(at, size - at);
}

// What the queries of one n meet.
struct Memory {
    const float *key, *key_exp, *v, *value;
    std::vector<int64_t> seen;  // the keys in sight
    int64_t D, V;
    bool bounded;  // whether the products hold, whatever the query
    double total;  // of v

    Memory(const float* key, const float* key_exp, const float* v, const float* value, const uint8_t* visible,
           int64_t S, int64_t D, int64_t V, bool bounded)
        : key(key), key_exp(key_exp), v(v), value(value), D(D), V(V), bounded(bounded), total(0) {
        for (int64_t s = 0; s < S; ++s)
            if (!visible || visible[s]) seen.push_back(s);
        for (int64_t d = 0; d < D; ++d) total += v[d];
    }

    // Whether the products hold for this query. If so, `row` is e^{2q}; if not, q.
    bool prepare(const float* query, float* row) const {
        bool small = true;
        for (int64_t d = 0; d < D; ++d) small &= std::abs(query[d]) <= BOUND;
        const bool holds = bounded || small;
        for (int64_t d = 0; d < D; ++d)
            row[d] = holds ? exponential(2.0f * smaller(LIMIT, larger(-LIMIT, query[d]))) : query[d];
        return holds;
    }
};

template <typename Way>
void attend(const Memory& memory, const float* q, const float* keys, float* weights, float* context) {
    const int64_t D = memory.D, V = memory.V;
    float highest = -std::numeric_limits<float>::infinity(), sum_of_weights = 0;
    for (int64_t s : memory.seen) {
        Vector acc = {};
        each_block(D, [&](int64_t d, auto size) {
            acc += load(memory.v + d, size) / Way::terms(load(q + d, size), load(keys + s * D + d, size));
        });
        weights[s] = static_cast<float>(memory.total - 2.0 * sum(acc));
        highest = larger(highest, weights[s]);
    }
    for (int64_t s : memory.seen) sum_of_weights += weights[s] = exponential(weights[s] - highest);
    for (int64_t s : memory.seen) weights[s] /= sum_of_weights;
    each_block(V, [&](int64_t d, auto size) {
        Vector acc = {};
        for (int64_t s : memory.seen) acc += weights[s] * load(memory.value + s * V + d, size);
        store(context + d, acc, size);
    });
}

template <typename Way>
void attend_backward(const Memory& memory, const float* q, const float* keys, const float* grad, const float* weights,
                     float* grad_score, float* grad_query) {
    const int64_t D = memory.D, V = memory.V;
    float mean = 0;
    for (int64_t s : memory.seen) {
        Vector acc = {};
        each_block(V, [&](int64_t d, auto size) {
            acc += load(grad + d, size) * load(memory.value + s * V + d, size);
        });
        grad_score[s] = sum(acc);
        mean += weights[s] * grad_score[s];
    }
    for (int64_t s : memory.seen) grad_score[s] = weights[s] * (grad_score[s] - mean);
    each_block(D, [&](int64_t d, auto size) {
        Vector slope = {};
        for (int64_t s : memory.seen) {
            const Vector r = 1.0f / Way::terms(load(q + d, size), load(keys + s * D + d, size));
            slope += grad_score[s] * (r - r * r);
        }
        store(grad_query + d, 4.0f * load(memory.v + d, size) * slope, size);
    });
}

// Calls function(i, memory, q, keys, way) for each query i, with the numbers that its way compares.
template <typename Function>
void each_query(const float* query, const float* key, const float* key_exp, const float* v, const float* value,
                const uint8_t* visible, int64_t N, int64_t H, int64_t K, int64_t S, int64_t D, int64_t V,
                int64_t bounded, const Function& function) {
#pragma omp parallel for
    for (int64_t n = 0; n < N; ++n) {
        const Memory memory(key + n * S * D, key_exp + n * S * D, v + n % H * D, value + n * S * V,
                            visible ? visible + n / H * S : nullptr, S, D, V, bounded);
        std::vector<float> row(D);
        for (int64_t i = n * K; i < (n + 1) * K; ++i) {
            if (memory.prepare(query + i * D, row.data()))
                function(i, memory, row.data(), memory.key_exp, ByProduct());
            else
                function(i, memory, row.data(), memory.key, BySum());
        }
    }
}

}  // namespace

extern "C" {

// Weights (N, K, S), the softmax of the scores that the queries (N, K, D) have for keys (N, S, D) in sight, and the
// contexts (N, K, V) that these make of the values (N, S, V). `visible` (N / H, S) may be null. A query that sees
// nothing has weights and a context of zero. `bounded` says that no key is beyond BOUND.
void additive_step(const float* query, const float* key, const float* key_exp, const float* v, const float* value,
                   const uint8_t* visible, float* weights, float* context, int64_t N, int64_t H, int64_t K, int64_t S,
                   int64_t D, int64_t V, int64_t bounded) {
    std::memset(weights, 0, N * K * S * sizeof(float));
    each_query(query, key, key_exp, v, value, visible, N, H, K, S, D, V, bounded,
               [&](int64_t i, const Memory& memory, const float* q, const float* keys, auto way) {
                   attend<decltype(way)>(memory, q, keys, weights + i * S, context + i * V);
               });
}

// From the gradients of the contexts, those of the scores (N, K, S) and of the queries.
void additive_step_backward(const float* grad, const float* weights, const float* query, const float* key,
                            const float* key_exp, const float* v, const float* value, const uint8_t* visible,
                            float* grad_score, float* grad_query, int64_t N, int64_t H, int64_t K, int64_t S, int64_t D,
                            int64_t V, int64_t bounded) {
    std::memset(grad_score, 0, N * K * S * sizeof(float));
    each_query(query, key, key_exp, v, value, visible, N, H, K, S, D, V, bounded,
               [&](int64_t i, const Memory& memory, const float* q, const float* keys, auto way) {
                   attend_backward<decltype(way)>(memory, q, keys, grad + i * V, weights + i * S, grad_score + i * S,
                                                  grad_query + i * D);
               });
}

}  // extern "C"
