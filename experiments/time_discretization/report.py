"""Writes <out>/time_discretization/README.md, the report of the study, from its CSVs. Run plot.py before it.

python experiments/time_discretization/report.py [--out FOLDER] [--help]
"""

import argparse

import numpy as np
import plot
import runs

from bats.training import command_line
from bats.training.atomic import write_text

NAMES = {"mnist": "MNIST 784-800-10", "emnist": "EMNIST 784-800-47", "fashion": "Fashion-MNIST 784-400-400-10"}

TOP = """# Time discretization: how coarse may the clock be?

Made by `experiments/time_discretization/report.py` from the CSVs here.

**Question.** Networks of spiking neurons are trained in continuous time; digital hardware has a clock. What does a step dt cost, and how
much of the collapse that a study of 2024-25 found is its kernel's?

**Answer.**
"""
METHOD = """
**Method.** Input and all layers share the step; the clean rule and the study's are explained in
[docs/time_discretization.md](../../docs/time_discretization.md). Spike-count networks, float32, test accuracy after the last epoch, no
selection; ± is the standard deviation over the seeds. Latency: spikes of the label's neuron up to 100 ms / 15.

![A neuron under a rising drive](latching.png)
"""
INPUT = """## Input and depth

![input](input_error.png)

Pixels have 8 bits, so input spikes come at multiples of 0.1/255 s = 0.392157 ms: the error of the input jumps where dt is a multiple of
this quantum, and the spectrum has a line at 2550 Hz that a coarser clock replaces by lines at multiples of 1/dt.
"""


def cell(rows, rule, dt, column, digits):
    """Mean ± standard deviation over the seeds, or an empty cell."""
    own = [row for row in rows if float(row["dt_ms"]) == dt and (row["rule"] == rule or dt == 0)]
    if not own:
        return ""
    _, mean, spread = plot.by_step(own, column)
    return f"{mean[0]:.{digits}f}" + (f" ± {spread[0]:.{digits}f}" if len(own) > 1 else "")


def table(rows):
    layers = plot.layers_of(rows)
    head = ["dt (ms)", "runs", "accuracy (%)", *(f"spikes, {layer}" for layer in layers), "latency at 100 ms"]
    head += ["study: runs", "accuracy (%)", f"spikes, {layers[-1]}"]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for dt in sorted({float(row["dt_ms"]) for row in rows}):
        n = {rule: sum(float(r["dt_ms"]) == dt and r["rule"] == rule for r in rows) for rule in ("clean", "study")}
        cells = [f"{dt:g}" if dt else "continuous", str(n["clean"]), cell(rows, "clean", dt, "accuracy_percent", 2)]
        cells += [cell(rows, "clean", dt, f"spikes_{layer}", 1) for layer in layers] + [cell(rows, "clean", dt, "latency_100_ms", 3)]
        study = [str(n["study"]), cell(rows, "study", dt, "accuracy_percent", 2), cell(rows, "study", dt, f"spikes_{layers[-1]}", 1)]
        cells += study if n["study"] else ["", "", ""]
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def accuracies(rows, rule):
    """{dt: mean accuracy} of a rule, dt > 0."""
    steps, mean, _ = plot.by_step([row for row in rows if row["rule"] == rule], "accuracy_percent")
    return {dt: value for dt, value in zip(steps, mean, strict=True) if dt > 0}


def answer(name, rows, crosses):
    """Three sentences from the numbers."""
    clean = accuracies(rows, "clean")
    continuous = np.mean([float(row["accuracy_percent"]) for row in rows if float(row["dt_ms"]) == 0])
    flat = [dt for dt in sorted(clean) if all(clean[d] >= continuous - 0.3 for d in clean if d <= dt)]
    close = sum(value >= continuous - 0.3 for value in clean.values())
    reach = f"up to {flat[-1]:g} ms" if flat else f"at {close} of {len(clean)} steps"
    worst = min(clean, key=clean.get)
    sentences = [
        f"{NAMES[name]}: in continuous time {continuous:.2f} %; trained on the grid, the clean rule stays within 0.3 points of that "
        f"{reach} and is lowest at {worst:g} ms with {clean[worst]:.2f} %."
    ]
    if any(row["rule"] == "study" for row in rows):
        study = accuracies(rows, "study")
        both = "; ".join(f"{dt:g} ms: {study[dt]:.2f} % against {clean[dt]:.2f} %" for dt in sorted(study) if dt in clean)
        sentences.append(f"With the study's rule, against the clean one: {both}.")
    if crosses:
        end = max(float(row["dt_test_ms"]) for row in crosses)
        tested = [row for row in crosses if float(row["dt_test_ms"]) == end]
        value = {dt: np.mean([float(row["accuracy_percent"]) for row in tested if float(row["dt_train_ms"]) == dt]) for dt in (0, end)}
        sentences.append(
            f"Weights trained in continuous time and tested at {end:g} ms reach {value[0]:.2f} %, those trained there {value[end]:.2f} %."
        )
    return " ".join(sentences)


def depth_sentence(rows):
    last = max(int(row["layer"]) for row in rows)
    own = [row for row in rows if int(row["layer"]) == last and float(row["dt_ms"]) == 1]
    value = {name: np.mean([float(row["mean_shift_ms"]) for row in own if row["rounding"] == name]) for name in ("next", "nearest")}
    return (
        f"At dt = 1 ms, spikes of layer {last} come {value['next']:.1f} ms late with `next`, {value['next'] / last:.2f} ms per layer, "
        f"and {value['nearest']:.1f} ms late with `nearest`."
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", metavar="FOLDER", help="results root (default: results/ of the checkout, or ./results)")
    folder = command_line.results_root(parser.parse_args().out) / "time_discretization"
    read = {name: tuple(runs.read_rows(folder / f"{name}{end}.csv") for end in ("", "_cross")) for name in runs.SETS}
    read = {name: found for name, found in read.items() if found[0]}
    lines = [TOP, *(f"- {answer(name, *found)}" for name, found in read.items()), METHOD]
    for name, (rows, crosses) in read.items():
        seeds = sorted({int(row["seed"]) for row in rows})
        total = sum(float(row["seconds"]) for row in rows)
        what = f"{len(rows)} runs of {rows[0]['epochs']} epochs on {rows[0]['n_train']} samples, seeds {seeds}, on {rows[0]['device']}"
        lines += [f"## {NAMES[name]}", "", f"{what}; {total:.0f} s in all, tests included.", ""]
        lines += [*table(rows), "", f"![sweep]({name}_sweep.png)", "", f"![trade-off]({name}_trade.png)", ""]
        if crosses:
            n = len({row["seed"] for row in crosses})
            lines += [f"Trained at one step, tested at another ({n} seed{'s' if n > 1 else ''}):", "", f"![cross]({name}_cross.png)", ""]
    lines.append(INPUT)
    if rows := runs.read_rows(folder / "depth.csv"):
        what = f"Untrained networks, every spike against the same spike of the continuous network. {depth_sentence(rows)}"
        lines += ["![depth](depth.png)", "", what, ""]
    write_text(folder / "README.md", "\n".join(lines))
    print(folder / "README.md")


if __name__ == "__main__":
    main()
