"""deep2024 whose third layer, after training without labels, goes on learning by reward together with the decision layer:
an image that is decided rightly rewards the winners of both layers, wrongly punishes them. Greedy variant (deepr2024_2):
odd batches train the third layer, even ones the decision layer, never both."""

from dataclasses import replace

from bats.stdp.joint import JointDecision
from bats.stdp.network import LayeredModel

from .deep2024 import DECISION
from .deep2024 import HIDDEN as DEEP

HIDDEN = DEEP[:2]
THIRD = replace(DEEP[2], radius=0, stabilizer=False)
REWARD, PUNISH = (0.001, -0.00075), (-0.001, 0.000125)  # (after, before) of the third layer; the decision layer's: its default
EPOCHS = (2, 4, 4, 10)


def build(n_inputs, make, greedy=False):
    """LayeredModel on images encoded in n_inputs channels; make: tables.Maker."""
    third = make.hidden(3, HIDDEN[-1].features, THIRD)
    decision = make.decision(4, THIRD.features, DECISION)
    readout = JointDecision(
        ("conv3", third), ("conv4", decision), window=THIRD.window, padding=THIRD.padding,
        reward=REWARD, punish=PUNISH, alternate=greedy,
    )  # fmt: skip
    return LayeredModel("deepr2024_2" if greedy else "deepr2024", make.stages(n_inputs, HIDDEN), readout, EPOCHS)
