"""The table at the end of a run, on the screen and in summary.txt / summary.json."""

import statistics

from bats.training.atomic import write_json, write_text
from bats.training.trainer import SELECTIONS


def summarise(trainer, metrics, dataset, readout=None, evaluation=None):
    """Figures of a finished run. `metrics`: the selected weights on the test set; `dataset`: its description; `evaluation`: what
    bats.evaluation.Evaluation.write returned."""
    seconds = [row["train_seconds"] for row in trainer.history]
    rates = [row["samples_per_second"] for row in trainer.history]
    summary = {
        "dataset": dataset,
        "device": trainer.network.device,
        "dtype": str(trainer.network.dtype),
        "seed": trainer.seed,
        "step": trainer.step_kind,
        "epochs": trainer.epoch,
        "selection": SELECTIONS[trainer.selection],
        "selected_epoch": trainer.selected_epoch,
        "test_accuracy_percent": 100 * metrics["accuracy"],
        "test_loss": metrics["loss"],
        "test_spikes_per_sample": {name: figures["spikes_per_sample"] for name, figures in metrics["layers"].items()},
        "test_silent_labels_percent": 100 * metrics["silent_labels"],
        "train_seconds_per_epoch": statistics.median(seconds),
        "train_samples_per_second": statistics.median(rates),
        "folder": str(trainer.run_folder) if trainer.run_folder else None,
    }
    if evaluation is not None:
        summary["test_macro_f1_percent"] = 100 * evaluation["macro_f1"]
        summary["median_decision_seconds"] = evaluation["median_decision_seconds"]
        summary["evaluation"] = evaluation
    if readout is not None:
        summary["read_out"] = readout
        summary["test_accuracy_percent_as_trained"] = trainer.selected_row["test_accuracy_percent"]
    return summary


def table(summary):
    """The dictionary of summarise() as aligned text."""
    spikes = ", ".join(f"{name} {figure:.1f}" for name, figure in summary["test_spikes_per_sample"].items())
    rate = summary["train_samples_per_second"]
    rows = [
        ("data set", summary["dataset"]),
        ("device", f"{summary['device']}, {summary['dtype']}, seed {summary['seed']}"),
        ("step", summary["step"]),
        ("epochs", f"{summary['epochs']}, reported: epoch {summary['selected_epoch']} ({summary['selection']})"),
        ("test accuracy", f"{summary['test_accuracy_percent']:.2f} %"),
        ("test loss", f"{summary['test_loss']:.4g}"),
        ("spikes per sample", spikes),
        ("silent labels", f"{summary['test_silent_labels_percent']:.2f} %"),
        ("training", f"{summary['train_seconds_per_epoch']:.2f} s per epoch, {rate:.0f} samples/s (median)"),
        ("run folder", summary["folder"] or "none"),
    ]
    if "evaluation" in summary:
        decision = summary["median_decision_seconds"]
        when = "" if decision is None else f", decided after {1000 * decision:.1f} ms (median)"
        rows[4] = ("test accuracy", f"{summary['test_accuracy_percent']:.2f} %, macro F1 {summary['test_macro_f1_percent']:.2f} %{when}")
    if "read_out" in summary:
        rows.insert(4, ("read-out", summary["read_out"]))
        rows.insert(6, ("as trained", f"{summary['test_accuracy_percent_as_trained']:.2f} % with its own read-out"))
    width = max(len(name) for name, _ in rows)
    rule = "-" * (width + 2 + max(len(str(value)) for _, value in rows))
    return "\n".join([rule, *(f"{name.ljust(width)}  {value}" for name, value in rows), rule])


def write(summary, folder):
    """summary.json and summary.txt in a run folder."""
    write_json(folder.path / "summary.json", summary)
    write_text(folder.path / "summary.txt", table(summary) + "\n")
