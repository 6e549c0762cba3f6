"""Microseconds of each kernel of the fused step, at trained weights.

Method: the network is trained for --warm-up steps; then one batch is taken and every kernel is launched 20 times in a CUDA graph, so that
what is timed is its own time and not that of Python. The weights are not changed (learning rate 0).

    python benchmarks/fused_kernels.py --batches 50 256 1024 --out results/fused_kernels.json
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


def graph_microseconds(xp, launch):
    """Time of one of COPIES launches in a graph, the median of 15 replays."""
    launch()
    graph = GraphCache._capture(lambda: [launch() for _ in range(COPIES)])
    times = []
    for _ in range(20):
        begin, end = xp.cuda.Event(), xp.cuda.Event()
        begin.record()
        graph.launch()
        end.record()
        end.synchronize()
        times.append(1e3 * xp.cuda.get_elapsed_time(begin, end) / COPIES)
    return statistics.median(times[5:])


def measure(job, batch, data, warm_up, dtype):
    model = JOBS[job]
    network = model.network("cuda", dtype, seed=0)
    source = LatencyImages(data.x_train, data.y_train)
    optimizer = bats.AdamOptimizer(model.learning_rate)
    step = Step(network, model.make_loss(), source, batch, model.t_max, optimizer, fused=True)
    order = np.random.Generator(np.random.Philox(1)).permutation(len(step.source))
    step.start(np.resize(order, batch * (warm_up + 1 + 2 * (COPIES + 1))))
    for _ in range(warm_up):
        step.train_next()
    optimizer.learning_rate = 0
    fused, xp = step._fused, network.xp
    part = slice(0, min(batch, fused.at_once))
    loss, predictions = step._loss[part], step._predictions[part]
    fused.launch(batch, True, step._cursor, step._loss, step._predictions, step._totals)
    kernels = {
        "hidden_forward": lambda: fused._hidden_forward(part, step._cursor),
        "output_step": lambda: fused._output_step(part, step._cursor, True, True, False, loss, predictions),
        "weight_step": lambda: fused._weight_step(part, batch, loss, predictions, step._totals),
    }
    row = {"job": job, "batch": batch, "samples_at_once": part.stop}
    for name, launch in kernels.items():
        row[f"{name}_us"] = graph_microseconds(xp, launch)
        step._cursor.fill(0)  # output_step moves it on
    return row


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dtype", default="float32", choices=("float32", "float64"))
    parser.add_argument("--jobs", nargs="+", default=["count", "ttfs"], choices=("count", "ttfs"))
    parser.add_argument("--batches", nargs="+", type=int, default=[50, 256])
    parser.add_argument("--warm-up", type=int, default=300)
    parser.add_argument("--data", help="an .npz file or folder; default: where bats.data.load_mnist looks")
    parser.add_argument("--out", help="JSON file for the results")
    options = parser.parse_args()
    data = load_mnist(options.data)
    rows = []
    for job in options.jobs:
        for batch in options.batches:
            rows.append(measure(job, batch, data, options.warm_up, options.dtype))
            print("  ".join(f"{name} {value:.1f}" if isinstance(value, float) else f"{name} {value}" for name, value in rows[-1].items()))
    if options.out:
        environment.write(options.out, environment.record(dtype=options.dtype, copies=COPIES, rows=rows))


if __name__ == "__main__":
    main()
