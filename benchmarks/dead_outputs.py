"""Does the spike-rate regularizer keep every output neuron alive? Fashion-MNIST, 784-400-400-10, over seeds, with and without it.

An output neuron is dead if it fires in no image of the test set: then its class is never predicted. Every seed is trained with
the remedy for --epochs, and without for --control-epochs; the test set is looked at after every epoch and selects nothing. On
CUDA the runs go on at the same time, each in a stream of its own: steps of batch 5 leave most of a GPU idle.

    python benchmarks/dead_outputs.py --device cuda --seeds 0 1 2 3 4 --out results/dead_outputs_cuda.json
"""

import argparse
import itertools
import statistics
import time
from concurrent.futures import ThreadPoolExecutor

import environment
import numpy as np
from model_fashion import FASHION
from tqdm import tqdm

import bats
from bats.data import load_fashion_mnist
from bats.device import stream_of_its_own, to_numpy
from bats.sources import LatencyImages
from bats.step import Step
from bats.training.batches import epoch_permutation

TEST_BATCH = 500


def evaluate(step):
    """(accuracy in percent, number of output neurons that never fired) over the source of `step`."""
    network = step.network
    step.reset_metrics()
    step.start(np.arange(len(step.source)))
    fired = network.xp.zeros(network.layers[-1].n_neurons, dtype=bool)
    while step.evaluate_next():
        fired |= network.output_spike_trains[1].any(axis=0)
    return 100 * step.metrics()["accuracy"], int((~to_numpy(fired)).sum())


def train(data, seed, epochs, strength, device, bar):
    """One run -> a row of the record."""
    with stream_of_its_own(device):
        return _train(data, seed, epochs, strength, device, bar)


def _train(data, seed, epochs, strength, device, bar):
    regularizer = bats.SpikeRateRegularizer(strength=strength) if strength else None
    network = FASHION.network(device, "float32", seed, regularizer=regularizer)
    loss, optimizer = FASHION.make_loss(), bats.AdamOptimizer(FASHION.learning_rate)
    source, test = (LatencyImages(x, y, FASHION.t_input) for x, y in ((data.x_train, data.y_train), (data.x_test, data.y_test)))
    step = Step(network, loss, source, FASHION.batch_size, FASHION.t_max, optimizer)
    judge = Step(network, loss, test, TEST_BATCH, FASHION.t_max)
    row = {"seed": seed, "strength": strength, "test_accuracy_percent": [], "dead_outputs": [], "seconds": []}
    for epoch in range(epochs):
        optimizer.learning_rate = FASHION.schedule().learning_rate(FASHION.learning_rate, epoch)
        start = time.perf_counter()
        step.start(epoch_permutation(seed, epoch, len(source)))
        while step.train_next():
            pass
        accuracy, dead = evaluate(judge)
        row["seconds"].append(round(time.perf_counter() - start, 3))
        row["test_accuracy_percent"].append(accuracy)
        row["dead_outputs"].append(dead)
        bar.set_postfix(seed=seed, strength=strength, accuracy=f"{accuracy:.2f} %", dead=dead)
        bar.update()
    return row


def summarise(rows):
    final = [row["test_accuracy_percent"][-1] for row in rows]
    return {
        "seeds": len(final),
        "epochs": len(rows[0]["test_accuracy_percent"]),
        "mean_accuracy_percent": statistics.mean(final),
        "standard_deviation": statistics.stdev(final) if len(final) > 1 else 0.0,
        "seeds_with_a_dead_output": sum(row["dead_outputs"][-1] > 0 for row in rows),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda"))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2, 3, 4])
    parser.add_argument("--epochs", type=int, default=10, help="with the remedy (default %(default)s)")
    parser.add_argument("--control-epochs", type=int, default=2, help="without it (default %(default)s)")
    parser.add_argument("--strengths", nargs="+", type=float, default=[1e-7], help="of the regularizer (default %(default)s)")
    parser.add_argument("--at-once", type=int, default=5, help="runs at the same time on CUDA (default %(default)s)")
    parser.add_argument("--data", help="an .npz file or folder; default: where bats.data.load_fashion_mnist looks")
    parser.add_argument("--no-progress", action="store_true")
    parser.add_argument("--out", help="JSON file for the results")
    options = parser.parse_args()
    device = bats.device.resolve(options.device)
    data = load_fashion_mnist(options.data)
    kinds = [(strength, options.epochs) for strength in options.strengths] + [(0.0, options.control_epochs)]
    runs = [(seed, epochs, strength) for seed, (strength, epochs) in itertools.product(options.seeds, kinds) if epochs]
    with (
        tqdm(total=sum(epochs for _, epochs, _ in runs), unit="epoch", disable=options.no_progress) as bar,
        ThreadPoolExecutor(options.at_once if device == "cuda" else 1) as pool,
    ):
        rows = list(pool.map(lambda run: train(data, *run, device, bar), runs))
    for row in rows:
        shown = " ".join(f"{value:.2f}" for value in row["test_accuracy_percent"])
        print(f"seed {row['seed']} strength {row['strength']:g}: {shown} % | dead outputs {row['dead_outputs']}")
    summary = {strength: summarise([row for row in rows if row["strength"] == strength]) for strength, epochs in kinds if epochs}
    for strength, figures in summary.items():
        print(f"strength {strength:g}: {figures}")
    if options.out:
        images = f"{data.name}: {len(data.x_train)} training images"
        environment.write(options.out, environment.record(device=device, data=images, summary=summary, rows=rows))


if __name__ == "__main__":
    main()
