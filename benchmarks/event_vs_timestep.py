"""Event-based and time-stepped models side by side: 784-800-10 on MNIST, trained here, one table.

    python benchmarks/event_vs_timestep.py --device cuda --out results/event_vs_timestep

"count" and "ttfs" are the event-based models of experiments/mnist, with exact gradients; "standard" and "fast" are those of
experiments/fastsnn with 800 hidden neurons and 100 time steps, with surrogate gradients. All train --epochs epochs in batches of
--batch; learning rates are those of the experiments. Time per step is that of training, the median over one epoch; memory is
what a run holds on the device beside the images (on the CPU: by how much the process grew). Writes OUT.json and OUT.md.
"""

import argparse
import gc
import statistics
from dataclasses import replace
from pathlib import Path

import environment
import model_fastsnn
import models
import numpy as np
from clock import Clock
from jobs import epoch

import bats
from bats.data import load_mnist
from bats.sources import LatencyImages
from bats.step import Step
from bats.timestep import LatencyBins, MaxMembraneCrossEntropy
from bats.training.atomic import write_text
from bats.training.evaluation import evaluate_step

EVENT_BASED = {"count": models.COUNT, "ttfs": models.TTFS}
TITLES = {
    "count": "event-based, spike count", "ttfs": "event-based, first spike",
    "standard": "time steps, standard LIF", "fast": "time steps, single spike",
}  # fmt: skip


def make(name, data, device):
    """(network, loss, optimizer, learning rate's factor per epoch, duration, training source, test source)."""
    parts = ((data.x_train, data.y_train), (data.x_test, data.y_test))
    if name in EVENT_BASED:
        model = EVENT_BASED[name]
        sources = [LatencyImages(*part) for part in parts]
        network = model.network(device, "float32", seed=0)
        return network, model.make_loss(), bats.AdamOptimizer(model.learning_rate), model.learning_rate_factor, model.t_max, *sources
    settings = replace(model_fastsnn.DATASETS["mnist"], n_hidden=800)
    sources = [LatencyBins(*part) for part in parts]
    network = model_fastsnn.make_network(sources[0], name, settings, device=device, seed=0)
    optimizer = bats.AdamOptimizer(settings.learning_rate)
    return network, MaxMembraneCrossEntropy(), optimizer, 1.0, settings.duration, *sources


def measure(name, data, device, options):
    gc.collect()  # networks of earlier rows hold each other in cycles
    network, loss, optimizer, factor, duration, train, test = make(name, data, device)
    clock = Clock(network)
    train, test = train.to(device, "float32"), test.to(device, "float32")
    before = clock.memory()
    step = Step(network, loss, train, options.batch, duration, optimizer)
    for number in range(options.epochs):
        epoch(step, number)
        optimizer.learning_rate *= factor
    memory = None if before is None else (clock.memory() - before) / 1e6
    metrics = evaluate_step(Step(network, loss, test, options.batch, duration), options.batch)
    step.start(np.random.Generator(np.random.Philox(99)).permutation(len(train)))
    times = [clock.time(step.train_next) for _ in range(len(train) // options.batch)]
    spikes = {layer: figures["spikes_per_sample"] for layer, figures in metrics["layers"].items()}
    return {
        "model": name, "epochs": options.epochs, "batch": options.batch, "test_accuracy_percent": 100 * metrics["accuracy"],
        "spikes_per_sample": spikes, "ms_per_step": statistics.median(times), "memory_mb": memory,
    }  # fmt: skip


def table(record):
    """Markdown."""
    rows, environment_ = record["rows"], record["environment"]
    lines = [
        f"`{record['command']}`, {record['date']}, {environment_.get('gpu', environment_['cpu'])}. {record['data']}, 784-800-10, "
        f"{rows[0]['epochs']} epochs, batch {rows[0]['batch']}, float32, one seed.",
        "",
        "| model | test accuracy | spikes per sample, hidden | output | ms per step | memory beside the images |",
        "|---|---|---|---|---|---|",
    ]
    for row in rows:
        hidden, output = row["spikes_per_sample"].values()
        output = f"{output:.1f}" if row["model"] in EVENT_BASED else "none (membrane)"
        memory = "-" if row["memory_mb"] is None else f"{row['memory_mb']:.0f} MB"
        lines.append(
            f"| {TITLES[row['model']]} | {row['test_accuracy_percent']:.2f} % | {hidden:.1f} | {output} | "
            f"{row['ms_per_step']:.3f} | {memory} |"
        )
    return "\n".join(lines) + "\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda"))
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--batch", type=int, default=50)
    parser.add_argument("--max-train", type=int, help="train on the first N images only")
    parser.add_argument("--data", help="an .npz file or folder; default: where bats.data.load_mnist looks")
    parser.add_argument("--out", help="name of the results, without .json and .md")
    options = parser.parse_args()
    device = bats.device.resolve(options.device)
    data = load_mnist(options.data)
    if options.max_train:
        data = replace(data, x_train=data.x_train[: options.max_train], y_train=data.y_train[: options.max_train])
    rows = []
    for name in TITLES:
        rows.append(measure(name, data, device, options))
        print(f"{name:9s} {rows[-1]['test_accuracy_percent']:.2f} %  {rows[-1]['ms_per_step']:.3f} ms per step", flush=True)
    images = f"{data.name}: {len(data.x_train)} training, {len(data.x_test)} test images"
    record = environment.record(device=device, dtype="float32", data=images, rows=rows)
    print(table(record))
    if options.out:
        environment.write(f"{options.out}.json", record)
        write_text(Path(f"{options.out}.md"), table(record))


if __name__ == "__main__":
    main()
