"""Does the spike-rate regularizer keep every output neuron alive? Fashion-MNIST, 784-400-400-10, over seeds, with and without it.

An output neuron is dead if it fires in no image of the test set: then its class is never predicted. Every seed is trained with
the remedy for --epochs, and without for --control-epochs; the test set is looked at after every epoch and selects nothing.

    python benchmarks/dead_outputs.py --device cuda --seeds 0 1 2 3 4 --out results/dead_outputs_cuda.json
"""

import argparse
import statistics
import time

import environment
import numpy as np
from model_fashion import FASHION
from tqdm import tqdm

import bats
from bats.data import load_fashion_mnist
from bats.device import to_numpy
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
    regularizer = bats.SpikeRateRegularizer(strength=strength) if strength else None
    network = FASHION.network(device, "float32", seed, regularizer=regularizer)
    loss, optimizer = FASHION.make_loss(), bats.AdamOptimizer(FASHION.learning_rate)
    source, test = (LatencyImages(x, y, FASHION.t_input) for x, y in ((data.x_train, data.y_train), (data.x_test, data.y_test)))
    step = Step(network, loss, source, FASHION.batch_size, FASHION.t_max, optimizer)
    judge = Step(network, loss, test, TEST_BATCH, FASHION.t_max)
    row = {"seed": seed, "strength": strength, "test_accuracy_percent": [], "dead_outputs": [], "train_seconds": []}
    for epoch in range(epochs):
        optimizer.learning_rate = FASHION.schedule().learning_rate(FASHION.learning_rate, epoch)
        start = time.perf_counter()
        step.start(epoch_permutation(seed, epoch, len(source)))
        while step.train_next():
            pass
        step.metrics()  # waits for the device
        row["train_seconds"].append(round(time.perf_counter() - start, 3))
        accuracy, dead = evaluate(judge)
        row["test_accuracy_percent"].append(accuracy)
        row["dead_outputs"].append(dead)
        bar.set_postfix(seed=seed, strength=strength, accuracy=f"{accuracy:.2f} %", dead=dead)
        bar.update()
    return row


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda"))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2, 3, 4])
    parser.add_argument("--epochs", type=int, default=10, help="with the remedy (default %(default)s)")
    parser.add_argument("--control-epochs", type=int, default=2, help="without it (default %(default)s)")
    parser.add_argument("--strength", type=float, default=1e-4, help="of the regularizer (default %(default)s)")
    parser.add_argument("--data", help="an .npz file or folder; default: where bats.data.load_fashion_mnist looks")
    parser.add_argument("--no-progress", action="store_true")
    parser.add_argument("--out", help="JSON file for the results")
    options = parser.parse_args()
    device = bats.device.resolve(options.device)
    data = load_fashion_mnist(options.data)
    rows = []
    n_epochs = len(options.seeds) * (options.epochs + options.control_epochs)
    with tqdm(total=n_epochs, unit="epoch", disable=options.no_progress) as bar:
        for seed in options.seeds:
            for strength, epochs in ((0.0, options.control_epochs), (options.strength, options.epochs)):
                if epochs:
                    rows.append(train(data, seed, epochs, strength, device, bar))
                    last = rows[-1]
                    shown = " ".join(f"{value:.2f}" for value in last["test_accuracy_percent"])
                    tqdm.write(f"seed {seed} strength {strength:g}: {shown} % | dead outputs {last['dead_outputs']}")
    final = [row["test_accuracy_percent"][-1] for row in rows if row["strength"]]
    summary = {"seeds": len(final)}
    if final:
        summary["mean_accuracy_percent"] = statistics.mean(final)
        summary["standard_deviation"] = statistics.stdev(final) if len(final) > 1 else 0.0
        summary["dead_outputs_at_the_end"] = sum(row["dead_outputs"][-1] for row in rows if row["strength"])
        print(summary)
    if options.out:
        images = f"{data.name}: {len(data.x_train)} training images"
        environment.write(options.out, environment.record(device=device, data=images, summary=summary, rows=rows))


if __name__ == "__main__":
    main()
