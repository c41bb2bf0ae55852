from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lightning_rnnattn import GRU, LSTM, UserError
from lightning_rnnattn.layers import CharacterEncoder, LastPooling

N, C = 9, 5  # characters known, and of the longest word


def build(**options):
    return CharacterEncoder(N, 4, rnn=partial(GRU, hidden_size=3, bidirectional=True), **options).double()


@settings(max_examples=40, deadline=None)
@given(
    rows=st.lists(st.lists(st.integers(0, C), min_size=3, max_size=3), min_size=1, max_size=3), seed=st.integers(0, 99)
)
def test_a_word_is_read_as_if_it_were_alone(rows, seed):
    torch.manual_seed(seed)
    encoder, lengths = build(), torch.tensor(rows)
    characters = torch.randint(N, (len(rows), 3, C))
    words = encoder(characters, lengths)
    assert words.shape == (len(rows), 3, encoder.output_size)
    for b, row in enumerate(rows):
        for t, length in enumerate(row):
            if length:
                alone = encoder(characters[b : b + 1, t : t + 1, :length], lengths[b : b + 1, t : t + 1])
                torch.testing.assert_close(words[b, t], alone[0, 0])
            else:
                assert not words[b, t].any()


def test_the_same_word_has_the_same_vector_and_another_has_another():
    encoder = build()
    characters = torch.tensor([[[1, 2, 0], [2, 1, 0]], [[1, 2, 7], [1, 2, 3]]])
    words = encoder(characters, torch.tensor([[2, 2], [2, 3]]))  # the 7 is padding
    torch.testing.assert_close(words[0, 0], words[1, 0])
    assert not torch.allclose(words[0, 0], words[0, 1])
    assert not torch.allclose(words[0, 0], words[1, 1])


def test_the_last_character_is_each_direction_s_own_last():
    encoder = build(pooling=LastPooling)
    characters = torch.tensor([[[1, 2, 3, 0]]])
    _, state = encoder.rnn(encoder.embedding(characters[0, :, :3]))
    torch.testing.assert_close(encoder(characters, torch.tensor([[3]]))[0, 0], state.flatten())


def test_gradient():
    torch.manual_seed(0)
    encoder, lengths = build(), torch.tensor([[3, 0], [1, 5]])
    characters = torch.randint(N, (2, 2, C))
    weight = encoder.embedding.weight.detach().clone().requires_grad_()

    def words(weight):
        return torch.func.functional_call(encoder, {"embedding.weight": weight}, (characters, lengths))

    assert torch.autograd.gradcheck(words, (weight,))


def test_without_any_word_every_parameter_stays_in_the_graph():
    encoder = build()
    words = encoder(torch.zeros(2, 1, C, dtype=torch.int64), torch.zeros(2, 1, dtype=torch.int64))
    assert not words.any()
    gradients = torch.autograd.grad(words.sum(), list(encoder.parameters()))
    assert not any(gradient.any() for gradient in gradients)


def test_only_real_words_are_run_over():
    encoder, seen = build(), []
    encoder.rnn.register_forward_pre_hook(lambda _, args: seen.append(tuple(args[0].shape[:2])))
    lengths = torch.tensor([[3, 0, 0], [1, 2, 0]])
    encoder(torch.ones(2, 3, C, dtype=torch.int64), lengths)
    assert seen == [(3, C)]


def test_dropout_drops_features_of_characters(assert_drops):
    encoder, lengths = build(dropout=0.3), torch.full((4, 6), C)
    characters = torch.randint(N, (4, 6, C))
    assert_drops(encoder, lambda: encoder(characters, lengths), 0.3, before=encoder.embedding, behind=encoder.rnn)


def test_learns_a_suffix():
    # Which words end in character 1? No word of the test is in the training data.
    torch.manual_seed(0)
    lengths = torch.randint(2, C + 1, (40, 10))
    characters = torch.randint(2, N, (40, 10, C))
    ends = torch.rand(40, 10) < 0.5
    characters.scatter_(2, (lengths - 1).unsqueeze(-1), torch.where(ends, 1, 2).unsqueeze(-1))
    encoder = CharacterEncoder(N, 8, rnn=partial(LSTM, hidden_size=8, bidirectional=True))
    readout = torch.nn.Linear(encoder.output_size, 1)
    optimizer = torch.optim.Adam([*encoder.parameters(), *readout.parameters()], lr=0.02)
    for _ in range(60):
        optimizer.zero_grad()
        logits = readout(encoder(characters[:30], lengths[:30])).squeeze(-1)
        torch.nn.functional.binary_cross_entropy_with_logits(logits, ends[:30].float()).backward()
        optimizer.step()
    right = (readout(encoder(characters[30:], lengths[30:])).squeeze(-1) > 0) == ends[30:]
    assert right.float().mean() > 0.95


@pytest.mark.parametrize("options", [{"num_characters": 0}, {"embedding_size": 0}, {"dropout": 1.0}])
def test_arguments_are_checked(options):
    with pytest.raises(UserError, match=next(iter(options))):
        CharacterEncoder(**{"num_characters": N, **options})
