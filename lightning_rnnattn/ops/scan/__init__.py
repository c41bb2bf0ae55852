"""Linear recurrences over whole sequences: h_t = a_t ⊙ h_{t-1} + b_t, with its readable reference beside it.

`scan` has the operation, and `gated` the recurrence of minimal gated units. `native` are compiled loops for CPUs,
`blocked` is the form in eager torch for everything else.
"""

from lightning_rnnattn.ops.scan.gated import gated_scan
from lightning_rnnattn.ops.scan.reference import linear_scan_reference
from lightning_rnnattn.ops.scan.scan import linear_scan

__all__ = ["gated_scan", "linear_scan", "linear_scan_reference"]
