"""One layer in time steps on its own: its input, its forward and its backward pass, and how long each takes.

The protocol is that of FastSNN (arXiv 2205.15286): per sample a rate from U(0, 200) spikes per neuron and window, entries
Poisson(rate / T) clipped to 1; beta 0.9; weights U(-1, 1) / sqrt(n_in), bias 0; loss: the mean of all output spikes, so that
dL/dS is the same everywhere; it is there before the clock starts, as are the inputs. As a Step does, CUDA launches are captured
in a graph and replayed; times are those of device events (CUDA) or of a wall clock (CPU).
"""

import math
import time

import environment  # noqa: F401
import numpy as np
from step_loop import StepLoop

import bats
from bats.graphs import GraphCache
from bats.timestep import FastLIFLayer, StandardLIFLayer, SteppedInputLayer, Waves

BETA = 0.9
DT = 0.001
TAU = -DT / math.log(BETA)
LAYERS = {"standard": StandardLIFLayer, "fast": FastLIFLayer}


def poisson_waves(xp, n_in, n_steps, batch, dtype="float32", seed=0):
    """[batch, n_steps, n_in] of zeros and ones."""
    xp.random.seed(seed)
    rates = xp.random.uniform(0, 200, batch)
    waves = xp.empty((batch, n_steps, n_in), dtype=dtype)
    for b in range(batch):  # P(Poisson(r) > 0) = 1 - e^(-r)
        waves[b] = xp.random.random_sample((n_steps, n_in)) < 1 - xp.exp(-rates[b] / n_steps)
    return waves


def numbers(xp, n_in, n_steps, batch, dtype="float32", seed=0):
    """[batch, n_steps, n_in] from a normal distribution: inputs that are no small integers."""
    xp.random.seed(seed)
    waves = xp.empty((batch, n_steps, n_in), dtype=dtype)
    for b in range(batch):
        waves[b] = 0.3 * xp.random.standard_normal((n_steps, n_in))
    return waves


class LayerPass:
    """Forward and backward pass of a bats layer on waves, as calls without arguments. spikes: whether they are 0 or 1."""

    def __init__(self, kind, waves, n, device, spikes=True, tf32=False):
        batch, n_steps, n_in = waves.shape
        network = bats.Network(device=device, dtype=str(waves.dtype), seed=0)
        network.add_layer(SteppedInputLayer(n_in, n_steps), input=True)
        self.layer = network.add_layer(LAYERS[kind](None, n, TAU, DT, tf32=tf32))
        self.layer.allocate(batch)
        self.layer.use(batch)
        self.waves, self.error = Waves(waves, small_integers=spikes), 1 / (batch * n_steps * n)
        self._graphs = GraphCache() if device == "cuda" else None

    def _run(self, key, launch):
        if self._graphs is None:
            launch()
        else:
            self._graphs.run(key, launch, self.layer.generation)

    def forward(self):
        self._run("forward", lambda: self.layer.forward(self.waves))

    def prepare_backward(self):
        """dL/dS, which a backward pass replaces."""
        self.layer.errors.fill(self.error)

    def backward(self):
        self._run("backward", lambda: self.layer.backward(self.layer.errors, self.waves))


class LoopPass:
    """The same of the step-by-step loop, on the same numbers."""

    def __init__(self, waves, n, device):
        xp = bats.device.array_module(device)
        batch, n_steps, n_in = waves.shape
        rng = np.random.default_rng(0)
        weights = xp.asarray(rng.uniform(-1, 1, (n_in, n)) / math.sqrt(n_in), dtype=waves.dtype)
        self.loop = StepLoop(xp, weights, xp.zeros(n, dtype=waves.dtype), BETA)
        self.inputs = xp.ascontiguousarray(waves.transpose(1, 0, 2))
        self.errors = xp.full((n_steps, batch, n), 1 / (batch * n_steps * n), dtype=waves.dtype)

    def forward(self):
        self.loop.forward(self.inputs)

    def prepare_backward(self):
        pass

    def backward(self):
        self.loop.backward(self.errors)


def milliseconds(call, device):
    """Of one call."""
    xp = bats.device.array_module(device)
    if device == "cpu":
        start = time.perf_counter()
        call()
        return 1e3 * (time.perf_counter() - start)
    begin, end = xp.cuda.Event(), xp.cuda.Event()
    xp.cuda.Device().synchronize()
    begin.record()
    call()
    end.record()
    end.synchronize()
    return xp.cuda.get_elapsed_time(begin, end)


def measure(passes, device, repeats, warm_up=3):
    """(forward, backward): lists of `repeats` times in ms, after `warm_up` runs (compiled, captured, replayed)."""
    forward, backward = [], []
    for _ in range(warm_up + repeats):
        forward.append(milliseconds(passes.forward, device))
        passes.prepare_backward()
        backward.append(milliseconds(passes.backward, device))
    return forward[warm_up:], backward[warm_up:]
