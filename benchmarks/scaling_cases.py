"""The networks and data of scaling.py: made for one point of a sweep, with an estimate of the memory before anything is allocated."""

from dataclasses import dataclass

import numpy as np

import bats
from bats.initializers import normal
from bats.sources import SpikeSamples

T_MAX, TAU_S = 0.2, 0.13  # seconds, as in the MNIST count job
N_OUT = 10
DEFAULTS = {"hidden": 800, "batch": 64, "events": 140, "inputs": 784}  # of a sample of MNIST


@dataclass(frozen=True)
class Case:
    """hidden neurons, batch, input events per sample on `inputs` input neurons."""

    hidden: int = DEFAULTS["hidden"]
    batch: int = DEFAULTS["batch"]
    events: int = DEFAULTS["events"]
    inputs: int = DEFAULTS["inputs"]

    @property
    def slots(self):
        """Spikes per input neuron."""
        return max(1, -(-self.events // self.inputs))

    @property
    def samples(self):
        """Of the data set: two batches, within 1 GB."""
        size = self.inputs * self.slots * 4
        return max(self.batch, min(2 * self.batch, 2**30 // size))

    def estimate(self, fused):
        """Bytes, roughly: the data, the weights with gradient, moments and delta, and the rooms of a step."""
        weights = 5 * 4 * self.hidden * (self.inputs + N_OUT)
        data = self.samples * self.inputs * (4 * self.slots + 4)
        if fused:
            return weights + data + self.samples * self.events * 8 * 3 + 2**28
        rooms = self.batch * (self.hidden + N_OUT) * MAX_N_SPIKE * 24
        return weights + data + rooms + self.batch * self.inputs * self.slots * 20


MAX_N_SPIKE = 30


def source(case, seed=0):
    """Random spike trains: `events` spikes per sample, uniform in the first half of the simulation."""
    rng, n, slots = np.random.default_rng(seed), case.samples, case.slots
    counts = np.zeros((n, case.inputs), dtype=np.int32)
    whole, rest = divmod(case.events, case.inputs)
    counts += whole
    for row in counts:
        row[rng.permutation(case.inputs)[:rest]] += 1
    times = np.sort(rng.uniform(0, T_MAX / 2, (n, case.inputs, slots)).astype(np.float32), axis=2)
    times[np.arange(slots) >= counts[:, :, None]] = np.inf
    return SpikeSamples(times, counts, rng.integers(0, N_OUT, n), N_OUT)


def network(case, device, dtype):
    """The count job's thresholds; weights scaled such that the drive of a neuron, and with it its spikes, stays what it is there,
    whatever the number of its inputs: a spread of 0.58 for 140 events, and of 0.58 for 800 hidden neurons."""
    spread = 0.58 * np.sqrt(DEFAULTS["events"] / case.events)
    output_spread = 0.58 * np.sqrt(DEFAULTS["hidden"] / case.hidden)
    made = bats.Network(device=device, dtype=dtype, seed=0)
    made.add_layer(bats.InputLayer(case.inputs, "input"))
    for name, n, theta, weights in (("hidden", case.hidden, 0.2, normal(0, spread)), ("output", N_OUT, 1.3, normal(0, output_spread))):
        made.add_layer(bats.LIFLayer(None, n, TAU_S, theta, theta, weights, max_n_spike=MAX_N_SPIKE, name=name))
    return made


def sweeps(quick, device):
    """{name: (field of Case, [Case])}. quick: small sizes, for the CPU."""
    powers = {
        "neurons": ("hidden", (100, 1000, 10_000) if quick else (100, 316, 1000, 3162, 10_000, 31_623, 100_000)),
        "batch": ("batch", (1, 8, 64) if quick else (1, 4, 16, 64, 256, 1024, 4096, 16_384)),
        "events": ("events", (10, 100, 1000) if quick else (10, 100, 1000, 10_000, 100_000, 1_000_000)),
    }  # fmt: skip
    small = {"hidden": 200} if quick else {}
    fixed = {"neurons": {"batch": 16 if quick else 64}, "batch": small, "events": {"batch": 4 if quick else 16, "hidden": 128}}
    return {name: (field, [Case(**{**fixed[name], field: value}) for value in values]) for name, (field, values) in powers.items()}
