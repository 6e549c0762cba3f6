"""Four layers of STDP, all with kernels of 3, and one of reward: 10 neurons per class, 1 009 620 weights.

The threshold of the fourth layer is 1; its table in the published code says 128, a number that is not used there.
"""

from bats.stdp.network import LayeredModel
from bats.stdp.readouts import SingleDecision

from .tables import Decision, Hidden

HIDDEN = (
    Hidden(30, 3, 15.0, winners=5, radius=3, window=2, padding=1),
    Hidden(150, 3, 10.0, winners=8, radius=1, window=2, padding=1),
    Hidden(250, 3, 50.0, winners=15, radius=1, window=3, padding=2),
    Hidden(200, 3, 1.0, winners=20, radius=1, window=3, padding=2),
)
DECISION = Decision(kernel=3, per_class=10)
EPOCHS = (2, 4, 4, 4, 30)


def build(n_inputs, make):
    """LayeredModel on images encoded in n_inputs channels; make: tables.Maker."""
    decision = make.decision(5, HIDDEN[-1].features, DECISION)
    return LayeredModel("deeper2024", make.stages(n_inputs, HIDDEN), SingleDecision("conv5", decision), EPOCHS)
