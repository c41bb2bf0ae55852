"""Lightning callbacks: checkpoints, curves, samples, pictures of attention, speed, predictions.

Each works in any Trainer with any LightningModule that offers the small protocol which its docstring states, writes on
rank zero only, and trains nothing differently: a run with it and one without end in the same weights. Four are there to
change them: `LengthScaledLR`, `EpochAverage`, `NTASGD`, and `FiniteLoss` where it may leave out steps.
"""

from lightning_rnnattn.callbacks.attention_map import AttentionMap
from lightning_rnnattn.callbacks.best_checkpoint import BestCheckpoint
from lightning_rnnattn.callbacks.confusion_matrix import ConfusionMatrix
from lightning_rnnattn.callbacks.epoch_average import EpochAverage
from lightning_rnnattn.callbacks.finite_loss import FiniteLoss
from lightning_rnnattn.callbacks.gradient_norm import GradientNorm
from lightning_rnnattn.callbacks.gradient_norms import GradientNorms
from lightning_rnnattn.callbacks.highlights import Highlights
from lightning_rnnattn.callbacks.last_checkpoint import LastCheckpoint
from lightning_rnnattn.callbacks.length_scaled_lr import LengthScaledLR
from lightning_rnnattn.callbacks.metrics_history import MetricsHistory
from lightning_rnnattn.callbacks.metrics_plot import MetricsPlot
from lightning_rnnattn.callbacks.next_steps import NextSteps
from lightning_rnnattn.callbacks.nt_asgd import NTASGD
from lightning_rnnattn.callbacks.prediction_writer import PredictionWriter
from lightning_rnnattn.callbacks.record_writer import RecordWriter
from lightning_rnnattn.callbacks.run_progress import RunProgress
from lightning_rnnattn.callbacks.sampled_text import SampledText
from lightning_rnnattn.callbacks.sampled_translations import SampledTranslations
from lightning_rnnattn.callbacks.throughput import Throughput

__all__ = [
    "NTASGD",
    "AttentionMap",
    "BestCheckpoint",
    "ConfusionMatrix",
    "EpochAverage",
    "FiniteLoss",
    "GradientNorm",
    "GradientNorms",
    "Highlights",
    "LastCheckpoint",
    "LengthScaledLR",
    "MetricsHistory",
    "MetricsPlot",
    "NextSteps",
    "PredictionWriter",
    "RecordWriter",
    "RunProgress",
    "SampledText",
    "SampledTranslations",
    "Throughput",
]
