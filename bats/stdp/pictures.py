"""Pictures of an STDP network: what its features look like, and when the neurons of each layer spike for an image."""

import numpy as np

from bats.device import to_numpy
from bats.training.plots import new_figure, save


def feature_sheet(pictures, title, path, columns=10, most=100):
    """A sheet of pictures [F, h, w], the first `most`, each on its own grey scale around 0 (grey: 0, white: ON, black: OFF)."""
    pictures = np.asarray(pictures)[:most]
    columns = min(columns, len(pictures))
    rows = -(-len(pictures) // columns)
    figure = new_figure(0.62 * columns + 0.4, 0.62 * rows + 0.8)
    for axes in _grid(figure, rows, columns, pictures):
        axes.axis("off")
    figure.suptitle(title, fontsize=9)
    save(figure, path)


def class_sheet(pictures, class_names, title, path, columns=10):
    """A row for each class with the pictures, of [F, h, w] in order of the classes, of its `columns` neurons of most contrast."""
    groups = np.asarray(pictures).reshape(len(class_names), -1, *np.shape(pictures)[1:])
    columns = min(columns, groups.shape[1])
    best = np.argsort(-groups.std(axis=(2, 3)), axis=1, kind="stable")[:, :columns]
    chosen = np.take_along_axis(groups, best[..., None, None], axis=1).reshape(-1, *groups.shape[2:])
    figure = new_figure(0.62 * columns + 1.2, 0.62 * len(class_names) + 0.8)
    limit = float(np.abs(chosen).max())  # one scale for all: neurons that learned little stay grey
    for place, axes in enumerate(_grid(figure, len(class_names), columns, chosen, limit)):
        axes.set(xticks=[], yticks=[])
        axes.spines[:].set_visible(False)
        if place % columns == 0:
            axes.set_ylabel(class_names[place // columns], rotation=0, ha="right", va="center", fontsize=8)
    figure.suptitle(title, fontsize=9)
    save(figure, path)


def _grid(figure, rows, columns, pictures, limit=None):
    """The axes of a grid in order, the pictures drawn on the first of them, from -limit (None: each its own) to limit."""
    grid = list(figure.subplots(rows, columns, squeeze=False).flat)
    for axes, picture in zip(grid, pictures, strict=False):
        scale = max(limit or float(np.abs(picture).max()), np.finfo(float).tiny)
        axes.imshow(picture, cmap="gray", vmin=-scale, vmax=scale, interpolation="nearest")
    return grid


def activation_maps(image, layers, n_bins, title, path, maps=10):
    """The spike latencies of one image through the network, a row per layer; white: no spike.

    image [H, W] grey; layers: {name: latencies uint8 [C, H, W]}; of a layer, the `maps` features with most spikes are shown.
    """
    from matplotlib import colormaps

    colours = colormaps["viridis_r"].with_extremes(over="white")
    figure = new_figure(0.85 * (maps + 1) + 1.2, 0.98 * len(layers) + 1.1)
    grid = figure.subplots(len(layers), maps + 1, squeeze=False)
    for row, (name, latencies) in zip(grid, layers.items(), strict=True):
        latencies = to_numpy(latencies)
        spikes = (latencies < n_bins).sum(axis=(1, 2))
        shown = np.argsort(-spikes, kind="stable")[:maps]
        for axes in row:
            axes.axis("off")
        row[0].text(1.0, 0.5, f"{name}\n{spikes.sum()} spikes", ha="right", va="center", fontsize=8, transform=row[0].transAxes)
        for axes, feature in zip(row[1:], shown, strict=False):
            drawn = axes.imshow(latencies[feature], cmap=colours, vmin=0, vmax=n_bins - 1, interpolation="nearest")
            axes.axis("on")
            axes.set(xticks=[], yticks=[])
            axes.set_title(f"{feature}", fontsize=7, pad=2)
    corner = grid[0, 0].inset_axes((0.25, 0.62, 0.75, 0.75))
    corner.imshow(image, cmap="gray_r")
    corner.axis("off")
    bar = figure.colorbar(drawn, ax=grid, shrink=0.6, extend="max")
    bar.set_label("latency (time bin); white: never", fontsize=8)
    figure.suptitle(title, fontsize=10)
    save(figure, path)


def layer_outputs(model, latencies):
    """{layer name: latencies uint8 [n, C, H, W]} of every layer of a LayeredModel for padded, encoded images."""
    found = {"encoded": latencies}
    for stage in model.stages:
        for name, layer in stage.layers.items():
            found[name] = layer.forward(latencies)
        latencies = stage.output(latencies)
    for name, layer in model.readout.pretraining.items():
        found[name] = layer.forward(latencies)
    return found
