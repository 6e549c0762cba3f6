"""Draws the figures of this folder from results/fastsnn/*.csv, in the panels of the published ones.

python experiments/fastsnn/plots.py [--results FOLDER] [--help]

speed.png: time of a layer against the number of steps, and what the single-spike layer gains against the fused standard one over the
whole grid. accuracy.png: accuracy, spikes and their trade on Fashion-MNIST, with the published values beside ours; of each layer the
runs that hold out training images, if there are any, at the epoch that these choose.
"""

import argparse
import statistics

import model_fastsnn  # noqa: F401 (makes a bare checkout importable)
import numpy as np
from run_training import LAYERS, read_rows, runs_in, selected

from bats.training import command_line
from bats.training.plots import COLOURS, new_figure, save, tidy

PUBLISHED = {  # Taylor, King & Harper 2022: Fashion-MNIST, means of six runs read off their figure
    "standard": {"accuracy": 85.3, "spikes": 1120, "seconds": 39.0},
    "fast, learned filter": {"accuracy": 81.2, "spikes": 190, "seconds": 9.7},
}
PUBLISHED_MS = {"standard": {8: 4.0, 2048: 830.0}, "fast": {8: 1.3, 128: 9.3, 256: 74.0, 2048: 4200.0}}  # batch 128, 200 neurons
KINDS = ("loop", "standard", "fast")
NAMES = {"loop": "step-by-step loop", "standard": "fused standard layer", "fast": "single-spike layer"}


def read_grid(path):
    """{(type, steps, neurons, batch): (forward, backward)} in ms."""
    return {
        (row["type"], int(row["t_len"]), int(row["units"]), int(row["batch"])): (
            1e3 * float(row["forward_time"]),
            1e3 * float(row["backward_time"]),
        )
        for row in read_rows(path)
    }, sorted({row["device"] for row in read_rows(path)})


def speed(grid, devices, path):
    steps, units = (sorted({key[place] for key in grid}) for place in (1, 2))
    figure = new_figure(11, 7.4)
    axes = figure.subplots(2, 3)
    left = axes[0, 0]
    for n, kind in enumerate(KINDS):
        points = [(t, sum(grid[kind, t, 200, 128])) for t in steps if (kind, t, 200, 128) in grid]
        left.plot(*zip(*points, strict=True), marker="o", markersize=4, color=COLOURS[n], label=f"{NAMES[kind]}, ours")
        if kind in PUBLISHED_MS:
            style = {"marker": "x", "linestyle": ":", "color": COLOURS[n], "label": f"{kind}, published (another GPU)"}
            left.plot(*zip(*PUBLISHED_MS[kind].items(), strict=True), **style)
    left.set(xscale="log", yscale="log", xlabel="time steps", ylabel="forward + backward (ms)", title="200 neurons, batch 128")
    left.set_xticks(steps, steps, fontsize=8)
    left.minorticks_off()
    left.legend(fontsize=7, frameon=False)
    tidy(left)
    middle = axes[0, 1]
    for n, (batch, mark) in enumerate(((32, "o"), (128, "s"))):
        for kind in ("standard", "fast"):
            both = [t for t in steps if ("loop", t, 200, batch) in grid]
            ratios = [sum(grid["loop", t, 200, batch]) / sum(grid[kind, t, 200, batch]) for t in both]
            colour = COLOURS[KINDS.index(kind)]
            style = {"marker": mark, "markersize": 4, "color": colour, "linestyle": "-" if n else "--"}
            middle.plot(both, ratios, label=f"{NAMES[kind]}, batch {batch}", **style)
    middle.set(xscale="log", xlabel="time steps", ylabel="times faster than the loop", title="Speed-up over the loop, 200 neurons")
    middle.set_ylim(0, None)
    middle.set_xticks(steps, steps, fontsize=8)
    middle.minorticks_off()
    middle.legend(fontsize=7, frameon=False)
    tidy(middle)
    panels = (axes[0, 2], 128, "total"), (axes[1, 0], 128, "forward"), (axes[1, 1], 128, "backward"), (axes[1, 2], 32, "total")
    for axis, batch, part in panels:
        take = {"forward": lambda pair: pair[0], "backward": lambda pair: pair[1], "total": sum}[part]
        ratio = np.array([[take(grid["standard", t, n, batch]) / take(grid["fast", t, n, batch]) for t in steps] for n in units])
        image = axis.imshow(ratio, origin="lower", aspect="auto", cmap="RdBu_r", vmin=0.5, vmax=1.5)
        for (row, column), value in np.ndenumerate(ratio):
            axis.text(column, row, f"{value:.2f}", ha="center", va="center", fontsize=6)
        axis.set_xticks(range(len(steps)), steps, fontsize=8)
        axis.set_yticks(range(len(units)), units, fontsize=8)
        axis.set(xlabel="time steps", ylabel="neurons", title=f"fused standard / single spike\n{part}, batch {batch}")
    figure.colorbar(image, ax=axes[:, 2], label="times faster than the fused standard layer")
    figure.suptitle(f"One layer, 1000 inputs, float32, {', '.join(devices)}")
    save(figure, path)


