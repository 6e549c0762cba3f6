"""Surrogate gradients dS/dV of a spike that a threshold decides, as functions of x = V - threshold.

All are 1 at the threshold, so that a slope sets only how fast they fall off to both sides.
"""

from dataclasses import dataclass

from bats.layers.base import positive


@dataclass(frozen=True)
class Surrogate:
    """slope: 1 / (membrane), > 0. Raises TypeError or ValueError for another one."""

    slope: float
    kind = None  # the number that the kernels know it by

    def __post_init__(self):
        object.__setattr__(self, "slope", positive("slope", self.slope))


class FastSigmoid(Surrogate):
    """1 / (slope |x| + 1)^2 (Zenke & Ganguli 2018, with slope 100 in FastSNN, arXiv 2205.15286)."""

    kind = 0


class ArcTan(Surrogate):
    """1 / (1 + (slope x)^2), the derivative of arctan(slope x) / slope (Fang et al. 2021)."""

    kind = 1


class Sigmoid(Surrogate):
    """4 s (1 - s) with s = 1 / (1 + e^(-slope x)), the derivative of 4 s / slope."""

    kind = 2
