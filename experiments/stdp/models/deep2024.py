"""mozafari2018 with a third layer of STDP: four layers, 1 632 500 weights."""

from bats.stdp.network import LayeredModel
from bats.stdp.readouts import SingleDecision

from .tables import Decision, Hidden

HIDDEN = (
    Hidden(30, 5, 15.0, winners=5, radius=3, window=2, padding=1),
    Hidden(150, 3, 10.0, winners=8, radius=1, window=2, padding=1),
    Hidden(250, 3, 50.0, winners=15, radius=1, window=3, padding=2),
)
DECISION = Decision(kernel=5)
EPOCHS = (2, 4, 4, 30)


def build(n_inputs, make):
    """LayeredModel on images encoded in n_inputs channels; make: tables.Maker."""
    decision = make.decision(4, HIDDEN[-1].features, DECISION)
    return LayeredModel("deep2024", make.stages(n_inputs, HIDDEN), SingleDecision("conv4", decision), EPOCHS)
