"""How the error of a time grid grows with depth: untrained networks on a grid against the same networks in continuous time.

python experiments/time_discretization/depth.py [--layers 12] [--dts 0.5 1 2 5] [--seeds 0 1] [--data PATH] [--out FOLDER] [--help]

The k-th spike of a neuron on the grid is compared with the k-th spike of the same neuron in continuous time; spikes without a partner
are counted. Writes depth.csv and depth.png to <out>/time_discretization/.
"""

import argparse

import numpy as np
import plot
import runs
from tqdm import tqdm

import bats
from bats.data import load_image_data
from bats.device import to_numpy
from bats.discretization import ROUNDINGS
from bats.training import command_line

WIDTH, SAMPLES, TAU_S, SPIKES, T_MAX = 100, 20, 0.02, 3.0, 1.0  # SPIKES: of a neuron in continuous time, on average


def build(weights, grid, device):
    layers = [bats.InputLayer(784, grid=grid)]
    layers += [bats.LIFLayer(None, WIDTH, TAU_S, TAU_S, TAU_S, max_n_spike=30, grid=grid) for _ in weights]
    network = bats.Network(layers, device=device, dtype="float64")
    for layer, own in zip(network.layers[1:], weights, strict=True):
        layer.weights = own
    return network


def draw_weights(rng, n_layers, inputs, device):
    """Weights whose gain, layer by layer, makes a neuron spike SPIKES times on average."""
    weights = []
    for n in range(n_layers):
        own = rng.normal(0.5, 1.0, (WIDTH, WIDTH if n else 784))
        low, high = 0.0, 2.0
        for _ in range(12):
            gain = (low + high) / 2
            _, counts = build([*weights, gain * own], None, device).forward(*inputs, max_simulation=T_MAX)
            low, high = (gain, high) if counts.mean() < SPIKES else (low, gain)
        weights.append(gain * own)
    return weights


def trains_of(network, inputs):
    network.forward(*inputs, max_simulation=T_MAX, training=True)
    return [to_numpy(layer.spike_trains[0]) for layer in network.layers[1:]]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--layers", type=int, default=12)
    add("--dts", type=float, nargs="+", default=[0.5, 1, 2, 5], metavar="MS")
    add("--seeds", type=int, nargs="+", default=[0, 1], metavar="N")
    add("--device", choices=("auto", "cpu", "cuda"), default="auto")
    add("--data", metavar="PATH", help="folder or file with MNIST (default: BATS_DATA, datasets/, the user cache)")
    add("--out", metavar="FOLDER", help="results root (default: results/ of the checkout, or ./results)")
    add("--no-progress", action="store_true")
    options = parser.parse_args()
    images = load_image_data("mnist", options.data).x_test[:SAMPLES].reshape(SAMPLES, 784, 1)
    inputs = np.where(images > 0, runs.T_INPUT * (1 - images / 255), np.inf), (images[:, :, 0] > 0).astype(np.int32)
    rows = []
    with tqdm(total=len(options.seeds) * len(ROUNDINGS) * len(options.dts), disable=options.no_progress) as bar:
        for seed in options.seeds:
            weights = draw_weights(np.random.default_rng(seed), options.layers, inputs, options.device)
            exact = trains_of(build(weights, None, options.device), inputs)
            for rounding in ROUNDINGS:
                for dt in options.dts:
                    found = trains_of(build(weights, bats.TimeGrid(1e-3 * dt, rounding), options.device), inputs)
                    for n, (times, expected) in enumerate(zip(found, exact, strict=True), start=1):
                        both, either = (f(np.isfinite(times), np.isfinite(expected)) for f in (np.logical_and, np.logical_or))
                        shift = 1e3 * (times[both] - expected[both])
                        per_neuron = both.sum() / times[..., 0].size
                        rows.append({
                            "seed": seed, "rounding": rounding, "dt_ms": dt, "layer": n, "spikes_per_neuron": round(per_neuron, 4),
                            "mean_shift_ms": round(shift.mean(), 5), "mean_size_ms": round(np.abs(shift).mean(), 5),
                            "deviation_ms": round(shift.std(), 5), "without_partner": round(1 - both.sum() / either.sum(), 5),
                        })  # fmt: skip
                    bar.set_postfix(dt=f"{dt:g} ms", rounding=rounding, last_layer=f"{rows[-1]['mean_shift_ms']:.2f} ms")
                    bar.update()
    folder = command_line.results_root(options.out) / "time_discretization"
    runs.write_rows(folder / "depth.csv", rows)
    draw(rows, options.dts, folder / "depth.png")


def draw(rows, dts, path):
    figure, axes = plot.new_figure(3, 14, 4)
    for rounding, style in zip(ROUNDINGS, ("-", "--", ":"), strict=True):
        for dt, colour in zip(dts, plot.bats_colours(len(dts)), strict=True):
            own = [row for row in rows if row["rounding"] == rounding and row["dt_ms"] == dt]
            depth = sorted({row["layer"] for row in own})
            for axis, column in zip(axes, ("mean_shift_ms", "deviation_ms", "without_partner"), strict=True):
                values = [np.mean([row[column] for row in own if row["layer"] == n]) for n in depth]
                scale = 100 if column == "without_partner" else 1
                axis.plot(depth, scale * np.array(values), ls=style, color=colour, lw=1.2, label=f"{dt:g} ms, {rounding}")
    axes[0].set(ylabel="mean shift (ms)", title="shift of matched spikes")
    axes[1].set(ylabel="standard deviation of the shift (ms)", title="spread of the shift")
    axes[2].set(ylabel="spikes without a partner (%)", title="lost and additional spikes")
    for axis in axes:
        axis.set_xlabel("layer")
        axis.grid(alpha=0.3)
    axes[0].legend(fontsize=6, ncols=3)
    plot.save(figure, path)


if __name__ == "__main__":
    main()
