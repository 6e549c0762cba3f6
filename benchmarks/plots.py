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


if __name__ == "__main__":
    (RESULTS / "figures").mkdir(parents=True, exist_ok=True)
    accuracy(RESULTS / "figures" / "accuracy.png")
