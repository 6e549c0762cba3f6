"""A finished epoch as one flat row, the columns of metrics.csv (units in the names), and the line on the screen."""

import csv
import io

import numpy as np


def make_row(epoch, metrics, *, learning_rate, weights, train_seconds, evaluation_seconds):
    """Row of epoch `epoch` (from 1). `metrics`: {"train" | "validation" | "test": Step.metrics()}; `weights`: arrays by
    layer name."""
    row = {"epoch": epoch, "learning_rate": learning_rate}
    for part, values in metrics.items():
        row[f"{part}_loss"] = float(values["loss"])
        row[f"{part}_accuracy_percent"] = 100 * float(values["accuracy"])
        row[f"{part}_silent_labels_percent"] = 100 * float(values["silent_labels"])
        for layer, figures in values["layers"].items():
            row[f"{part}_spikes_per_sample_{layer}"] = float(figures["spikes_per_sample"])
            row[f"{part}_silent_neurons_percent_{layer}"] = 100 * float(figures["silent_neurons"])
            for failure in ("overflow", "non_finite", "bounded"):
                row[f"{part}_{failure}_{layer}"] = int(figures.get(failure, 0))
    for layer, array in weights.items():
        row[f"weight_norm_{layer}"] = float(np.sqrt(np.sum(np.square(array, dtype=np.float64))))
    row["train_seconds"] = train_seconds
    row["evaluation_seconds"] = evaluation_seconds
    row["samples_per_second"] = metrics["train"]["samples"] / train_seconds if train_seconds > 0 else float("nan")
    return row


WALL_TIMES = ("train_seconds", "evaluation_seconds", "samples_per_second")  # the only columns a resumed run may change


def history_csv(history):
    """The rows as CSV text; the columns are those of the last row."""
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(history[-1]), extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(history)
    return text.getvalue()


def epoch_line(row):
    """One line for the screen."""
    parts = [f"epoch {row['epoch']:3d}"]
    for part in ("train", "validation", "test"):
        if f"{part}_loss" in row:
            parts.append(f"{part} loss {row[f'{part}_loss']:.4g} accuracy {row[f'{part}_accuracy_percent']:.2f} %")
    silent = row.get("test_silent_labels_percent", row["train_silent_labels_percent"])
    parts.append(f"silent labels {silent:.2f} %")
    parts.append(f"{row['train_seconds']:.1f} s, {row['samples_per_second']:.0f} samples/s")
    return " | ".join(parts)
