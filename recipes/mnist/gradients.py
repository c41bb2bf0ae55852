"""Which gradients reach the first pixels: networks before any training, compared in one picture.

python recipes/mnist/gradients.py FOLDER_OF_MNIST gradients.png
"""

import sys
from functools import partial
from pathlib import Path

import torch

from lightning_rnnattn import GRU, LSTM, MNIST, AttentionPooling, Elman, MinGRU, MinLSTM, Pixels, SequenceClassifier
from lightning_rnnattn.callbacks.figures import save_figure
from lightning_rnnattn.callbacks.gradient_figure import comparison_figure
from lightning_rnnattn.callbacks.gradient_norms import norms_by_time
from lightning_rnnattn.layers import Features, LastPooling

KINDS = {
    "Elman": (Elman, LastPooling),
    "LSTM": (LSTM, LastPooling),
    "GRU": (GRU, LastPooling),
    "MinGRU": (partial(MinGRU, num_layers=2), LastPooling),
    "MinLSTM": (partial(MinLSTM, num_layers=2), LastPooling),
    "Elman, attention pooling": (Elman, AttentionPooling),
}


def main() -> None:
    folder, picture = sys.argv[1:]
    batch = next(iter(MNIST(folder, view=Pixels(), eval_batch_size=50).val_dataloader()))
    curves = {}
    for name, (rnn, pooling) in KINDS.items():
        torch.manual_seed(1)
        factory = partial(rnn, hidden_size=128)
        model = SequenceClassifier(1, 10, input=Features, rnn=factory, pooling=pooling).eval()
        curves[name] = norms_by_time(model, batch, num_points=112).gradients
        at = dict(curves[name])
        print(name, *(f"t = {t}: {at[t]:.1e}" for t in (7, 392, 777)), sep="   ")
    save_figure(comparison_figure(curves, title="Gradients through time, before training"), Path(picture))


if __name__ == "__main__":
    main()
