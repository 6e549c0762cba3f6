"""Trains the layers over several seeds in one process: results/fastsnn/training.csv, a row per epoch, and training.md, the table.

python experiments/fastsnn/run_training.py [--dataset fmnist] [--epochs 150] [--seeds 3] [--learned-filter] [--validation 5000] [--help]

The network and its settings are the published ones of the data set (README.md). Runs that the file holds already, with as many
epochs, are left as they are: a study that was stopped goes on with the runs it was in. With --validation N a run trains without
the last N images of a shuffled training set and is judged by its best epoch on those; else by its last. The test set selects
nothing. Runs go on --at-once at a time on CUDA, each in a stream of its own.
"""

import argparse
import csv
import io
import itertools
import statistics
import threading
from concurrent.futures import ThreadPoolExecutor

from model_fastsnn import DATASETS, load_task, make_network
from tqdm import tqdm

import bats
from bats.device import stream_of_its_own
from bats.timestep import MaxMembraneCrossEntropy
from bats.training import Trainer, command_line
from bats.training.atomic import write_text
from bats.training.batches import split_validation

COLUMNS = (
    "dataset", "layer", "seed", "validation", "epoch", "test_accuracy_percent", "validation_accuracy_percent", "train_accuracy_percent",
    "train_loss", "validation_loss", "test_loss", "spikes_per_sample", "train_seconds", "evaluation_seconds", "at_once", "device",
)  # fmt: skip
LAYERS = ("standard", "fast", "fast, learned filter")


def read_rows(path):
    """Rows of an earlier call, as dictionaries of strings; none if there is no file."""
    if not path.is_file():
        return []
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def write_rows(path, rows, columns):
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(path, text.getvalue())


def device_name(device):
    """The GPU by name, or "CPU"."""
    found = bats.device.describe()
    return found.get("gpu", device) if device == "cuda" else "CPU"


def run_of(row):
    return row["dataset"], row["layer"], int(row["seed"]), int(row["validation"])


def selected(rows):
    """The row by which a run is judged: of the best epoch on held-out training images (the first of several), or the last."""
    return max(rows, key=lambda row: float(row["validation_accuracy_percent"])) if int(rows[0]["validation"]) else rows[-1]


def runs_in(rows):
    """{(dataset, layer, seed, validation): rows of its epochs}, in order."""
    runs = {}
    for row in rows:
        runs.setdefault(run_of(row), []).append(row)
    return dict(sorted(runs.items(), key=lambda item: (item[0][0], LAYERS.index(item[0][1]), item[0][3], item[0][2])))


