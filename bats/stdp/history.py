"""What training without labels and training by reward leave behind: one flat row per epoch, units in the names."""

import numpy as np

from bats.device import to_numpy

WALL_TIMES = ("train_seconds", "evaluation_seconds", "images_per_second")  # the only columns a resumed run may change


def convergence(layer):
    """Mean of w (1 - w) over the weights: 0.25 at the most, 0 once every weight is 0 or 1 (Kheradpisheh et al. 2018, eq. 6)."""
    weights = to_numpy(layer.weights).astype(np.float64)
    return float(np.mean(weights * (1 - weights)))


def layer_row(name, epoch, layer, tally, n_images, seconds):
    """Row of an epoch without labels. tally: [winners, images without a winner]."""
    return {
        "layer": name,
        "epoch": epoch,
        "winners_per_image": int(tally[0]) / n_images,
        "silent_percent": 100 * int(tally[1]) / n_images,
        "convergence": convergence(layer),
        "ltp_rate": layer.rates[0],
        "ltd_rate": layer.rates[1],
        "train_seconds": seconds,
        "images_per_second": n_images / seconds if seconds > 0 else float("nan"),
    }


def decision_row(epoch, factor, shares, n_images, seconds, evaluation_seconds):
    """Row of a decision epoch. shares: {"train" | "validation" | "test": metrics.rates(...)}; the training decisions are
    those taken while learning."""
    row = {"epoch": epoch, "rate_factor": factor}
    for part, values in shares.items():
        row.update({f"{part}_{kind}_percent": 100 * share for kind, share in values.items()})
    row["train_seconds"] = seconds
    row["evaluation_seconds"] = evaluation_seconds
    row["images_per_second"] = n_images / seconds if seconds > 0 else float("nan")
    return row


def decision_line(row):
    """One line for the screen."""
    parts = [f"decision epoch {row['epoch']:3d}"]
    for part in ("train", "validation", "test"):
        if f"{part}_correct_percent" in row:
            parts.append(f"{part} {row[f'{part}_correct_percent']:.2f} %")
    parts.append(f"{row['train_seconds']:.1f} s")
    return " | ".join(parts)
