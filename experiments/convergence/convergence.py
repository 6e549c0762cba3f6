"""The convergence study: from which initial weights does a 4-2 network learn to tell two samples apart?

Two samples, (0, 0, 1, 2) s of class 0 and (0, 0, 2, 1) s of class 1, differ only in the order of the last two inputs. For every
mean and standard deviation of a grid, `repeats` networks start from weights drawn from N(mean, std) and train with gradient
descent on both samples in one batch. A cell of the map is the mean of the best accuracy of each of its networks over the
epochs (Bacho & Chu, Neural Computation 35(10), 2023). All networks of a map are one bats.ensemble.Ensemble.
"""

import argparse
import csv
import datetime
import importlib.util
import io
import shlex
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

if importlib.util.find_spec("bats") is None:  # a bare checkout, nothing installed
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import bats
from bats.ensemble import Ensemble
from bats.training import command_line
from bats.training.atomic import write_json, write_text

ROOT = Path(__file__).resolve().parents[2]
TIMES = np.array([[[0.0], [0.0], [1.0], [2.0]], [[0.0], [0.0], [2.0], [1.0]]])  # seconds [sample, input, slot]
COUNTS = np.ones((2, 4), dtype=np.int32)
LABELS = np.array([0, 1])
MODEL = {"tau_s": 1.0, "theta": 1.0, "delta_theta": 1.0, "t_max": 10.0, "slope_floor": 0.0, "learning_rate": 0.1}
SLOTS = {"count": 10, "ttfs": 1}  # spikes kept per neuron
TITLES = {"count": "multi-spike (count loss)", "ttfs": "single spike (TTFS loss)"}
COLUMNS = ["weight_mean", "weight_std", "accuracy", "standard_error", "repeats"]


def make_loss(name):
    return bats.SpikeCountClassLoss(10, 0) if name == "count" else bats.TTFSSoftmaxCrossEntropy(tau=0.1)


def initial_weights(seed, values, repeats):
    """[means, stds, repeats, 2, 4]. A cell has a generator of its own, made of the seed and its mean and standard deviation:
    its networks depend neither on the device nor on the rest of the grid, and more repeats add to them."""
    weights = np.empty((len(values), len(values), repeats, 2, 4))
    for row, mean in enumerate(values):
        for column, std in enumerate(values):
            key = [seed, *(round(1e6 * float(value)) for value in (mean, std))]
            generator = np.random.Generator(np.random.Philox(np.random.SeedSequence(key)))
            weights[row, column] = mean + std * generator.standard_normal((repeats, 2, 4))
    return weights


@dataclass
class Study:
    """One map. accuracy [epochs, means, stds, repeats]: of each network in each epoch, before its update."""

    name: str
    accuracy: np.ndarray
    status: dict
    seconds: float

    @property
    def best(self):
        """Best accuracy of each network, [means, stds, repeats]."""
        return self.accuracy.max(axis=0)

    def record(self):
        average, error = map_average(self.best)
        return {
            "mean_accuracy": average,
            "standard_error": error,
            "mean_accuracy_first_epoch": float(self.accuracy[0].mean()),
            "mean_accuracy_last_epoch": float(self.accuracy[-1].mean()),
            "solved_networks": float((self.best == 1).mean()),
            "training_seconds": round(self.seconds, 3),
            "status": self.status,
        }


def run(name, options):
    """Trains all networks of the map `name` ("count" or "ttfs") -> Study."""
    start = time.perf_counter()
    weights = initial_weights(options.seed, options.values, options.repeats)
    neuron = (MODEL["tau_s"], MODEL["theta"], MODEL["delta_theta"], SLOTS[name])
    ensemble = Ensemble(
        weights.reshape(-1, 2, 4), *neuron, slope_floor=MODEL["slope_floor"], device=options.device, dtype=options.dtype
    )
    optimizer = bats.GradientDescentOptimizer(MODEL["learning_rate"])
    progress = not options.no_progress and sys.stderr.isatty()
    history = ensemble.train(TIMES, COUNTS, LABELS, make_loss(name), optimizer, options.epochs, MODEL["t_max"], progress)
    accuracy = history.accuracy.reshape(options.epochs, *weights.shape[:3])
    return Study(name, accuracy, ensemble.status(), time.perf_counter() - start)


# ----------------------------------------------------------------------------------------------------------------------
def cell_statistics(values):
    """Mean and standard error of the mean over the last axis (NaN for one repeat)."""
    n = values.shape[-1]
    spread = values.std(axis=-1, ddof=1) if n > 1 else np.full(values.shape[:-1], np.nan)
    return values.mean(axis=-1), spread / np.sqrt(n)


