"""Draws the figures that the README shows from the results in results/*.json.

    python benchmarks/plots.py
"""

import json

import environment
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

RESULTS = environment.ROOT / "results"
JOBS = {"count": "MNIST, spike count", "ttfs": "MNIST, time to first spike", "yin_yang": "Yin-Yang, time to first spike"}
COLOURS = {"cuda": "#1f5fa8", "cpu": "#d1662b"}


def accuracy(path):
    """Test accuracy after every epoch, a line per seed and device."""
    figure = Figure(figsize=(10, 3.2), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, len(JOBS))
    for axis, (job, title) in zip(axes, JOBS.items(), strict=True):
        for device, colour in COLOURS.items():
            record = json.loads((RESULTS / f"accuracy_{device}.json").read_text(encoding="utf-8"))
            for n, row in enumerate(row for row in record["rows"] if row["job"] == job):
                name = record["environment"].get("gpu", "GPU") if device == "cuda" else "CPU"
                label = None if n else f"{name}, {sum(other['job'] == job for other in record['rows'])} seed(s)"
                values = row["test_accuracy_percent"]
                style = {"color": colour, "marker": ".", "linewidth": 1, "linestyle": "-" if device == "cuda" else "--"}
                axis.plot(range(1, len(values) + 1), values, label=label, **style)
        axis.set(title=title, xlabel="epoch", ylim=(91.5, 99))
        axis.grid(alpha=0.3)
    axes[0].set_ylabel("test accuracy (%)")
    axes[0].legend(loc="lower right", fontsize=8)
    figure.savefig(path, dpi=120)
    print(f"written: {path}")


def dead_outputs(path):
    """Fashion-MNIST, a line per seed: with the regularizer over the epochs, and, without it, where the first epochs ended."""
    record = json.loads((RESULTS / "dead_outputs_cuda.json").read_text(encoding="utf-8"))
    control = json.loads((RESULTS / "dead_outputs_control_cuda.json").read_text(encoding="utf-8"))
    figure = Figure(figsize=(6.4, 4), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    kinds = {
        (True, False): ("#1f5fa8", "with the remedy, all outputs fire"),
        (True, True): ("#a8323e", "with the remedy, an output is dead"),
        (False, False): ("#6b6b6b", "without, all outputs fire"),
        (False, True): ("#d1662b", "without, an output is dead"),
    }
    seen = set()
    for row in sorted(record["rows"] + control["rows"], key=lambda row: bool(row["strength"])):
        kind = bool(row["strength"]), row["dead_outputs"][-1] > 0
        colour, label = kinds[kind]
        values = row["test_accuracy_percent"]
        axes.plot(
            range(1, len(values) + 1), values, color=colour, marker="o", markersize=4, linewidth=1.2, label=None if kind in seen else label
        )
        seen.add(kind)
    axes.set(title="Fashion-MNIST, 784-400-400-10, a line per seed", xlabel="epoch", ylabel="test accuracy (%)")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8, loc="lower right")
    figure.savefig(path, dpi=120)
    print(f"written: {path}")


if __name__ == "__main__":
    (RESULTS / "figures").mkdir(parents=True, exist_ok=True)
    dead_outputs(RESULTS / "figures" / "dead_outputs.png")
    accuracy(RESULTS / "figures" / "accuracy.png")
