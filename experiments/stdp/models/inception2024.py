"""A third layer of three branches with kernels of 3, 5 and 7, whose maps go on side by side: 2 147 250 weights."""

from bats.device import array_module, is_cupy
from bats.stdp.maps import pad
from bats.stdp.network import LayeredModel, Stage
from bats.stdp.readouts import SingleDecision

from .tables import Decision, Hidden

HIDDEN = (
    Hidden(30, 5, 15.0, winners=5, radius=3, window=2, padding=1),
    Hidden(75, 3, 10.0, winners=8, radius=1, window=2, padding=1),
)
BRANCHES = {f"conv3_{kernel}x{kernel}": Hidden(100, kernel, 50.0, winners=15, radius=1) for kernel in (3, 5, 7)}
WINDOW, PADDING = 3, 2  # after the branches are joined
DECISION = Decision(kernel=5)
EPOCHS = (2, 4, 4, 30)


def build(n_inputs, make):
    """LayeredModel on images encoded in n_inputs channels; make: tables.Maker."""
    size = HIDDEN[-1].features
    branches = {name: make.hidden(3 + index, size, row) for index, (name, row) in enumerate(BRANCHES.items())}

    def side_by_side(outputs, _):
        height = outputs[0].shape[-1]
        padded = [pad(maps, (height - maps.shape[-1]) // 2, make.n_bins) for maps in outputs]
        return array_module("cuda" if is_cupy(padded[0]) else "cpu").concatenate(padded, axis=1)

    stages = [*make.stages(n_inputs, HIDDEN), Stage(branches, WINDOW, PADDING, side_by_side)]
    n_maps = sum(row.features for row in BRANCHES.values())
    decision = make.decision(6, n_maps, DECISION)
    return LayeredModel("inception2024", stages, SingleDecision("conv4", decision), EPOCHS)
