"""LIF neurons on a time grid in plain NumPy float64: the oracle of the tests, an addition to bats/reference.py.

One neuron at a time, with the sums of docs/theory.md (5) written out; the rules are those of docs/time_discretization.md.
Nothing here is fast, and nothing is shared with the kernels.
"""

import itertools
from dataclasses import dataclass

import numpy as np


@dataclass
class GridSpikes:
    """Trains [B, Nout, K]: emitted times and crossings (inf: no spike), slopes du/dt at the crossing; counts, overflow [B, Nout].

    due: a spike that was due when the search began: it follows the one before it, and has no crossing of its own.
    """

    times: np.ndarray
    crossings: np.ndarray
    slopes: np.ndarray
    due: np.ndarray
    counts: np.ndarray
    overflow: np.ndarray


@dataclass
class Neuron:
    """u(t) from weights w [n] and times t [n] of the pre-spikes, and times of the resets."""

    w: np.ndarray
    t: np.ndarray
    tau_s: float
    delta_theta: float
    resets: list

    def membrane(self, t):
        """u(t), docs/theory.md (5); resets count from their time on."""
        tau, age = 2 * self.tau_s, np.maximum(t - self.t, 0)
        u = (self.w * tau * (np.exp(-age / tau) - np.exp(-age / self.tau_s))).sum()
        return u - self.delta_theta * sum(np.exp(-(t - reset) / tau) for reset in self.resets)

    def slope(self, t):
        """du/dt at t, from the pre-spikes before t."""
        tau, past = 2 * self.tau_s, self.t < t
        age = t - self.t[past]
        rise = (self.w[past] * (2 * np.exp(-age / self.tau_s) - np.exp(-age / tau))).sum()
        return rise + self.delta_theta / tau * sum(np.exp(-(t - reset) / tau) for reset in self.resets)

    def crossing(self, start, end, theta):
        """First t in (start, end] at which u reaches theta from below, or None. No pre-spike lies in between."""
        tau, past = 2 * self.tau_s, self.t <= start
        a = (self.w[past] * np.exp((self.t[past] - start) / self.tau_s)).sum()
        b = (self.w[past] * np.exp((self.t[past] - start) / tau)).sum()
        b -= self.delta_theta / tau * sum(np.exp((reset - start) / tau) for reset in self.resets)
        square = b * b - 4 * a * theta / tau
        if not (a > 0 and b > 0 and square > 0):
            return None
        t = start + tau * np.log(2 * a / (b + np.sqrt(square)))
        return t if start < t <= end else None


def _bin(t, grid):
    steps = t / grid.dt
    return int({"next": np.floor(steps) + 1, "ceil": np.ceil(steps), "nearest": np.floor(steps + 0.5)}[grid.rounding])


def _spikes_of(neuron, theta, grid, n_keep, t_max):
    """(list of (time, crossing, slope, due), overflow) of one neuron."""
    spikes, free, last_bin, latched, searched = [], 0.0, -1, False, True
    borders = [*np.unique(neuron.t[neuron.t < t_max]), t_max]
    for begin, end in itertools.pairwise(borders):
        start = max(begin, free)
        while start < end:
            above = neuron.membrane(start) >= theta
            if latched and above:
                break
            latched = False
            due = above and not searched
            searched = True
            t = start if due else neuron.crossing(start, end, theta)
            if t is None:
                break
            taken = due or _bin(t, grid) <= last_bin
            if taken and grid.rule == "study":
                latched = True
                break
            bin = last_bin + 1 if taken else _bin(t, grid)
            if bin * grid.dt > t_max * (1 + 1e-9):
                return spikes, False
            if len(spikes) == n_keep:
                return spikes, n_keep > 1
            spikes.append((bin * grid.dt, t, np.inf if due else neuron.slope(t), due))
            last_bin, start = bin, t
            if grid.rule == "study":
                neuron.resets.append(t)
            else:
                neuron.resets.append(bin * grid.dt)
                start = free = max(bin * grid.dt, t)
                searched = False
    return spikes, False


def forward_layer(times, counts, layer, grid, t_max=np.inf):
    """times [B, Nin, Kin], counts [B, Nin]; layer: bats.reference.Layer; grid: TimeGrid with dt > 0 -> GridSpikes."""
    shape = (len(times), len(layer.weights), layer.max_n_spike)
    trains = (np.full(shape, value) for value in (np.inf, np.inf, 0.0, False))
    found = GridSpikes(*trains, np.zeros(shape[:2], int), np.zeros(shape[:2], bool))
    for s, i in np.ndindex(shape[:2]):
        on = np.arange(times.shape[2]) < counts[s][:, None]
        w = np.broadcast_to(layer.weights[i][:, None], on.shape)[on]
        neuron = Neuron(w, times[s][on], layer.tau_s, layer.delta_theta, [])
        spikes, found.overflow[s, i] = _spikes_of(neuron, layer.theta, grid, layer.max_n_spike, t_max)
        found.counts[s, i] = len(spikes)
        for k, spike in enumerate(spikes):
            found.times[s, i, k], found.crossings[s, i, k], found.slopes[s, i, k], found.due[s, i, k] = spike
    return found


def backward_layer(errors, spikes, pre_times, pre_counts, layer, grid):
    """Exact gradient with rounding as identity: batch mean dL/dw [Nout, Nin], dL/dt of the pre-spikes [B, Nin, Kin]."""
    tau_s, tau, reset = layer.tau_s, 2 * layer.tau_s, layer.delta_theta / (2 * layer.tau_s)
    gradient, pre_errors = np.zeros_like(layer.weights), np.zeros(np.shape(pre_times))
    reset_times = spikes.crossings if grid.rule == "study" else spikes.times
    for s, i in np.ndindex(spikes.counts.shape):
        n, on = spikes.counts[s, i], np.arange(pre_times.shape[2]) < pre_counts[s][:, None]
        delta = np.where(np.arange(errors.shape[2]) < n, errors[s, i], 0.0)
        for k in reversed(range(n)):
            if spikes.due[s, i, k]:
                delta[k - 1] += delta[k]
                continue
            t, z = spikes.crossings[s, i, k], spikes.slopes[s, i, k]
            delta[:k] += delta[k] * reset / z * np.exp(-(t - reset_times[s, i, :k]) / tau)
            age = np.where(on & (pre_times[s] < t), t - pre_times[s], np.inf)
            gradient[i] -= delta[k] / z * (tau * (np.exp(-age / tau) - np.exp(-age / tau_s))).sum(axis=1)
            pre_errors[s] += delta[k] / z * layer.weights[i][:, None] * (2 * np.exp(-age / tau_s) - np.exp(-age / tau))
    return gradient / len(pre_times), pre_errors
