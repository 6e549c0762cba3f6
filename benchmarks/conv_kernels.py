"""Microseconds of each kernel of a training step of the convolutional job, at trained weights.

Method: the network is trained for --warm-up steps; then the launches of one more step are noted, and each of them is repeated 20 times in a
CUDA graph, so that what is timed is its own time and not that of Python. A forward pass and the sort that takes its spikes are repeated
together. The weights are not changed (learning rate 0), and the step is run again before each kernel, so that each finds the arrays
as the step leaves them. Last, the whole step, as users run it.

    python benchmarks/conv_kernels.py --out results/conv_kernels_cuda.json
"""

import argparse
import statistics
from types import SimpleNamespace
from unittest import mock

import environment
import numpy as np
from fused_kernels import COPIES, graph_microseconds
from training import JOBS, Clock

import bats
from bats import kernels
from bats.data import load_mnist
from bats.fused import launch as dependent
from bats.sources import LatencyImages
from bats.step import Step


class Noted:
    """A kernel that notes its launches; what else is asked of it goes to the kernel itself."""

    def __init__(self, kernel, name, log):
        object.__setattr__(self, "_parts", SimpleNamespace(kernel=kernel, name=name, log=log))

    def __getattr__(self, attribute):
        return getattr(self._parts.kernel, attribute)

    def __setattr__(self, attribute, value):
        setattr(self._parts.kernel, attribute, value)

    def __call__(self, grid, block, arguments, shared_mem=0):
        parts = self._parts
        parts.log.append((parts.name, grid, block, lambda: parts.kernel(grid, block, arguments, shared_mem=shared_mem)))
        parts.kernel(grid, block, arguments, shared_mem=shared_mem)


def launches_of(step, batch):
    """[(layer and pass, kernel, grid, block, launch)] of one training step."""
    original, log, notes = kernels.kernel, [], []
    kernels.kernel = lambda unit, name, dtype: Noted(original(unit, name, dtype), name, log)

    def noting(method, title):
        def call(*arguments, **options):
            before = len(log)
            result = method(*arguments, **options)
            notes.extend((title, *entry) for entry in log[before:])
            return result

        return call

    layers = step.network.layers[1:]
    try:
        for layer in layers:
            layer.forward = noting(layer.forward, f"{layer.name} forward")
            if layer.trainable:
                layer.backward = noting(layer.backward, f"{layer.name} backward")
        with mock.patch.object(dependent, "EARLY", False):  # those go to the driver and cannot be noted
            step._launch(batch, training=True)
    finally:
        kernels.kernel = original
        for layer in layers:
            for name in ("forward", "backward"):
                layer.__dict__.pop(name, None)
    titles = {id(entry[-1]): entry[0] for entry in notes}
    return [(titles.get(id(entry[-1]), "step"), *entry) for entry in log]


def with_sorts(launches):
    """The same, with a sort and the forward pass before it as one: the sort takes the spikes that the pass has listed."""
    joined = []
    for title, name, grid, block, launch in launches:
        if name == "bucket_sort" and joined:
            before, earlier_name, *size, earlier = joined.pop()
            joined.append((before, f"{earlier_name}, {name}", *size, lambda a=earlier, b=launch: (a(), b())))
        else:
            joined.append((title, name, grid, block, launch))
    return joined


def measure(job, batch, data, warm_up, steps, dtype):
    model = JOBS[job]
    network = model.network("cuda", dtype, seed=0)
    optimizer = bats.AdamOptimizer(model.learning_rate)
    step = Step(network, model.make_loss(), LatencyImages(data.x_train, data.y_train), batch, model.t_max, optimizer)
    order = np.resize(np.random.Generator(np.random.Philox(1)).permutation(len(step.source)), batch * (warm_up + steps))
    step.start(order)
    for _ in range(warm_up):
        step.train_next()
    clock = Clock(network)
    whole = [1e3 * clock.time(step.train_next) for _ in range(steps)]
    optimizer.learning_rate = 0
    order = order[batch * warm_up :][: batch * 40]
    step.start(order)
    step._launch(batch, True)
    rows = []
    for place, (title, name, grid, block, launch) in enumerate(with_sorts(launches_of(step, batch))):
        step.start(order)
        step._launch(batch, True)
        step._cursor.fill(0)
        row = {"place": place, "part": title, "kernel": name, "blocks": int(np.prod(grid)), "threads": int(np.prod(block))}
        row["us"] = graph_microseconds(network.xp, launch)  # the cursor moves on through the order, which is long enough
        rows.append(row)
        print(f"{title:18s} {name:34s} {row['blocks']:6d} x {row['threads']:4d} {row['us']:8.1f}", flush=True)
    total = sum(row["us"] for row in rows)
    print(f"sum {total:.0f} us, step {statistics.median(whole):.0f} us", flush=True)
    return {"job": job, "batch": batch, "step_us": statistics.median(whole), "steps": steps, "sum_us": total, "kernels": rows}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dtype", default="float32", choices=("float32", "float64"))
    parser.add_argument("--jobs", nargs="+", default=["conv"], choices=list(JOBS))
    parser.add_argument("--batches", nargs="+", type=int, help="default: those of the experiments")
    parser.add_argument("--warm-up", type=int, default=200)
    parser.add_argument("--steps", type=int, default=200, help="steps timed as a whole (default: %(default)s)")
    parser.add_argument("--data", help="an .npz file or folder; default: where bats.data.load_mnist looks")
    parser.add_argument("--out", help="JSON file for the results")
    options = parser.parse_args()
    data = load_mnist(options.data)
    rows = []
    for job in options.jobs:
        for batch in options.batches or [JOBS[job].batch_size]:
            rows.append(measure(job, batch, data, options.warm_up, options.steps, options.dtype))
    if options.out:
        environment.write(options.out, environment.record(dtype=options.dtype, copies=COPIES, rows=rows))


if __name__ == "__main__":
    main()
