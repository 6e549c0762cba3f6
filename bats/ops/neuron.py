"""Parameters of a leaky integrate-and-fire neuron as the operations use them."""

from dataclasses import dataclass

import numpy as np

from bats.cpu.time_grid import SPAN


@dataclass(frozen=True)
class Neuron:
    """tau = 2 tau_s, c = theta / tau, reset = delta_theta / tau, length = distance of time origins; all of the layer's dtype."""

    tau: np.floating
    c: np.floating
    reset: np.floating
    length: np.floating
    slope_floor: np.floating

    @classmethod
    def make(cls, tau_s, theta, delta_theta, dtype, slope_floor=0.0):
        """tau_s in seconds; slope_floor: smallest du/dt used in the gradient, in units of theta / tau (0: no bound)."""
        real = np.dtype(dtype).type
        tau = 2 * tau_s
        return cls(real(tau), real(theta / tau), real(delta_theta / tau), real(SPAN * tau), real(slope_floor * theta / tau))
