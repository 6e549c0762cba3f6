"""Two layers of STDP and one of reward-modulated STDP (Mozafari, Ganjtabesh, Nowzari, Thorpe, Masquelier 2019, Pattern
Recognition 94, arXiv 1804.00227). 1 322 000 weights; published on MNIST: 97.2 % after 680 decision epochs."""

from bats.stdp.network import LayeredModel
from bats.stdp.readouts import SingleDecision

from .tables import Decision, Hidden

HIDDEN = (
    Hidden(30, 5, 15.0, winners=5, radius=3, window=2, padding=1),
    Hidden(250, 3, 10.0, winners=8, radius=1, window=3, padding=2),
)
DECISION = Decision(kernel=5)
EPOCHS = (2, 4, 50)


def build(n_inputs, make):
    """LayeredModel on images encoded in n_inputs channels; make: tables.Maker."""
    decision = make.decision(3, HIDDEN[-1].features, DECISION)
    return LayeredModel("mozafari2018", make.stages(n_inputs, HIDDEN), SingleDecision("conv3", decision), EPOCHS)
