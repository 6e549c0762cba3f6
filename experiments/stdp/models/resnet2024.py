"""deep2024 with a skip connection around its third layer, and a decision layer with kernels of 4.

The skip is published as a fixed 1 x 1 convolution with positive random weights from 150 to 250 maps, brought from 14 x 14
to 7 x 7 by bilinear interpolation, both followed by a sign. A positive sum is positive as soon as one input spiked: every
map of the skip says when the first of the 150 neurons spiked in a square of 2 x 2, whatever the weights. That is what is
computed here, from the pooled maps. Both ways meet in the earlier of their two latencies.
"""

from bats.device import array_module, is_cupy
from bats.stdp.network import LayeredModel
from bats.stdp.readouts import SingleDecision

from .deep2024 import HIDDEN
from .tables import Decision

DECISION = Decision(kernel=4)
EPOCHS = (2, 4, 4, 30)


def build(n_inputs, make):
    """LayeredModel on images encoded in n_inputs channels; make: tables.Maker."""
    stages = make.stages(n_inputs, HIDDEN)
    stages[-1].merge = earlier
    decision = make.decision(4, HIDDEN[-1].features, DECISION)
    return LayeredModel("resnet2024", stages, SingleDecision("conv4", decision), EPOCHS)


def earlier(outputs, latencies):
    """The earlier of the third layer's latencies [n, C, H, W] and those of the skip, from the layer's input with its border."""
    (main,) = outputs
    border = HIDDEN[1].padding
    skip = latencies[:, :, border:-border, border:-border].min(axis=1, keepdims=True)
    return array_module("cuda" if is_cupy(main) else "cpu").minimum(main, skip)
