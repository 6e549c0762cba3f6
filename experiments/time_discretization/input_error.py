"""What a time grid does to the input: quantization error against dt, and the spectrum of the input spike train.

python experiments/time_discretization/input_error.py [--data PATH] [--out FOLDER] [--help]

Pixels are 8 bits, so spikes come at multiples of 0.1 / 255 s = 0.392157 ms, and a step resonates with that quantum. Writes
input_error.csv, input_spectrum.csv and input_error.png to <out>/time_discretization/.
"""

import argparse

import numpy as np
import plot
import runs

import bats
from bats.data import load_image_data
from bats.discretization import ROUNDINGS
from bats.training import command_line

QUANTUM = runs.T_INPUT / 255  # seconds
DTS = np.arange(2, 251) * 2e-5  # seconds


def errors(times, shares, dt, rounding):
    """Mean, mean size and standard deviation of the shift (s) of times that occur with these shares."""
    shift = bats.TimeGrid(dt, rounding).discretize(times) - times
    mean = (shares * shift).sum()
    return mean, (shares * np.abs(shift)).sum(), np.sqrt((shares * (shift - mean) ** 2).sum())


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", metavar="PATH", help="folder or file with MNIST (default: BATS_DATA, datasets/, the user cache)")
    parser.add_argument("--out", metavar="FOLDER", help="results root (default: results/ of the checkout, or ./results)")
    options = parser.parse_args()
    folder = command_line.results_root(options.out) / "time_discretization"
    data = load_image_data("mnist", options.data)
    pixels = np.bincount(data.x_train.ravel(), minlength=256)[1:]
    sets = {
        "uniform": (np.random.default_rng(0).uniform(0, 0.01, 1000), np.full(1000, 1e-3)),
        "mnist pixels": (runs.T_INPUT * (1 - np.arange(1, 256) / 255), pixels / pixels.sum()),
    }
    rows = []
    for name, (times, shares) in sets.items():
        for rounding in ROUNDINGS:
            for dt in [*DTS, *(QUANTUM * n for n in range(1, 13))]:
                found = dict(zip(("mean_us", "mean_size_us", "deviation_us"), errors(times, shares, dt, rounding), strict=True))
                microseconds = {column: round(1e6 * value, 4) for column, value in found.items()}
                rows.append({"times": name, "rounding": rounding, "dt_ms": round(1e3 * dt, 6), **microseconds})
    runs.write_rows(folder / "input_error.csv", rows)
    times, shares = sets["mnist pixels"]
    frequencies = np.arange(10, 6000, 10.0)
    amplitude = {dt: spectrum(times if dt == 0 else bats.TimeGrid(dt).discretize(times), shares, frequencies) for dt in (0, 1e-3, 5e-3)}
    columns = {f"dt_{1e3 * dt:g}_ms": values for dt, values in amplitude.items()}
    table = [{"hz": f, **{name: round(float(v[n]), 6) for name, v in columns.items()}} for n, f in enumerate(frequencies)]
    runs.write_rows(folder / "input_spectrum.csv", table)
    draw(rows, frequencies, amplitude, folder / "input_error.png")


def spectrum(times, shares, frequencies):
    """|sum of the spikes' phasors| / number of spikes: 1 where all are in phase."""
    return np.abs((shares * np.exp(-2j * np.pi * frequencies[:, None] * times)).sum(axis=1))


def draw(rows, frequencies, amplitude, path):
    figure, axes = plot.new_figure(3, 14, 4)
    for axis, name in zip(axes, ("uniform", "mnist pixels"), strict=False):
        for rounding in ROUNDINGS:
            own = sorted((r["dt_ms"], r["mean_size_us"]) for r in rows if r["times"] == name and r["rounding"] == rounding)
            axis.plot(*zip(*own, strict=True), label=rounding, lw=0.9)
        axis.set(xlabel="dt (ms)", ylabel="mean size of the shift (µs)", title=f"quantization error, {name}", xlim=(0, 5), ylim=(0, 5000))
        axis.legend(fontsize=8)
    for n in (1, 2, 3):
        axes[1].axvline(1e3 * QUANTUM * n, color="grey", lw=0.7, ls=":")
    for dt, values in amplitude.items():
        axes[2].semilogy(frequencies, values + 1e-6, lw=0.8, label="continuous" if dt == 0 else f"dt = {1e3 * dt:g} ms")
    axes[2].axvline(1 / QUANTUM, color="grey", lw=0.7, ls=":")
    axes[2].set(xlabel="frequency (Hz); dotted: 255 / 0.1 s", ylabel="amplitude / number of spikes", title="spectrum of the MNIST input")
    axes[2].legend(fontsize=8)
    plot.save(figure, path)


if __name__ == "__main__":
    main()
