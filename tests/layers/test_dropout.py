import torch

from lightning_rnnattn import LockedDropout


def test_a_feature_is_dropped_at_all_steps_of_a_sequence_or_at_none():
    x = torch.rand(40, 9, 30) + 1
    y = LockedDropout(0.3)(x)
    kept = y != 0
    assert (kept == kept[:, :1]).all()
    assert abs(kept.float().mean() - 0.7) < 0.05
    assert not (kept[0, 0] == kept[1, 0]).all()  # each sequence has a mask of its own
    torch.testing.assert_close(y, x * kept / 0.7)


def test_it_draws_anew_in_each_call_and_not_in_evaluation():
    x = torch.ones(5, 4, 30)
    layer = LockedDropout(0.5)
    assert not torch.equal(layer(x), layer(x))
    assert layer.eval()(x) is x


def test_gradients_flow_where_features_were_kept():
    x = torch.ones(2, 3, 10, requires_grad=True)
    y = LockedDropout(0.5)(x)
    y.sum().backward()
    assert torch.equal(x.grad, y.detach())
