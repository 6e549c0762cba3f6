"""Figures of the time discretization study from the CSVs of sweep.py and cross.py, and the artefact beside the cure.

python experiments/time_discretization/plot.py [--out FOLDER] [--help]

Writes <out>/time_discretization/*.png: for every data set accuracy, spikes and latency against the step, accuracy against spikes and
latency curves, the cross matrix; and latching.png, a neuron under a rising drive with either rule.
"""

import argparse

import numpy as np
import runs
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

import bats
from bats.training import command_line
from bats.training.atomic import atomic_file

COLOURS = {"clean": "#1f77b4", "study": "#d62728"}


def new_figure(columns, width, height=3.6):
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, np.atleast_1d(figure.subplots(1, columns))


def save(figure, path):
    with atomic_file(path) as file:
        figure.savefig(file, format="png", dpi=130)
    print(path)


def by_step(rows, column):
    """(steps in ms, mean, standard deviation over the seeds, 0 for one) of a column."""
    steps = sorted({float(row["dt_ms"]) for row in rows})
    values = [[float(row[column]) for row in rows if float(row["dt_ms"]) == dt] for dt in steps]
    return np.array(steps), np.array([np.mean(v) for v in values]), np.array([np.std(v, ddof=1) if len(v) > 1 else 0 for v in values])


def layers_of(rows):
    return [name.removeprefix("spikes_") for name in rows[0] if name.startswith("spikes_")]


def of_rule(rows, rule):
    """Rows of a rule; those of the continuous network, where there is nothing to rule, belong to all."""
    return [row for row in rows if row["rule"] == rule or float(row["dt_ms"]) == 0]


def plot_sweep(rows, name, path):
    figure, axes = new_figure(3, 13)
    for rule in sorted({row["rule"] for row in rows}):
        own, colour = of_rule(rows, rule), COLOURS[rule]
        steps, mean, spread = by_step(own, "accuracy_percent")
        axes[0].errorbar(steps, mean, spread, marker="o", ms=4, capsize=3, color=colour, label=f"rule {rule}")
        for layer, style in zip(layers_of(rows), ("-", "--", ":"), strict=False):
            steps, mean, spread = by_step(own, f"spikes_{layer}")
            axes[1].errorbar(steps, mean, spread, marker="o", ms=4, capsize=3, ls=style, color=colour, label=f"{layer}, {rule}")
        for t, style in ((50, ":"), (100, "--"), (200, "-")):
            steps, mean, spread = by_step(own, f"latency_{t}_ms")
            axes[2].errorbar(steps, mean, spread, marker="o", ms=4, capsize=3, ls=style, color=colour, label=f"up to {t} ms, {rule}")
    axes[0].set(ylabel="test accuracy (%)", title=f"{name}: accuracy")
    axes[1].set(ylabel="spikes per sample", title="spikes", yscale="log")
    axes[2].set(ylabel=f"spikes of the label's neuron / {runs.TARGET_TRUE}", title="latency")
    for axis in axes:
        axis.set_xlabel("time step dt (ms); 0: continuous time")
        axis.grid(alpha=0.3)
        axis.legend(fontsize=7)
    save(figure, path)


def plot_trade(rows, name, path):
    figure, axes = new_figure(2, 11, 4)
    clean = of_rule(rows, "clean")
    steps = sorted({float(row["dt_ms"]) for row in clean})
    colour = dict(zip(steps, bats_colours(len(steps)), strict=True))
    for rule, marker in (("clean", "o"), ("study", "x")):
        for dt in steps:
            own = [row for row in of_rule(rows, rule) if float(row["dt_ms"]) == dt and row["rule"] == rule]
            if own:
                spikes = [sum(float(row[f"spikes_{layer}"]) for layer in layers_of(rows)) for row in own]
                accuracy = [float(row["accuracy_percent"]) for row in own]
                axes[0].scatter(spikes, accuracy, color=[colour[dt]], marker=marker, s=28, label=f"{dt:g} ms, {rule}")
    for dt in steps:
        own = [row for row in clean if float(row["dt_ms"]) == dt]
        curve = [np.mean([float(row[f"latency_{t}_ms"]) for row in own]) for t in runs.LATENCY_TIMES]
        axes[1].plot(runs.LATENCY_TIMES, curve, marker="o", ms=3, color=colour[dt], label=f"{dt:g} ms")
    axes[0].set(xlabel="spikes per sample, all layers", ylabel="test accuracy (%)", title=f"{name}: a point is a run")
    axes[1].set(xlabel="time (ms)", ylabel=f"spikes of the label's neuron / {runs.TARGET_TRUE}", title="latency, rule clean")
    for axis in axes:
        axis.grid(alpha=0.3)
        axis.legend(fontsize=6, ncols=2)
    save(figure, path)