def map_average(values):
    """Mean over all cells and its standard error: cells are independent (None for one repeat)."""
    mean, error = cell_statistics(values)
    total = float(np.sqrt((error**2).sum()) / error.size)
    return float(mean.mean()), total if np.isfinite(total) else None


def compare(count, ttfs):
    """Multi-spike minus single-spike map. Both start from the same weights, so networks are compared in pairs."""
    pairs = count.best - ttfs.best
    cells, errors = cell_statistics(pairs)
    average, error = map_average(pairs)
    clear = np.abs(cells) > 2 * errors
    return {
        "mean": average,
        "standard_error": error,
        "cells": _shares(cells),
        "cells_beyond_two_standard_errors": {
            "multi_spike_better": float((clear & (cells > 0)).mean()), "multi_spike_worse": float((clear & (cells < 0)).mean())
        },
        "networks": _shares(pairs),
        "largest_loss_in_a_cell": float(cells.min()),
        "largest_gain_in_a_cell": float(cells.max()),
    }  # fmt: skip


def _shares(differences):
    names = ("multi_spike_better", "equal", "multi_spike_worse")
    return {name: float((np.sign(differences) == sign).mean()) for name, sign in zip(names, (1, 0, -1), strict=True)}


# ----------------------------------------------------------------------------------------------------------------------
def write_csv(path, options, per_network, columns=COLUMNS):
    """A row per cell: weight_mean, weight_std, mean over the repeats, its standard error, repeats."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    means, errors = cell_statistics(per_network)
    for row, mean in enumerate(options.values):
        for column, std in enumerate(options.values):
            cell = [f"{value:.6g}" for value in (mean, std, means[row, column], errors[row, column])]
            writer.writerow([*cell, options.repeats])
    write_text(path, text.getvalue())


def write_record(path, options, command_seconds, **results):
    """JSON: what was computed, with the command, the machine and the parameters."""
    arguments = list(sys.argv[1:])
    if "--out" in arguments:  # where the results went says nothing about them
        place = arguments.index("--out")
        del arguments[place : place + 2]
    script = Path(sys.argv[0]).resolve()
    script = script.relative_to(ROOT).as_posix() if script.is_relative_to(ROOT) else script.name
    record = {
        "date": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d"),
        "command": shlex.join(["python", script, *arguments]),
        "environment": {"bats": bats.__version__, **bats.device.describe()},
        "device": options.device, "dtype": options.dtype, "seed": options.seed, "epochs": options.epochs,
        "repeats": options.repeats, "grid": [round(float(value), 6) for value in options.values], "model": MODEL,
        "command_seconds": round(command_seconds, 2), **results,
    }  # fmt: skip
    write_json(path, record)


def parse(description, argv=None):
    """The options that the three commands share; .values is the grid, .device the one that is used, .out a Path."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--repeats", type=int, default=100, help="networks per cell (default %(default)s)")
    add("--epochs", type=int, default=50, help="updates of every network (default %(default)s)")
    add("--grid", type=float, nargs=3, default=(0.0, 2.4, 0.2), metavar=("FIRST", "LAST", "STEP"),
        help="means and standard deviations of the initial weights (default 0 2.4 0.2)")  # fmt: skip
    add("--seed", type=int, default=0, help="fixes the initial weights; both losses get the same (default %(default)s)")
    add("--device", choices=("auto", "cpu", "cuda"), default="auto", help="auto takes CUDA where it works (default %(default)s)")
    add("--dtype", choices=("float32", "float64"), default="float64", help="(default %(default)s)")
    add("--out", metavar="FOLDER", help="results root (default: results/ of the checkout, or ./results)")
    add("--no-progress", action="store_true", help="no progress bar")
    options = parser.parse_args(argv)
    for name, minimum in (("repeats", 1), ("epochs", 1), ("seed", 0)):
        value = getattr(options, name)
        if value < minimum:
            parser.error(f"--{name}: expected an integer of at least {minimum}, received {value}")
    first, last, step = options.grid
    if not (0 <= first <= last < float("inf") and 0 < step < float("inf")):
        parser.error(f"--grid: expected 0 <= FIRST <= LAST and STEP > 0, received {first:g} {last:g} {step:g}")
    options.values = first + step * np.arange(int((last - first) / step * (1 + 1e-9) + 1e-9) + 1)
    options.out = command_line.results_root(options.out)
    try:
        options.device = bats.device.resolve(options.device)
        for folder in ("convergence", "figures"):
            (options.out / folder).mkdir(parents=True, exist_ok=True)
    except (bats.device.CudaUnavailable, OSError) as error:
        parser.error(str(error))
    return options
