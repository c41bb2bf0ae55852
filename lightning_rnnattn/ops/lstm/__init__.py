"""An LSTM on a CPU: its products by torch, what lies between them by compiled C++."""

from lightning_rnnattn.ops.lstm.cell import lstm_cell
from lightning_rnnattn.ops.lstm.packed import LSTMWeights, packed_lstm, serves

__all__ = ["LSTMWeights", "lstm_cell", "packed_lstm", "serves"]
