"""Microseconds of each kernel of the fused step with several hidden layers, at trained weights, and of whole steps.

Method: the network is trained for --warm-up steps. Steps are then timed one by one (device events, median) and --steps of them back
to back. Then one batch is taken and every kernel is launched 20 times in a CUDA graph, so that what is timed is its own time and
not that of Python; the weights are not changed (learning rate 0).

    python benchmarks/deep_kernels.py --data fashion_mnist.npz --batches 5 50 256 --out results/deep_kernels_cuda.json
"""

import argparse
import statistics

import environment
import numpy as np
from training import JOBS

import bats
from bats.data import load_mnist
from bats.graphs import GraphCache
from bats.sources import LatencyImages
from bats.step import Step

COPIES = 20


def elapsed(xp, call):
    """Microseconds of a call on the device."""
    begin, end = xp.cuda.Event(), xp.cuda.Event()
    begin.record()
    call()
    end.record()
    end.synchronize()
    return 1e3 * xp.cuda.get_elapsed_time(begin, end)


def graph_microseconds(xp, launch):
    """Time of one of COPIES launches in a graph, the median of 15 replays."""
    launch()
    graph = GraphCache._capture(lambda: [launch() for _ in range(COPIES)])
    return statistics.median([elapsed(xp, graph.launch) / COPIES for _ in range(20)][5:])


def measure(job, batch, data, warm_up, steps, dtype):
    model = JOBS[job]
    network, xp = model.network("cuda", dtype, seed=0), bats.device.array_module("cuda")
    source = LatencyImages(data.x_train, data.y_train)
    optimizer = bats.AdamOptimizer(model.learning_rate)
    step = Step(network, model.make_loss(), source, batch, model.t_max, optimizer, fused=True)
    order = np.random.Generator(np.random.Philox(1)).permutation(len(step.source))
    step.start(np.resize(order, batch * (warm_up + 2 * steps + 10 * COPIES)))
    for _ in range(warm_up):
        step.train_next()
    step.metrics()
    step.reset_metrics()
    alone = [elapsed(xp, step.train_next) for _ in range(steps)]
    together = elapsed(xp, lambda: [step.train_next() for _ in range(steps)]) / steps
    spikes = {name: layer["spikes_per_sample"] for name, layer in step.metrics()["layers"].items()}
    optimizer.learning_rate = 0
    fused = step._fused
    part = slice(0, min(batch, fused.at_once))
    loss, predictions = step._loss, step._predictions
    row = {
        "job": job, "batch": batch, "samples_at_once": part.stop, "spikes_per_sample": spikes, "steps": steps,
        "step_us": statistics.median(alone), "step_us_p90": statistics.quantiles(alone, n=10)[-1], "step_back_to_back_us": together,
    }  # fmt: skip
    for name, launch in fused.part_kernels(part, batch, True, step._cursor, loss, predictions, step._totals):
        row[f"{name} us"] = graph_microseconds(xp, launch)
        step._cursor.fill(0)  # the first backward kernel moves it on
    return row


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dtype", default="float32", choices=("float32", "float64"))
    parser.add_argument("--jobs", nargs="+", default=["fashion"], choices=list(JOBS))
    parser.add_argument("--batches", nargs="+", type=int, default=[5])
    parser.add_argument("--warm-up", type=int, default=300)
    parser.add_argument("--steps", type=int, default=200, help="steps timed (default: %(default)s)")
    parser.add_argument("--data", help="an .npz file or folder; default: where bats.data.load_mnist looks")
    parser.add_argument("--out", help="JSON file for the results")
    options = parser.parse_args()
    data = load_mnist(options.data)
    rows = []
    for job in options.jobs:
        for batch in options.batches:
            rows.append(measure(job, batch, data, options.warm_up, options.steps, options.dtype))
            shown = {name: value for name, value in rows[-1].items() if name != "spikes_per_sample"}
            print("  ".join(f"{name} {value:.1f}" if isinstance(value, float) else f"{name} {value}" for name, value in shown.items()))
    if options.out:
        environment.write(options.out, environment.record(dtype=options.dtype, copies=COPIES, rows=rows))


if __name__ == "__main__":
    main()