def accuracy(rows, path):
    runs = runs_in(row for row in rows if row["dataset"] == "fmnist")
    held_out = {kind: max(key[3] for key in runs if key[1] == kind) for kind in LAYERS if any(key[1] == kind for key in runs)}
    figure = new_figure(11, 3.8)
    curves, bars, trade = figure.subplots(1, 3)
    for n, kind in enumerate(held_out):
        own_runs = [own for key, own in runs.items() if key[1] == kind and key[3] == held_out[kind]]
        judged = [selected(own) for own in own_runs]
        for place, (own, best) in enumerate(zip(own_runs, judged, strict=True)):
            epochs, values = [int(row["epoch"]) for row in own], [float(row["test_accuracy_percent"]) for row in own]
            curves.plot(epochs, values, color=COLOURS[n], linewidth=1, label=None if place else kind)
            curves.plot(int(best["epoch"]), float(best["test_accuracy_percent"]), marker="o", markersize=5, color=COLOURS[n],
                markeredgecolor="black", linestyle="none", zorder=3)  # fmt: skip
        spikes, reached = ([float(row[name]) for row in judged] for name in ("spikes_per_sample", "test_accuracy_percent"))
        bars.bar(n, statistics.mean(spikes), color=COLOURS[n])
        highest = max(statistics.mean(spikes), PUBLISHED.get(kind, {"spikes": 0})["spikes"] + 20)
        bars.text(n, highest, f"{statistics.mean(spikes):.0f}", ha="center", va="bottom", fontsize=8)
        trade.scatter(spikes, reached, color=COLOURS[n], label=kind)
        if kind in PUBLISHED:
            trade.scatter(PUBLISHED[kind]["spikes"], PUBLISHED[kind]["accuracy"], marker="x", color=COLOURS[n], label=f"{kind}, published")
            bars.scatter(n, PUBLISHED[kind]["spikes"], marker="x", color="black", zorder=3, label=None if n else "published")
    curves.set(xlabel="epoch", ylabel="test accuracy (%)", title="A line per seed; dots: chosen epochs")
    bars.set_xticks(range(len(held_out)), [kind.replace(", ", ",\n") for kind in held_out])
    bars.set(ylabel="hidden spikes per sample", title="Fashion-MNIST: spikes of the chosen epoch")
    trade.set(xlabel="hidden spikes per sample", ylabel="test accuracy (%)", title="Accuracy against spikes", xlim=(0, None))
    for axis in (curves, bars, trade):
        axis.legend(fontsize=8, frameon=False)
        tidy(axis)
    save(figure, path)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", metavar="FOLDER", help="results root (default: results/ of the checkout)")
    folder = command_line.results_root(parser.parse_args().results) / "fastsnn"
    for name, draw in (("benchmarks", lambda path: speed(*read_grid(path), folder / "speed.png")),
                       ("training", lambda path: accuracy(read_rows(path), folder / "accuracy.png"))):  # fmt: skip
        path = folder / f"{name}.csv"
        if path.is_file():
            draw(path)
            print(f"written: {folder / ('speed.png' if name == 'benchmarks' else 'accuracy.png')}")
        else:
            print(f"{path}: not there, no figure of it")


if __name__ == "__main__":
    main()
