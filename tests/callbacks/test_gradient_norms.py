import math
from functools import partial

import pytest
import torch
from matplotlib.image import imread
from torch import nn

from lightning_rnnattn import GRU, LSTM, Attention, Elman, LanguageModel, MinGRU, SequenceClassifier, UserError
from lightning_rnnattn.callbacks import GradientNorms, LastCheckpoint
from lightning_rnnattn.callbacks.figures import save_figure
from lightning_rnnattn.callbacks.gradient_figure import comparison_figure, gradient_figure
from lightning_rnnattn.callbacks.gradient_norms import norms_by_time
from lightning_rnnattn.data import ClassBatch, Padded, TokenBatch
from lightning_rnnattn.layers import AttentionPooling, Features, LastPooling

from .tiny import TinyModel

B, T, F, N = 4, 9, 2, 5


class Model(TinyModel):
    """Has what the protocol asks for: a network with an explicit state, and the summed loss of a batch."""

    def __init__(self):
        super().__init__()
        self.rnn, self.dropout = GRU(16, 16), nn.Identity()  # what a resumed run draws is no matter of the callback

    def step(self, batch, stage):
        return self._loss(batch) * batch.targets.numel(), batch.targets.numel()


def classifier(rnn, pooling=LastPooling):
    return SequenceClassifier(F, 3, input=Features, rnn=partial(rnn, hidden_size=N), pooling=pooling).double()


def class_batch(lengths=(T,) * B):
    values, labels = torch.randn(len(lengths), T, F, dtype=torch.float64), torch.arange(len(lengths)) % 3
    counts = torch.ones(len(lengths), dtype=torch.bool)
    return ClassBatch(Padded(values, torch.tensor(lengths)), labels, counts, tuple(range(len(lengths))), None)


def test_equals_the_chain_rule_by_hand():
    """dL/dh_t = W_hh^T diag(1 - h²) dL/dh_{t+1}, from the loss at the last step."""
    model, batch = classifier(Elman), class_batch()
    kernel = model.rnn.kernels[0]
    hidden, _ = model.rnn(batch.inputs.values)
    last = hidden[:, -1].detach().requires_grad_()
    loss, _ = model.loss(last, None, batch.labels, batch.counts)
    (gradient,) = torch.autograd.grad(loss, last)
    expected = []
    for t in range(T - 1, 0, -1):
        gradient = (gradient * (1 - hidden[:, t] ** 2)) @ kernel.weight_hh_l0
        expected.append((t, gradient.norm(dim=1).mean().item()))
    found = norms_by_time(model, batch, num_points=T)
    assert [t for t, _ in found.gradients] == list(range(1, T))
    assert dict(found.gradients) == pytest.approx(dict(expected))
    norms = hidden.detach().norm(dim=-1).mean(0)
    assert dict(found.states) == pytest.approx({t: norms[t - 1].item() for t in range(1, T)})


@pytest.mark.parametrize("rnn", [LSTM, GRU, MinGRU, partial(Elman, num_layers=2, residual=True)])
@pytest.mark.parametrize("pooling", [LastPooling, AttentionPooling])
def test_does_not_depend_on_how_many_pieces_there_are(rnn, pooling):
    model, batch = classifier(rnn, pooling), class_batch((T, 7, 3, 0))
    fine, coarse = (dict(norms_by_time(model, batch, points).gradients) for points in (T, 3))
    assert sorted(coarse) == [3, 6]
    assert coarse == pytest.approx({t: fine[t] for t in coarse})
    assert sorted(fine) == list(range(1, T))
    assert all(norm > 0 for norm in fine.values())


def test_only_sequences_that_go_on_count():
    model, batch = classifier(Elman), class_batch((T, 4))
    alone = ClassBatch(
        Padded(batch.inputs.values[:1], batch.inputs.lengths[:1]), batch.labels[:1], batch.counts[:1], (0,), None
    )
    for both, first in zip(norms_by_time(model, batch, T), norms_by_time(model, alone, T), strict=True):
        both, first = dict(both), dict(first)
        assert {t: both[t] for t in range(4, T)} == pytest.approx({t: first[t] for t in range(4, T)})
        assert both[3] != pytest.approx(first[3])


