"""Torch's recurrent cells on a CPU: their products by torch, what lies between them by compiled C++."""

from lightning_rnnattn.ops.recurrent.cells import gru_cell, lstm_cell
from lightning_rnnattn.ops.recurrent.packed import LayerWeights, packed_layer, packed_layer_reference, serves

__all__ = ["LayerWeights", "gru_cell", "lstm_cell", "packed_layer", "packed_layer_reference", "serves"]
