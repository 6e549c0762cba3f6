"""The four jobs that benchmarks time: their models, data, batch sizes, and a step that is at work."""

import environment  # noqa: F401 - makes the experiments importable
import models
import models_conv
import numpy as np
from model_fashion import FASHION

import bats
from bats.data import load_fashion_mnist, load_mnist
from bats.sources import LatencyImages
from bats.step import Step

JOBS = {"count": models.COUNT, "ttfs": models.TTFS, "conv": models_conv.CONV, "fashion": FASHION}
DENSE = (5, 50, 256, 1024, 4096)
BATCHES = {"count": DENSE, "ttfs": DENSE, "conv": (5, 20, 50, 256), "fashion": DENSE}  # on CUDA; a conv step of 1024 takes 0.1 s


def default_batches(job, device):
    """On the CPU the batch size of the experiment only: larger ones take as long per sample."""
    return BATCHES[job] if device == "cuda" else (JOBS[job].batch_size,)


def load_data(job, path=None):
    """The images of a job from an .npz file or folder, or where bats.data looks. Raises FileNotFoundError if there are none."""
    return load_fashion_mnist(path) if job == "fashion" else load_mnist(path)


def describe(data):
    return f"{data.name}: {len(data.x_train)} training images"


class Work:
    """A training step of a job and its data, fed with whole batches: epoch after epoch in one random order.

    at_once: steps that steps_in_a_row takes together; images_held: bytes in use before the step was made, as clock.memory() tells.
    """

    def __init__(self, job, batch, device, dtype, data, fused, clock, optimizer=None):
        self.model, self.batch = JOBS[job], batch
        self.network = self.model.network(device, dtype, seed=0)
        self.train = LatencyImages(data.x_train, data.y_train).to(device, dtype)
        self.test = LatencyImages(data.x_test, data.y_test).to(device, dtype)
        self.images_held = clock.memory()
        self.optimizer = optimizer or bats.AdamOptimizer(self.model.learning_rate)
        self.loss = self.model.make_loss()
        self.step = Step(self.network, self.loss, self.train, batch, self.model.t_max, self.optimizer, fused=fused)
        order = np.random.Generator(np.random.Philox(1)).permutation(len(self.train))
        self._order = np.resize(order, max(1, len(order) // batch) * batch)
        self._left = 0
        self.at_once = min(self.step.steps_at_once, len(self._order) // batch)

    def advance(self, steps=1):
        """Makes the next batches those that train_next() takes; no work on the device except at the end of the order."""
        if self._left < steps * self.batch:
            self.step.start(self._order)
            self._left = len(self._order)
        self._left -= steps * self.batch

    def train_steps(self, n):
        for _ in range(n):
            self.advance()
            self.step.train_next()

    def timed_steps(self, n, clock):
        """Milliseconds of each of n steps, each on its own on an idle device."""
        times = []
        for _ in range(n):
            self.advance()
            times.append(clock.time(self.step.train_next))
        return times

    def steps_in_a_row(self, n, clock):
        """Milliseconds of a step, n times, each the mean of step.steps_at_once that a training takes together; one follows the other
        without a wait (Clock.in_a_row)."""
        steps = self.at_once

        def some():
            self.advance(steps)
            self.step.train_next(steps=steps)

        for _ in range(3 if steps > 1 else 0):  # compiled, captured, replayed
            some()
        return [time / steps for time in clock.in_a_row(some, n)]

    def table_bytes(self):
        """Of the fused step's list of all events, the data in another form; 0 for a plain step."""
        table = getattr(getattr(self.step, "_fused", None), "table", None)
        return 0 if table is None else sum(getattr(array, "nbytes", 0) for array in vars(table).values())


def epoch(step, seed):
    """All samples once, in the order of a seed -> metrics."""
    step.reset_metrics()
    step.start(np.random.Generator(np.random.Philox(seed)).permutation(len(step.source)))
    while step.train_next(steps=step.steps_at_once):
        pass
    return step.metrics()
