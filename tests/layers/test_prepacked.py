"""Linear layers in the layout of oneDNN, against the layers as they are."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from lightning_rnnattn import BeamSearch, LanguageModel, Seq2Seq
from lightning_rnnattn.decoding import generate, stream
from lightning_rnnattn.layers import prepacked
from lightning_rnnattn.layers.prepacked import Prepacked

D, V = 300, 1001


@pytest.fixture(params=[True, False], ids=["bias", "no bias"])
def linear(request):
    return nn.Linear(D, V, bias=request.param)


def is_packed(linear):
    return "forward" in vars(linear)


@pytest.mark.parametrize("shape", [(0,), (1,), (5,), (64,), (2, 3), (1, 1, 1)])
@torch.no_grad()
def test_equals_the_layer(linear, shape):
    x = torch.randn(*shape, D)
    expected = F.linear(x.double(), linear.weight.double(), None if linear.bias is None else linear.bias.double())
    with Prepacked(linear):
        assert is_packed(linear)
        torch.testing.assert_close(linear(x), expected.float(), atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(linear(x.expand(2, *x.shape)[1]), expected.float(), atol=1e-5, rtol=1e-5)
        strided = x.repeat_interleave(2, -1)[..., ::2]
        torch.testing.assert_close(linear(strided), expected.float(), atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_rows_are_what_they_are_alone(linear):
    x = torch.randn(33, D)
    with Prepacked(linear):
        torch.testing.assert_close(linear(x), torch.cat([linear(row) for row in x.split(1)]), atol=1e-5, rtol=1e-5)


def test_the_layer_is_its_own_again_whatever_happens(linear):
    model = nn.Sequential(nn.Linear(2, D), linear)
    context = Prepacked(model)
    for _ in range(2):
        with context:
            assert [is_packed(layer) for layer in model] == [False, True]  # the first is too small
            with Prepacked(model):
                assert is_packed(linear)
            assert is_packed(linear)
        assert not is_packed(linear)
    with pytest.raises(RuntimeError, match="shapes"), torch.no_grad(), context:
        model(torch.ones(3))
    assert not is_packed(linear)


def test_gradients_and_autocast_take_the_layer_as_it_is(linear):
    x = torch.randn(4, D, requires_grad=True)
    with Prepacked(linear):
        linear(x).sum().backward()
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
            assert linear(x).dtype is torch.bfloat16
    torch.testing.assert_close(x.grad, linear.weight.sum(0).expand(4, -1), atol=1e-4, rtol=1e-4)


def test_under_autocast_nothing_is_laid_out(linear):
    with torch.autocast("cpu", torch.bfloat16), Prepacked(linear):
        assert not is_packed(linear)


@torch.no_grad()
def test_hooks_run(linear):
    linear.register_forward_hook(lambda module, args, y: y + 1)
    x = torch.randn(4, D)
    expected = linear(x)
    with Prepacked(linear):
        torch.testing.assert_close(linear(x), expected, atol=1e-5, rtol=1e-5)


def test_what_is_left_alone(linear, monkeypatch):
    class Own(nn.Linear):
        pass

    for other in (Own(D, V), nn.Linear(D, V).double(), nn.Linear(D, V).bfloat16(), nn.Linear(D, V, device="meta")):
        with Prepacked(other):
            assert not is_packed(other)
    with Prepacked(object()):  # what decodes need not be a module
        pass
    monkeypatch.setattr(prepacked, "_available", lambda: False)
    with Prepacked(linear):
        assert not is_packed(linear)


def test_a_search_finds_the_same(monkeypatch):
    model = Seq2Seq(source_vocab_size=20, target_vocab_size=3000, embedding_size=32)
    source, lengths = torch.randint(4, 20, (3, 5)), torch.tensor([5, 2, 4])
    packed = []
    model.output.register_forward_hook(lambda linear, *_: packed.append(is_packed(linear)))

    def find():
        packed.clear()
        return BeamSearch(max_length=6).search(model, source, lengths, bos_id=2, eos_id=3)

    found = find()
    assert set(packed) == {True}
    assert not is_packed(model.output)
    monkeypatch.setattr(prepacked, "_available", lambda: False)
    expected = find()
    assert set(packed) == {False}
    for [ours], [theirs] in zip(found, expected, strict=True):
        assert ours.tokens == theirs.tokens
        assert ours.score == pytest.approx(theirs.score, abs=1e-5)


def test_generation_finds_the_same(monkeypatch):
    model = LanguageModel(vocab_size=3000)
    packed = []
    model.output.register_forward_hook(lambda linear, *_: packed.append(is_packed(linear)))
    prompts = [torch.tensor([5, 6, 7]), torch.tensor([8])]
    found = generate(model, prompts, max_new_tokens=8)
    assert set(packed) == {True}
    assert not is_packed(model.output)
    monkeypatch.setattr(prepacked, "_available", lambda: False)
    assert generate(model, prompts, max_new_tokens=8) == found


def test_a_weight_that_has_changed_is_read_anew():
    model = LanguageModel(vocab_size=3000)
    tokens = stream(model, [torch.tensor([5])], max_new_tokens=2, temperature=0)
    next(tokens)
    with torch.no_grad():
        model.output.weight.zero_()
        model.output.bias.zero_()[7] = 1
    assert next(tokens).tolist() == [7]


@torch.no_grad()
def test_a_forward_that_others_set_stays(linear):
    context = Prepacked(linear)
    linear.forward = lambda x: x
    with context:
        assert linear(3) == 3
    assert linear(3) == 3


@torch.no_grad()
def test_other_weights_for_one_call(linear):
    zeros = {name: torch.zeros_like(parameter) for name, parameter in linear.named_parameters()}
    with Prepacked(linear):
        assert not torch.func.functional_call(linear, zeros, torch.randn(2, D)).any()


def test_the_generator_is_left_alone(linear):
    prepacked._available.cache_clear()
    torch.manual_seed(1)
    Prepacked(linear)
    found = torch.rand(())
    torch.manual_seed(1)
    assert torch.rand(()) == found
