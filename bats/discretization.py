"""Time on a grid: spikes that are emitted at multiples of dt only (docs/time_discretization.md).

A grid time is an integer, its bin; the time of bin n is n dt, computed once, in the dtype that uses it. Equal bins are
therefore equal times, bit for bit, whatever layer or device they come from.
"""

import math
import numbers
from dataclasses import dataclass

import numpy as np

ROUNDINGS = ("next", "ceil", "nearest")  # a kernel is told the place in this list
RULES = ("clean", "study")
LAST_BIN = 2**30  # bins are 32-bit integers


@dataclass(frozen=True)
class TimeGrid:
    """Multiples of dt seconds, and how a time gets there.

    dt: step in seconds, > 0; or 0: no grid, continuous time
    rounding: "next": to the next multiple, even from a time that is one already (the default: a spike is never earlier than what
        caused it, nor in the same bin as the input that made it cross; the published study rounds so); "ceil": to the next multiple
        unless it is one; "nearest": to the nearest one, half a step up; a spike may then precede its cause by up to dt / 2
    rule: what a neuron does about its crossings. "clean": the reset takes place at the emitted time; the search for the next crossing
        goes on from there (or from the crossing, if that is later); one found above threshold already, or in a bin that is taken,
        is emitted in the bin after the last one. "study": the published study's kernel, kept for comparison: reset at the
        continuous crossing time; a crossing in a bin that is taken is rejected, and the neuron is silent until its membrane
        falls below threshold

    Raises TypeError or ValueError for anything else.
    """

    dt: float
    rounding: str = "next"
    rule: str = "clean"

    def __post_init__(self):
        if not isinstance(self.dt, numbers.Real) or isinstance(self.dt, bool):
            raise TypeError(f"dt: expected a number of seconds, received {self.dt!r}")
        if not (math.isfinite(self.dt) and self.dt >= 0):
            raise ValueError(f"dt: expected a finite number of seconds >= 0, received {self.dt}")
        if self.rounding not in ROUNDINGS:
            raise ValueError(f"rounding: expected one of {', '.join(ROUNDINGS)}, received {self.rounding!r}")
        if self.rule not in RULES:
            raise ValueError(f"rule: expected one of {', '.join(RULES)}, received {self.rule!r}")

    def bins(self, times):
        """Bins of times (seconds, array of floats) as float64, infinity for infinity; a time within rounding of a multiple is one."""
        times = np.asarray(times)
        if self.dt == 0:
            raise ValueError("bins: expected dt > 0, received the continuous grid dt = 0")
        slack = 4 * np.finfo(times.dtype if times.dtype.kind == "f" else np.float64).eps
        with np.errstate(invalid="ignore"):  # inf - inf
            steps = times.astype(np.float64) / self.dt
            whole = np.rint(steps)
            steps = np.where(np.abs(steps - whole) <= slack * np.maximum(whole, 1), whole, steps)
        if self.rounding == "next":
            return np.floor(steps) + 1
        return np.ceil(steps) if self.rounding == "ceil" else np.floor(steps + 0.5)

    def discretize(self, times, dtype=None):
        """times rounded to the grid, in dtype (default: that of times); as they came if dt is 0."""
        times = np.asarray(times)
        dtype = np.dtype(dtype or times.dtype)
        if self.dt == 0:
            return times.astype(dtype)
        return self.bins(times).astype(dtype) * dtype.type(self.dt)

    def last_bin(self, t_max):
        """The last bin whose time is not after t_max (seconds, inf allowed)."""
        steps = t_max / self.dt
        return int(min(steps * (1 + 1e-9) + 1e-9, LAST_BIN))


def check_grid(grid):
    """grid, or None for the continuous ones (None, dt = 0); raises TypeError for anything but a TimeGrid or None."""
    if grid is not None and not isinstance(grid, TimeGrid):
        raise TypeError(f"grid: expected a bats.TimeGrid or None, received {grid!r}")
    return None if grid is None or grid.dt == 0 else grid
