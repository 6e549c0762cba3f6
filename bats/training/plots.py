"""The pictures of a run: metric curves, confusion matrix, spike raster. Drawn without a display."""

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from bats.training.atomic import atomic_file

COLOURS = (
    "#1f5fa8",
    "#d1662b",
    "#3a8f5c",
    "#8a4fa0",
    "#a8323e",
    "#6b6b6b",
    "#c29a1f",
    "#2d9aa3",
)  # told apart in grey too
_DASHES = {"train": "-", "evaluation": "--", "test": "--", "validation": ":"}


def new_figure(width, height):
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def tidy(axes):
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=9)


def save(figure, path):
    with atomic_file(path) as file:
        figure.savefig(file, format="png", dpi=150)


def metric_curves(epochs, curves, title, label, path):
    """Values over epochs. `curves`: {"<layer> <part>" or "<part>": values [epochs]}; colour by layer, dash by part."""
    figure = new_figure(6.4, 4.0)
    axes = figure.add_subplot()
    by_layer = len({name.rsplit(" ", 1)[0] for name in curves if " " in name}) > 0
    groups = list(dict.fromkeys(name.rsplit(" ", 1)[0] if by_layer else name for name in curves))
    for name, values in curves.items():
        group = name.rsplit(" ", 1)[0] if by_layer else name
        colour = COLOURS[groups.index(group) % len(COLOURS)]
        dash = _DASHES.get(name.rsplit(" ", 1)[-1], "-")
        marker = "o" if len(epochs) <= 30 else None
        axes.plot(epochs, values, dash, color=colour, linewidth=1.8, marker=marker, markersize=3.5, label=name or None)
    axes.set(title=title, xlabel="epoch", ylabel=label)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.grid(alpha=0.25, linewidth=0.6)
    axes.ticklabel_format(axis="y", useOffset=False)
    if len(curves) > 1:
        axes.legend(frameon=False, fontsize=9)
    tidy(axes)
    save(figure, path)


def confusion_matrix(matrix, class_names, title, path):
    """Counts [label, prediction] and, to the right, the accuracy of each class. A last column may hold silent samples:
    `class_names` then names one column more than the matrix has rows.
    """
    n_rows, n_columns = matrix.shape
    size = min(14.0, max(4.6, 0.52 * n_columns + 2.2))
    figure = new_figure(size, size * 0.92)
    axes = figure.add_subplot()
    totals = matrix.sum(axis=1, keepdims=True)
    shares = matrix / np.maximum(totals, 1)
    image = axes.imshow(np.sqrt(shares), cmap="Blues", vmin=0, vmax=1)  # square root: errors of a few per cent stay visible
    if n_columns <= 24:
        for row in range(n_rows):
            for column in range(n_columns):
                count = int(matrix[row, column])
                ink = "white" if image.norm(np.sqrt(shares[row, column])) > 0.6 else "#333333"
                if count:
                    axes.text(column, row, count, ha="center", va="center", color=ink, fontsize=8)
    axes.set_xticks(range(n_columns), class_names[:n_columns], rotation=0 if n_columns <= 12 else 90)
    axes.set_yticks(range(n_rows), class_names[:n_rows])
    axes.set(title=title, xlabel="prediction", ylabel="label")
    correct = [f"{100 * shares[row, row]:.1f} %" if totals[row, 0] else "-" for row in range(n_rows)]
    right = axes.secondary_yaxis("right")
    right.set_yticks(range(n_rows), correct)
    right.set_ylabel("accuracy of the class")
    for side in (axes, right):
        side.tick_params(length=0, labelsize=8)
        side.spines[:].set_visible(False)
    save(figure, path)


def spike_raster(layers, title, path, class_names=None):
    """One sample through all layers, the input at the top; time in milliseconds.

    `layers`: list of (name, times [N, K] in seconds, counts [N]); the first is the input, the last the output, whose
    neurons are drawn as ticks and named with `class_names`.
    """
    heights = [3.0 if index < len(layers) - 1 else 2.0 for index in range(len(layers))]
    figure = new_figure(7.6, 0.6 + 0.9 * sum(heights))
    panels = np.atleast_1d(figure.subplots(len(layers), 1, sharex=True, gridspec_kw={"height_ratios": heights}))
    for index, (axes, (name, times, counts)) in enumerate(zip(panels, layers, strict=True)):
        emitted = np.arange(times.shape[1])[None, :] < np.asarray(counts)[:, None]
        neurons, slots = np.nonzero(emitted)
        milliseconds = 1000 * times[neurons, slots]
        colour = COLOURS[index % len(COLOURS)]
        n_neurons = times.shape[0]
        if n_neurons <= 60:
            axes.vlines(milliseconds, neurons - 0.38, neurons + 0.38, color=colour, linewidth=1.4)
            named = class_names is not None and len(class_names) == n_neurons and index == len(layers) - 1
            step = 1 if n_neurons <= 20 else 3 if named else 10
            axes.set_yticks(range(0, n_neurons, step), (class_names if named else range(n_neurons))[::step])
            axes.grid(axis="y", alpha=0.2, linewidth=0.6)
        else:
            axes.scatter(milliseconds, neurons, s=2.5, color=colour, linewidths=0)
        axes.set_ylim(n_neurons - 0.4, -0.6)
        axes.set_ylabel(name)
        silent = n_neurons - len(np.unique(neurons))
        axes.set_title(
            f"{len(milliseconds)} spikes, {silent} of {n_neurons} neurons silent",
            loc="right",
            fontsize=8,
            color="#555555",
        )
        tidy(axes)
    panels[-1].set_xlabel("time (ms)")
    panels[-1].set_xlim(left=0)
    figure.suptitle(title, fontsize=11)
    save(figure, path)
