import lightning.pytorch as L
import pytest
from lightning.pytorch.loggers import CSVLogger

from lightning_rnnattn.callbacks import GradientNorm


class Recorder(L.Callback):
    """The norm worked out anew, before clipping."""

    def __init__(self):
        self.before = {}

    def on_after_backward(self, trainer, module):
        total = sum(float(p.grad.square().sum()) for p in module.parameters())
        self.before[trainer.global_step] = total**0.5


def test_norm_before_clipping_at_the_steps_that_are_logged(fit, tmp_path):
    recorder = Recorder()
    logger = CSVLogger(tmp_path, name="", version=0)
    fit(GradientNorm(), recorder, logger=logger, gradient_clip_val=0.1, log_every_n_steps=2, max_epochs=1)
    lines = (tmp_path / "version_0" / "metrics.csv").read_text().splitlines()
    columns = lines[0].split(",")
    step, norm = columns.index("step"), columns.index("grad_norm")
    logged = {int(row[step]): float(row[norm]) for row in (line.split(",") for line in lines[1:]) if row[norm]}
    assert list(logged) == [1, 3, 5, 7]
    for place, value in logged.items():
        assert value == pytest.approx(recorder.before[place], rel=1e-5)
        assert value > 0.1  # not the clipped one
