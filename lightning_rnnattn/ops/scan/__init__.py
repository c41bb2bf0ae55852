"""The linear recurrence h_t = a_t ⊙ h_{t-1} + b_t over whole sequences, with its readable reference beside it.

`scan` has the operation, `native` the compiled loop for CPUs, `blocked` the form in eager torch for everything else.
"""

from lightning_rnnattn.ops.scan.reference import linear_scan_reference
from lightning_rnnattn.ops.scan.scan import linear_scan

__all__ = ["linear_scan", "linear_scan_reference"]