def table(rows):
    """Markdown: a line per layer and way of judging."""
    lines = [
        "Test accuracy of every seed, at the epoch that the held-out training images choose, or the last one where none are held out.",
        "",
        "| data | layer | epochs | held out | judged by | test accuracy, % | mean | at epochs | hidden spikes | last train loss |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for (dataset, layer, held_out), group in itertools.groupby(runs_in(rows).items(), key=lambda item: (*item[0][:2], item[0][3])):
        runs = [own for _, own in group]
        for chosen, name in ((selected, "best held-out epoch"), (lambda own: own[-1], "last epoch"))[not held_out :]:
            judged = [chosen(own) for own in runs]
            accuracies = [float(row["test_accuracy_percent"]) for row in judged]
            lines.append(
                f"| {dataset} | {layer} | {len(runs[0])} | {held_out} | {name} | {', '.join(f'{value:.2f}' for value in accuracies)} | "
                f"{statistics.mean(accuracies):.2f} | {', '.join(str(row['epoch']) for row in judged)} | "
                f"{statistics.mean(float(row['spikes_per_sample']) for row in judged):.0f} | "
                f"{statistics.mean(float(own[-1]['train_loss']) for own in runs):.3f} |"
            )
    return "\n".join(lines) + "\n"


def train(options, task, run, on_row):
    """One run (dataset, layer, seed, number of held-out images); on_row is called with every epoch's row."""
    _, kind, seed, held_out = run
    settings = DATASETS[options.dataset]
    layer, learned = ("fast", True) if kind == "fast, learned filter" else (kind, False)
    network = make_network(task.test_source, layer, settings, learned_filter=learned, device=options.device, seed=seed)
    hidden = [name.name for name in network.layers[1:-1]]

    def take(row):
        spikes = sum(row[f"test_spikes_per_sample_{name}"] for name in hidden)
        known = dict(zip(("dataset", "layer", "seed", "validation"), run, strict=True))
        on_row({**row, **known, "spikes_per_sample": spikes, "at_once": options.at_once})

    trainer = Trainer(
        network, MaxMembraneCrossEntropy(), bats.AdamOptimizer(settings.learning_rate), batch_size=settings.batch_size,
        max_simulation=settings.duration, seed=seed, progress=False, on_epoch=take,
    )  # fmt: skip
    trained, validated = split_validation(options.max_train or task.n_train, held_out, seed)
    validation = task.make_source(validated) if held_out else None
    trainer.fit(task.make_source(trained), task.test_source, options.epochs, validation)
    return trainer


class Study:
    """The rows of all runs, and the file they are in."""

    def __init__(self, options, path, bar):
        self.options, self.path, self.bar = options, path, bar
        self.rows, self._lock = read_rows(path), threading.Lock()

    def holds(self, run):
        return any(run_of(row) == run and int(row["epoch"]) >= self.options.epochs for row in self.rows)

    def _keep(self, run, rows):
        with self._lock:
            self.rows = [row for row in self.rows if run_of(row) != run] + rows
            self.rows = [row for own in runs_in(self.rows).values() for row in own]
            write_rows(self.path, self.rows, COLUMNS)
            write_text(self.path.with_suffix(".md"), table(self.rows))

    def do(self, task, run):
        """Trains one run; its rows are written every ten epochs and at the end. Returns whether Ctrl-C stopped it."""
        rows, name = [], device_name(self.options.device)

        def on_row(row):
            rows.append({**row, "device": name})
            if len(rows) % 10 == 0:
                self._keep(run, list(rows))
            self.bar.update()
            self.bar.set_postfix_str(f"{row['test_accuracy_percent']:.2f} %, {row['spikes_per_sample']:.0f} spikes", refresh=False)

        with stream_of_its_own(self.options.device):
            if train(self.options, task, run, on_row).interrupted:
                return True
        self._keep(run, rows)
        judged = selected(rows)
        self.bar.write(
            f"{run[1]}, seed {run[2]}, {run[3]} held out: {judged['test_accuracy_percent']:.2f} % in epoch {judged['epoch']}, "
            f"{judged['spikes_per_sample']:.0f} spikes per sample; {rows[-1]['test_accuracy_percent']:.2f} % in the last"
        )
        return False


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add, natural = parser.add_argument, command_line.integer(1)
    add("--dataset", choices=list(DATASETS), default="fmnist", help="(default %(default)s)")
    add("--epochs", type=natural, help="of every run (default: the published number; fewer on the embedded subset)")
    add("--seeds", type=natural, default=3, help="runs of each layer (default %(default)s)")
    add("--layers", nargs="+", choices=LAYERS, default=["standard", "fast"], help="(default: standard fast)")
    add("--learned-filter", action="store_true", help="also train the fast layer with a learned filter")
    add("--validation", type=command_line.integer(0), default=0, metavar="N",
        help="training images to hold out; the best epoch on them is reported (default %(default)s: the last epoch)")  # fmt: skip
    add("--at-once", type=natural, default=1, help="runs at the same time on CUDA (default %(default)s)")
    add("--max-train", type=natural, metavar="N", help="use the first N training samples only")
    add("--data", metavar="PATH", help="folder or file with the data set (default: BATS_DATA, datasets/, the user cache)")
    add("--device", choices=("auto", "cpu", "cuda"), default="auto", help="(default %(default)s)")
    add("--out", metavar="FOLDER", help="results root (default: results/ of the checkout)")
    add("--no-progress", action="store_true", help="no progress bar")
    options = parser.parse_args()
    options.device = bats.device.resolve(options.device)
    options.at_once = options.at_once if options.device == "cuda" else 1
    folder = command_line.results_root(options.out) / "fastsnn"
    folder.mkdir(parents=True, exist_ok=True)
    task = load_task(options.dataset, options.data)
    options.epochs = options.epochs or task.default_epochs
    kinds = [kind for kind in LAYERS if kind in options.layers or (options.learned_filter and kind == LAYERS[2])]
    wanted = [(options.dataset, kind, seed, options.validation) for kind in reversed(kinds) for seed in range(options.seeds)]
    with tqdm(unit=" epochs", disable=options.no_progress, dynamic_ncols=True) as bar:
        study = Study(options, folder / "training.csv", bar)
        runs = [run for run in wanted if not study.holds(run)]
        bar.reset(total=len(runs) * options.epochs)
        if options.at_once == 1:  # in the main thread, where Ctrl-C waits for the batch
            stopped = any(study.do(task, run) for run in runs)
        else:
            with ThreadPoolExecutor(options.at_once) as pool:
                stopped = any(list(pool.map(lambda run: study.do(task, run), runs)))
    if stopped:
        raise SystemExit("stopped; the same command goes on with this run")
    print(f"written: {study.path}")


if __name__ == "__main__":
    main()