def bats_colours(n):
    from matplotlib import colormaps

    return colormaps["viridis"](np.linspace(0, 0.92, n))


def plot_cross(rows, name, path):
    figure, axes = new_figure(1, 7, 6)
    train, test = (sorted({float(row[f"dt_{kind}_ms"]) for row in rows}) for kind in ("train", "test"))
    matrix = np.full((len(train), len(test)), np.nan)
    for y, x in np.ndindex(matrix.shape):
        found = [row for row in rows if float(row["dt_train_ms"]) == train[y] and float(row["dt_test_ms"]) == test[x]]
        matrix[y, x] = np.mean([float(row["accuracy_percent"]) for row in found])
    image = axes[0].imshow(matrix, cmap="viridis", origin="lower")
    for y, x in np.ndindex(matrix.shape):
        dark = matrix[y, x] < (matrix.max() + matrix.min()) / 2
        axes[0].text(x, y, f"{matrix[y, x]:.1f}", ha="center", va="center", fontsize=7, color="white" if dark else "black")
    axes[0].set_xticks(range(len(test)), [f"{dt:g}" for dt in test])
    axes[0].set_yticks(range(len(train)), [f"{dt:g}" for dt in train])
    axes[0].set(xlabel="tested at dt (ms)", ylabel="trained at dt (ms)", title=f"{name}, rule {rows[0]['rule']}; 0: continuous time")
    figure.colorbar(image, ax=axes[0], label="test accuracy (%)", shrink=0.8)
    save(figure, path)


def plot_latching(path):
    """Spikes of one neuron in 0.2 s against the strength of a constant input, at dt = 8 ms."""
    drives, theta, tau_s, t_max = np.linspace(0, 0.5, 251), 0.02, 0.02, 0.2
    times = np.arange(1, 200) * 1e-3
    figure, axes = new_figure(1, 6)
    for label, grid, colour in (
        ("continuous time", None, "black"),
        ("rule clean", bats.TimeGrid(8e-3), COLOURS["clean"]),
        ("rule study", bats.TimeGrid(8e-3, rule="study"), COLOURS["study"]),
    ):
        layer = bats.LIFLayer(None, len(drives), tau_s, theta, theta, max_n_spike=500, grid=grid)
        network = bats.Network([bats.InputLayer(1), layer], device="cpu", dtype="float64")
        layer.weights = drives[:, None]
        _, counts = network.forward(times[None, None], np.array([[len(times)]]), max_simulation=t_max)
        axes[0].plot(drives, counts[0], color=colour, label=label)
    axes[0].axhline(25, color="grey", lw=0.8, ls=":", label="bins in 0.2 s")
    axes[0].set(xlabel="weight of an input that spikes every 1 ms", ylabel="spikes in 0.2 s", title="one neuron, dt = 8 ms", ylim=(0, 60))
    axes[0].legend(fontsize=8)
    axes[0].grid(alpha=0.3)
    save(figure, path)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", metavar="FOLDER", help="results root (default: results/ of the checkout, or ./results)")
    folder = command_line.results_root(parser.parse_args().out) / "time_discretization"
    folder.mkdir(parents=True, exist_ok=True)
    plot_latching(folder / "latching.png")
    for name in runs.SETS:
        if rows := runs.read_rows(folder / f"{name}.csv"):
            plot_sweep(rows, name, folder / f"{name}_sweep.png")
            plot_trade(rows, name, folder / f"{name}_trade.png")
        if rows := runs.read_rows(folder / f"{name}_cross.csv"):
            plot_cross(rows, name, folder / f"{name}_cross.png")


if __name__ == "__main__":
    main()
