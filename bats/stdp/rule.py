"""What a layer of the online loop does with an image: the numbers of inhibition, winners and STDP, checked once."""

import dataclasses

import numpy as np

from bats.stdp.encoding import check_bins

RULES = ("exact", "rounded")


@dataclasses.dataclass(frozen=True)
class Rule:
    """threshold None: neurons fire at the last bin if their potential is positive. doubling: images until the rates double, 0: never.

    per_class > 0: reward-modulated, that many neurons per class. Raises ValueError for values outside their ranges.
    """

    threshold: float | None
    n_bins: int = 15
    winners: int = 1
    radius: int = 0
    rule: str = "exact"
    stabilizer: bool = True
    bounds: tuple = (0.0, 1.0)
    doubling: int = 0
    max_rate: float = 0.15
    per_class: int = 0

    def __post_init__(self):
        check_bins(self.n_bins)
        if self.rule not in RULES:
            raise ValueError(f"rule: expected one of {', '.join(RULES)}, received {self.rule!r}")
        if self.threshold is not None and not self.threshold >= 0:
            raise ValueError(f"threshold: expected a number >= 0 or None, received {self.threshold}")
        if self.winners < 1 or self.radius < 0 or self.doubling < 0:
            raise ValueError(
                f"winners, radius, doubling: expected >= 1, >= 0, >= 0, received {self.winners}, {self.radius}, {self.doubling}"
            )
        if not self.bounds[0] < self.bounds[1]:
            raise ValueError(f"bounds: expected (lower, upper), received {self.bounds}")

    @property
    def level(self):
        """The threshold as the kernels take it: -1 for none."""
        return np.float32(-1 if self.threshold is None else self.threshold)

    @property
    def limits(self):
        return np.float32(self.bounds[0]), np.float32(self.bounds[1])

    def advance(self, rates, counter, n):
        """Rates float32 [2, 2] and counter after n more images (in float32, as on the devices)."""
        rates = rates.copy()
        if not self.doubling:
            return rates, counter
        for _ in range((counter + n) // self.doubling):
            rates[0, 0] = min(np.float32(2) * rates[0, 0], np.float32(self.max_rate))
            rates[0, 1] = np.float32(-0.75) * rates[0, 0]
        return rates, (counter + n) % self.doubling
