"""Trains both layers over several seeds in one process and writes one row per epoch: results/fastsnn/training.csv.

python experiments/fastsnn/run_training.py [--dataset fmnist] [--epochs 150] [--seeds 3] [--learned-filter] [--help]

The network and its settings are the published ones of the data set (README.md). Runs that the file holds already, with as many
epochs, are left as they are: a study that was stopped goes on with the run it was in.
"""

import argparse
import csv
import io

from model_fastsnn import DATASETS, load_task, make_network
from tqdm import tqdm

import bats
from bats.timestep import MaxMembraneCrossEntropy
from bats.training import Trainer, command_line
from bats.training.atomic import write_text

COLUMNS = (
    "dataset", "layer", "seed", "epoch", "test_accuracy_percent", "train_loss", "test_loss", "spikes_per_sample", "train_seconds",
    "evaluation_seconds", "device",
)  # fmt: skip


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


def train(options, task, kind, seed, on_row):
    """One run; on_row is called with every epoch's row."""
    settings = DATASETS[options.dataset]
    layer, learned = ("fast", True) if kind == "fast, learned filter" else (kind, False)
    network = make_network(task.test_source, layer, settings, learned_filter=learned, device=options.device, seed=seed)
    hidden = [name.name for name in network.layers[1:-1]]

    def take(row):
        spikes = sum(row[f"test_spikes_per_sample_{name}"] for name in hidden)
        on_row({**row, "dataset": options.dataset, "layer": kind, "seed": seed, "spikes_per_sample": spikes})

    trainer = Trainer(
        network, MaxMembraneCrossEntropy(), bats.AdamOptimizer(settings.learning_rate), batch_size=settings.batch_size,
        max_simulation=settings.duration, seed=seed, progress=False, on_epoch=take,
    )  # fmt: skip
    trainer.fit(task.make_source(slice(options.max_train)), task.test_source, options.epochs)
    return trainer


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add, natural = parser.add_argument, command_line.integer(1)
    add("--dataset", choices=list(DATASETS), default="fmnist", help="(default %(default)s)")
    add("--epochs", type=natural, help="of every run (default: the published number; fewer on the embedded subset)")
    add("--seeds", type=natural, default=3, help="runs of each layer (default %(default)s)")
    add("--learned-filter", action="store_true", help="also train the fast layer with a learned filter")
    add("--max-train", type=natural, metavar="N", help="train on the first N samples only")
    add("--data", metavar="PATH", help="folder or file with the data set (default: BATS_DATA, datasets/, the user cache)")
    add("--device", choices=("auto", "cpu", "cuda"), default="auto", help="(default %(default)s)")
    add("--out", metavar="FOLDER", help="results root (default: results/ of the checkout)")
    add("--no-progress", action="store_true", help="no progress bar")
    options = parser.parse_args()
    options.device = bats.device.resolve(options.device)
    folder = command_line.results_root(options.out) / "fastsnn"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "training.csv"
    task = load_task(options.dataset, options.data)
    options.epochs = options.epochs or task.default_epochs
    kinds = ["standard", "fast"] + ["fast, learned filter"] * options.learned_filter
    runs = [(kind, seed) for seed in range(options.seeds) for kind in kinds]
    rows = read_rows(path)
    run_of = lambda row: (row["dataset"], row["layer"], int(row["seed"]))  # noqa: E731
    with tqdm(total=len(runs) * options.epochs, unit=" epochs", disable=options.no_progress, dynamic_ncols=True) as bar:

        def on_row(row):
            rows.append({**row, "device": device_name(options.device)})
            bar.update()
            bar.set_postfix_str(f"{row['test_accuracy_percent']:.2f} %, {row['spikes_per_sample']:.0f} spikes", refresh=False)

        for kind, seed in runs:
            own = (options.dataset, kind, seed)
            if any(run_of(row) == own and int(row["epoch"]) >= options.epochs for row in rows):
                bar.update(options.epochs)
                continue
            rows[:] = [row for row in rows if run_of(row) != own]
            bar.set_description(f"{kind}, seed {seed}")
            trainer = train(options, task, kind, seed, on_row)
            if trainer.interrupted:
                raise SystemExit("stopped; the same command goes on with this run")
            write_rows(path, rows, COLUMNS)
            last = rows[-1]
            bar.write(f"{kind}, seed {seed}: {last['test_accuracy_percent']:.2f} %, {last['spikes_per_sample']:.0f} spikes per sample")
    print(f"written: {path}")


if __name__ == "__main__":
    main()
