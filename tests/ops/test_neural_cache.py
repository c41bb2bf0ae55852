import torch

from lightning_rnnattn.ops.neural_cache import cache_log_probs

THETA = 0.4


def naive(query, key, words, mask, vocab_size):
    """The distribution over the vocabulary, one entry after the other."""
    batch, steps, _ = query.shape
    p = torch.zeros(batch, steps, vocab_size, dtype=query.dtype)
    for b in range(batch):
        for t in range(steps):
            for s in range(key.shape[1]):
                if mask[b, t, s]:
                    p[b, t, words[b, s]] += torch.exp(THETA * query[b, t] @ key[b, s])
    return p / p.sum(-1, keepdim=True)


def test_equals_the_naive_sum_over_the_vocabulary():
    torch.manual_seed(1)
    query, key = torch.randn(2, 3, 4, dtype=torch.float64), torch.randn(2, 6, 4, dtype=torch.float64)
    words, mask = torch.randint(5, (2, 6)), torch.rand(2, 3, 6) < 0.7
    expected = naive(query, key, words, mask, 5)
    torch.testing.assert_close(expected.sum(-1), torch.ones(2, 3, dtype=torch.float64))
    for word in range(5):
        targets = torch.full((2, 3), word)
        log_probs = cache_log_probs(query, key, words, targets, mask, THETA)
        torch.testing.assert_close(log_probs.exp(), expected[..., word])


def test_half_precision_of_what_is_around_has_no_part():
    torch.manual_seed(1)
    query, key = torch.randn(1, 3, 64), torch.randn(1, 6, 64)
    words, mask = torch.randint(2, (1, 6)), torch.ones(1, 3, 6, dtype=torch.bool)
    arguments = (query, key, words, torch.tensor([[0, 1, 0]]), mask, THETA)
    with torch.autocast("cpu", torch.bfloat16):
        around = cache_log_probs(*arguments)
    assert torch.equal(around, cache_log_probs(*arguments))


def test_nothing_to_use_has_no_probability():
    query, key = torch.randn(1, 1, 4), torch.randn(1, 3, 4)
    words, targets = torch.tensor([[0, 1, 2]]), torch.tensor([[1]])
    for mask in (torch.zeros(1, 1, 3, dtype=torch.bool), torch.tensor([[[True, False, True]]])):
        assert cache_log_probs(query, key, words, targets, mask, THETA) == -torch.inf


def test_large_scores_do_not_overflow():
    query, key = torch.full((1, 1, 4), 100.0), torch.full((1, 2, 4), 100.0)
    words, mask = torch.tensor([[3, 4]]), torch.ones(1, 1, 2, dtype=torch.bool)
    log_prob = cache_log_probs(query, key, words, torch.tensor([[4]]), mask, 1.0)
    torch.testing.assert_close(log_prob, torch.tensor([[0.5]]).log())
