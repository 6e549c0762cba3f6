"""What the time discretization study trains and tests: a network whose input and layers share a time grid (docs/time_discretization.md)."""

import argparse
import csv
import importlib.util
import io
import sys
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "mnist"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "fashion_mnist"))
if importlib.util.find_spec("bats") is None:  # a bare checkout, nothing installed
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from model_fashion import FASHION
from models import COUNT, T_INPUT

import bats
from bats.data import load_image_data
from bats.device import resolve, to_numpy
from bats.discretization import ROUNDINGS, RULES
from bats.sources import LatencyImages
from bats.step import Step
from bats.training import StepSchedule, command_line
from bats.training.atomic import write_text
from bats.training.batches import epoch_permutation

LATENCY_TIMES = (20, 30, 50, 80, 100, 130, 150, 180, 200)  # ms
TARGET_TRUE = 15  # spikes of the label's neuron that the losses ask for
SETS = {"mnist": ("mnist", COUNT), "emnist": ("emnist", COUNT), "fashion": ("fashion_mnist", FASHION)}
TEST_BATCH = 500
KEY = ("rule", "rounding", "dt_ms", "seed", "epochs", "n_train")  # what tells the runs of a data set apart


class Laboratory:
    """One data set in this process, and the networks that are trained and tested on it."""

    def __init__(self, options):
        name, self.model = SETS[options.dataset]
        self.options, self.device = options, resolve(options.device)
        self.data = load_image_data(name, options.data)
        self.n_train = min(options.max_train or len(self.data.x_train), len(self.data.x_train))
        self._sources = {}
        # without it, a seed in two loses an output neuron on Fashion-MNIST, which would hide what dt does (docs/silent_neurons.md)
        self.further = {"regularizer": bats.SpikeRateRegularizer()} if options.dataset == "fashion" else {}

    def grid(self, dt_ms, rule=None):
        return bats.TimeGrid(dt_ms * 1e-3, self.options.rounding, rule or self.options.rule)

    def sources(self, dt_ms):
        """Training and test samples at a step, on the device."""
        if dt_ms not in self._sources:
            data, end, grid = self.data, self.n_train, self.grid(dt_ms)
            parts = (data.x_train[:end], data.y_train[:end]), (data.x_test, data.y_test)
            made = (LatencyImages(*part, T_INPUT, data.n_classes, grid=grid) for part in parts)
            self._sources[dt_ms] = tuple(source.to(self.device, "float32") for source in made)
        return self._sources[dt_ms]

    def network(self, dt_ms, seed):
        return self.model.network(self.device, "float32", seed, n_classes=self.data.n_classes, grid=self.grid(dt_ms), **self.further)

    def train(self, dt_ms, seed, advance):
        """A network trained at a step, and the seconds it took; advance(n) is told of every n samples."""
        model, network, optimizer = self.model, self.network(dt_ms, seed), bats.AdamOptimizer(self.model.learning_rate)
        source, _ = self.sources(dt_ms)
        step = Step(network, model.make_loss(), source, model.batch_size, model.t_max, optimizer)
        schedule = model.schedule() if hasattr(model, "schedule") else StepSchedule(model.learning_rate_factor, 1)
        start, done = time.perf_counter(), 0
        for epoch in range(self.options.epochs):
            optimizer.learning_rate = schedule.learning_rate(model.learning_rate, epoch)
            step.start(epoch_permutation(seed, epoch, self.n_train))
            while n := step.train_next():
                done += n
                if done >= 1000:
                    advance(done)
                    done = 0
        advance(done)
        step.metrics()  # waits for the device
        return network, time.perf_counter() - start

    def test(self, network, dt_ms):
        """Figures of a network on the test set, as columns of a CSV."""
        _, source = self.sources(dt_ms)
        step = Step(network, self.model.make_loss(), source, TEST_BATCH, self.model.t_max)
        labels, spikes_up_to = to_numpy(source.labels), np.zeros(len(LATENCY_TIMES))
        step.reset_metrics()
        step.start(np.arange(len(source)))
        first = 0
        while n := step.evaluate_next():
            times = to_numpy(network.layers[-1].trains[0])[np.arange(n), :, labels[first : first + n]]  # of the labels' neurons
            spikes_up_to += [(times <= 1e-3 * t * (1 + 1e-6)).sum() for t in LATENCY_TIMES]
            first += n
        metrics = step.metrics()
        figures = {name: 100 * metrics[name] for name in ("accuracy", "silent_labels")}
        row = {f"{name}_percent": round(value, 4) for name, value in figures.items()}
        row["loss"] = round(metrics["loss"], 5)
        for name, layer in metrics["layers"].items():
            row[f"spikes_{name}"] = round(layer["spikes_per_sample"], 3)
            row[f"silent_percent_{name}"] = round(100 * layer["silent_neurons"], 3)
            row[f"overflow_{name}"] = layer["overflow"]
        shares = spikes_up_to / len(source) / TARGET_TRUE
        return {**row, **{f"latency_{t}_ms": round(float(share), 5) for t, share in zip(LATENCY_TIMES, shares, strict=True)}}

    def weights_folder(self, dt_ms, seed):
        options = self.options
        run = (options.dataset, options.rule, options.rounding, f"{dt_ms:g}ms", seed, options.epochs, self.n_train)
        return options.out / "weights" / "_".join(map(str, run))


def read_rows(path):
    """Rows of a CSV as dictionaries of texts; none if there is no such file."""
    if not path.is_file():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def write_rows(path, rows):
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, text.getvalue())


def key_of(row):
    return tuple(str(row[name]) for name in KEY)


def parse(description, argv=None):
    """The options that sweep.py and cross.py share; .out is the folder of the study."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--dataset", choices=tuple(SETS), default="mnist", help="(default %(default)s)")
    add("--dts", type=float, nargs="+", default=[0, 0.5, 1, 2, 3, 5, 7, 8, 10, 12, 15], metavar="MS", help="steps; 0: continuous time")
    add("--seeds", type=int, nargs="+", default=[0, 1, 2], metavar="N")
    add("--epochs", type=int, default=10, help="(default %(default)s)")
    add("--rule", choices=RULES, default="clean", help="(default %(default)s)")
    add("--rounding", choices=ROUNDINGS, default="next", help="(default %(default)s)")
    add("--device", choices=("auto", "cpu", "cuda"), default="auto")
    add("--data", metavar="PATH", help="folder or file with the data set (default: BATS_DATA, datasets/, the user cache)")
    add("--max-train", type=int, metavar="N", help="train on the first N samples only")
    add("--out", metavar="FOLDER", help="results root (default: results/ of the checkout, or ./results)")
    add("--at-once", type=command_line.integer(1), metavar="N", help="runs at the same time on CUDA (default: 6 for fashion, else 2)")
    add("--no-progress", action="store_true", help="no progress bar")
    options = parser.parse_args(argv)
    if min(options.dts) < 0 or options.epochs < 1 or min(options.seeds) < 0:
        parser.error("expected --dts >= 0, --seeds >= 0 and --epochs >= 1")
    options.out = command_line.results_root(options.out) / "time_discretization"
    return options