def test_leaves_the_model_as_it_was():
    model, batch = classifier(MinGRU), class_batch()
    whole = model.rnn(batch.inputs.values)
    norms_by_time(model, batch, 3)
    assert "forward" not in vars(model.rnn)
    assert all(parameter.grad is None for parameter in model.parameters())
    torch.testing.assert_close(model.rnn(batch.inputs.values), whole)


def test_a_line_is_added_at_each_validation_and_training_is_the_same(fit, tmp_path):
    callback = GradientNorms(num_points=4)
    _, watched = fit(callback, kind=Model)
    _, alone = fit(kind=Model)
    assert callback.path == tmp_path / "gradients.png"
    assert imread(callback.path).ndim == 3
    record = callback.state_dict()["record"]
    assert [step for step, *_ in record] == [8, 16]
    curves = [points for _, *norms in record for points in norms]
    assert all([t for t, _ in points] == [3, 6, 9] and all(norm > 0 for _, norm in points) for points in curves)
    assert all(torch.equal(a, b) for a, b in zip(watched.parameters(), alone.parameters(), strict=True))


def test_goes_on_after_a_stop(fit, tmp_path):
    straight, resumed, last = GradientNorms(), GradientNorms(), LastCheckpoint()
    fit(straight, kind=Model)
    fit(GradientNorms(), last, kind=Model, max_epochs=1)
    fit(resumed, kind=Model, ckpt_path=last.last_model_path, default_root_dir=tmp_path / "other")
    for line, again in zip(straight.state_dict()["record"], resumed.state_dict()["record"], strict=True):
        assert line[0] == again[0]
        for points, others in zip(line[1:], again[1:], strict=True):
            assert dict(others) == pytest.approx(dict(points))


def test_a_network_that_reads_both_ways_is_refused(fit):
    class Both(Model):
        def __init__(self):
            super().__init__()
            self.rnn = GRU(16, 8, bidirectional=True)

    with pytest.raises(UserError, match="bidirectional: no state runs through time"):
        fit(GradientNorms(), kind=Both)
    with pytest.raises(UserError, match="Linear has no `rnn` and no `step`"):
        GradientNorms().on_fit_start(None, nn.Linear(1, 1))
    with pytest.raises(UserError, match="num_points=1"):
        GradientNorms(num_points=1)


def test_a_language_model_is_looked_at(tmp_path):
    model = LanguageModel(7, rnn=partial(GRU, hidden_size=N), attention=partial(Attention, window=3))
    tokens = torch.randint(7, (B, T + 1))
    batch = TokenBatch(tokens[:, :-1], tokens[:, 1:], torch.ones(B, T, dtype=torch.bool), True)
    norms = norms_by_time(model, batch, num_points=T)
    assert [t for t, _ in norms.gradients] == [t for t, _ in norms.states] == list(range(1, T))
    assert all(norm > 0 for points in norms for _, norm in points)


def test_without_validation_nothing_is_drawn(fit, tmp_path):
    fit(GradientNorms(), kind=Model, limit_val_batches=0)
    assert not list(tmp_path.glob("*.png"))


@pytest.mark.parametrize("norms", [[0.0, 0.0], [math.nan, math.inf], [1e-40, 1e38], [1.0, 2.0]], ids=str)
def test_the_picture_takes_any_number(norms, tmp_path):
    lines = [(1, list(enumerate(norms))), (2, [])]
    figure = gradient_figure({"gradients": lines, "states": lines})
    save_figure(figure, tmp_path / "g.png")
    assert len(figure.axes[0].lines) == 2
    save_figure(comparison_figure({"a": list(enumerate(norms)), "b": []}), tmp_path / "c.png")
    assert imread(tmp_path / "c.png").ndim == 3
