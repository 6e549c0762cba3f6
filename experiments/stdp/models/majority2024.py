"""mozafari2018 with three decision layers, kernels of 3, 5 and 7, that vote: 4 222 000 weights."""

from bats.stdp.network import LayeredModel
from bats.stdp.readouts import MajorityDecision

from .mozafari2018 import HIDDEN
from .tables import Decision

KERNELS = (3, 5, 7)
PRECEDENCE = ("conv3_5x5", "conv3_3x3", "conv3_7x7")  # who decides when no two agree; the published rule names the 5 x 5
EPOCHS = (2, 4, 30)


def build(n_inputs, make):
    """LayeredModel on images encoded in n_inputs channels; make: tables.Maker."""
    size = HIDDEN[-1].features
    branches = {f"conv3_{kernel}x{kernel}": make.decision(3 + i, size, Decision(kernel)) for i, kernel in enumerate(KERNELS)}
    return LayeredModel("majority2024", make.stages(n_inputs, HIDDEN), MajorityDecision(branches, PRECEDENCE), EPOCHS)
