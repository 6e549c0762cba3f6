"""The rows of the models' tables, and how layers are made of them."""

from dataclasses import dataclass

import numpy as np

from bats.stdp.convolution import STDPConvolution
from bats.stdp.decision import DecisionLayer
from bats.stdp.network import Stage, only

PADDING = 2  # silent pixels around the encoded images, all models


@dataclass(frozen=True)
class Hidden:
    """A convolution of one-spike neurons trained by STDP: feature maps, side of the kernel, threshold, winners per image
    and radius of their inhibition; then pooling squares and the padding that the next layer sees, both in neurons."""

    features: int
    kernel: int
    threshold: float
    winners: int
    radius: int
    window: int = 0
    padding: int = 0
    stabilizer: bool = True


@dataclass(frozen=True)
class Decision:
    """A decision layer: side of the kernel, neurons per class."""

    kernel: int
    per_class: int = 20


@dataclass(frozen=True)
class Maker:
    """Makes the layers of one model. Each has its own stream of initial weights, from the seed and its number."""

    n_classes: int
    device: str = "auto"
    seed: int = 0
    rule: str = "exact"
    n_bins: int = 15

    def _common(self, number):
        seed = int(np.random.SeedSequence([self.seed, number]).generate_state(1)[0])
        return {"n_bins": self.n_bins, "rule": self.rule, "device": self.device, "seed": seed}

    def hidden(self, number, n_inputs, row):
        """Layer `number` (from 1) as STDPConvolution."""
        return STDPConvolution(
            n_inputs, row.features, row.kernel, row.threshold, winners=row.winners, radius=row.radius,
            stabilizer=row.stabilizer, **self._common(number),
        )  # fmt: skip

    def decision(self, number, n_inputs, row):
        """Layer `number` as DecisionLayer."""
        return DecisionLayer(n_inputs, self.n_classes, row.per_class, row.kernel, **self._common(number))

    def stages(self, n_inputs, rows):
        """One Stage per row, named conv1, conv2, ..."""
        sizes = [n_inputs, *(row.features for row in rows)]
        return [
            Stage({f"conv{number}": self.hidden(number, size, row)}, row.window, row.padding, only)
            for number, (size, row) in enumerate(zip(sizes, rows, strict=False), 1)
        ]
