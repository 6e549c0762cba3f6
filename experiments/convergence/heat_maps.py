"""Heat maps over the mean and the standard deviation of the initial weights, as PNG and PDF. Drawn without a display."""

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import TwoSlopeNorm
from matplotlib.figure import Figure

from bats.training.atomic import atomic_file

SEQUENTIAL, DIVERGING = "viridis", "RdBu"  # both keep their order in grey or to colour-blind eyes; white is 0 in the second


def accuracy_map(stem, values, accuracy, title, subtitle):
    """accuracy [means, stds] from 0 to 1 -> `stem`.png and `stem`.pdf; the colours always span 0 to 100 %."""
    _draw(stem, values, 100 * accuracy, title, subtitle, "best accuracy (%), mean over the networks", cmap=SEQUENTIAL, vmin=0, vmax=100)


def difference_map(stem, values, difference, title, subtitle):
    """difference [means, stds] from -1 to 1, centred at 0: blue where more spikes are better, red where one is."""
    points = 100 * difference
    limit = max(10.0, 10 * np.ceil(np.abs(points).max() / 10))
    norm = TwoSlopeNorm(0, -limit, limit)
    label = "difference of best accuracy (points)\n← single spike better     multi-spike better →"
    _draw(stem, values, points, title, subtitle, label, cmap=DIVERGING, norm=norm)


def _draw(stem, values, matrix, title, subtitle, label, **colours):
    figure = Figure(figsize=(5.6, 4.7), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    step = values[1] - values[0] if len(values) > 1 else 0.2
    edges = np.append(values, values[-1] + step) - step / 2
    image = axes.pcolormesh(edges, edges, matrix, edgecolors="face", linewidth=0.2, **colours)
    shown = values[:: max(1, (len(values) + 6) // 7)]
    names = [np.format_float_positional(value, precision=3, trim="0") for value in shown]
    axes.set_xticks(shown, names)
    axes.set_yticks(shown, names)
    axes.set(xlabel="standard deviation of the initial weights", ylabel="mean of the initial weights", aspect="equal")
    axes.set_title(title, fontsize=12, pad=20)
    axes.text(0.5, 1.02, subtitle, transform=axes.transAxes, ha="center", fontsize=9, color="#444444")
    axes.spines[:].set_visible(False)
    bar = figure.colorbar(image, ax=axes, label=label)
    bar.outline.set_visible(False)
    for kind, options in (("png", {"dpi": 150}), ("pdf", {"metadata": {"CreationDate": None}})):
        with atomic_file(stem.with_name(f"{stem.name}.{kind}")) as file:
            figure.savefig(file, format=kind, **options)
