"""The figures of the speed benchmarks, each from its record: ops, training, scaling, peers, accuracy of the fused step.

python benchmarks/plots_speed.py             all records of results/ that are there, into results/figures/
"""

import json

import environment
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

RESULTS = environment.ROOT / "results"
BLUE, ORANGE, GREY, GREEN, RED = "#1f5fa8", "#d1662b", "#6b6b6b", "#3a8f5c", "#a8323e"
COLOURS = {"fused": BLUE, "plain": ORANGE}
TITLES = {
    "count": "MNIST, spike count", "ttfs": "MNIST, time to first spike", "conv": "MNIST, convolutional",
    "fashion": "Fashion-MNIST, two hidden layers",
}  # fmt: skip
TARGETS = {"count": {50: 0.05, 256: 0.15, 1024: 0.55}, "ttfs": {50: 0.05, 256: 0.15, 1024: 0.55}, "conv": {20: 0.27}, "fashion": {5: 0.065}}
PLAIN_NUMBERS = FuncFormatter(lambda value, _: f"{value:g}")


def new_figure(width, height):
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def finish(figure, path):
    figure.savefig(path, dpi=120)
    print(f"written: {path}")


def plain_numbers(*axes):
    """Tick labels of logarithmic axes without powers; more of them where an axis spans little."""
    for axis in axes:
        low, high = axis.get_view_interval()
        axis.set_major_formatter(PLAIN_NUMBERS)
        axis.set_minor_formatter(NullFormatter())
        if high < 100 * low:
            axis.set_major_locator(LogLocator(subs=(1, 2, 5)))


def device_of(record):
    return record["environment"].get("gpu") or record["environment"]["cpu"]


def ops(record, path):
    """A bar per operation, its floor in front of it; a panel per batch size."""
    batches = list(dict.fromkeys(row["batch"] for row in record["rows"]))
    most = max(sum(row["batch"] == batch for row in record["rows"]) for batch in batches)
    figure = new_figure(0.8 + 6.2 * len(batches), 1.4 + 0.27 * most)
    for axis, batch in zip(np.atleast_1d(figure.subplots(1, len(batches))), batches, strict=True):
        rows = [row for row in record["rows"] if row["batch"] == batch][::-1]
        for place, row in enumerate(rows):
            axis.barh(place, row["us"], color=COLOURS[row["step"]], alpha=0.55, height=0.75)
            if row["floor_us"] > 0:
                axis.barh(place, row["floor_us"], color="#222222", height=0.28)
            share = f"{100 * row['share_of_floor']:.0f} %" if row["floor_us"] > 0 else "-"
            axis.text(1.08 * max(row["us"], row["floor_us"]), place, f"{row['us']:.3g} us, {share}", va="center", fontsize=7)
        axis.set_yticks(range(len(rows)), [row["op"].replace("_", " ") for row in rows], fontsize=8)
        times = [row["us"] for row in rows]
        axis.set(xscale="log", xlabel="time (us); number: the floor as a share of it", title=f"{TITLES[record['job']]}, batch {batch}")
        axis.set_xlim(min(times) / 20, max(times) * 12)
        axis.grid(alpha=0.3, axis="x")
        plain_numbers(axis.xaxis)
    handles = [
        axis.barh(0, 0, color=colour, alpha=alpha) for colour, alpha in ((COLOURS["plain"], 0.55), (COLOURS["fused"], 0.55), ("#222222", 1))
    ]
    figure.legend(handles, ["plain step", "fused step", "floor"], loc="outside lower center", ncols=3, fontsize=8, frameon=False)
    figure.suptitle(f"Operations of a training step, {device_of(record)}", fontsize=10)
    finish(figure, path)


def training(record, path):
    """Milliseconds per step against the batch size, a panel per job."""
    measured = [row for row in record["rows"] if "cpu" not in row]  # the table has a line of another machine
    jobs = list(dict.fromkeys(row["job"] for row in measured))
    columns = min(2, len(jobs))
    figure = new_figure(0.6 + 4.4 * columns, 0.5 + 3.2 * -(-len(jobs) // columns))
    axes = np.atleast_1d(figure.subplots(-(-len(jobs) // columns), columns)).ravel()
    for axis in axes[len(jobs) :]:
        axis.set_visible(False)
    for axis, job in zip(axes, jobs, strict=False):
        for kind, colour in COLOURS.items():
            own = [row for row in measured if row["job"] == job and row.get("fused", False) == (kind == "fused")]  # old records: plain
            rows = sorted((row["batch"], row["ms_per_step"]) for row in own)
            if rows:
                axis.plot(*zip(*rows, strict=True), color=colour, marker="o", markersize=4, linewidth=1.3, label=f"{kind} step")
        if TARGETS[job] and record["device"] == "cuda":
            axis.plot(*zip(*TARGETS[job].items(), strict=True), "v", color=RED, markersize=7, markerfacecolor="none", label="target (H200)")
        axis.set(xscale="log", yscale="log", title=TITLES[job], xlabel="batch", ylabel="ms per step")
        axis.grid(alpha=0.3)
        plain_numbers(axis.xaxis, axis.yaxis)
        axis.legend(fontsize=8)
    figure.suptitle(f"A training step, {device_of(record)}", fontsize=10)
    finish(figure, path)


X_LABELS = {"hidden": "hidden neurons", "batch": "batch", "events": "input events per sample"}


def scaling(record, path):
    """A column per sweep: time per step, time per spike, memory; slopes in the legends."""
    from scaling import slope

    rows = [row for row in record["rows"] if "skipped" not in row]
    sweeps = list(dict.fromkeys(row["sweep"] for row in rows))
    figure = new_figure(0.6 + 3.9 * len(sweeps), 8.4)
    axes = figure.subplots(3, len(sweeps), squeeze=False)
    for column, sweep in enumerate(sweeps):
        for kind, colour in COLOURS.items():
            part = [row for row in rows if (row["sweep"], row["kind"]) == (sweep, kind)]
            if not part:
                continue
            x = [row[row["field"]] for row in part]
            style = {"color": colour, "marker": "o", "markersize": 4, "linewidth": 1.3}
            for axis, name in zip(axes[:, column], ("ms_per_step", "ns_per_spike", "memory_mb"), strict=True):
                good = [(a, row[name]) for a, row in zip(x, part, strict=True) if row[name] is not None and row[name] > 0]
                if good:
                    steep = slope(*zip(*good, strict=True))
                    axis.plot(*zip(*good, strict=True), label=kind if steep is None else f"{kind}, slope {steep:.2f}", **style)
        part = [row for row in rows if row["sweep"] == sweep]
        least = sorted({(row[row["field"]], row["spikes_mb"] + row["weights_mb"]) for row in part if row["kind"] == part[0]["kind"]})
        axes[2, column].plot(*zip(*least, strict=True), ":", color="#222222", linewidth=1, label="spikes (12 B each) + weights")
        for axis, label in zip(axes[:, column], ("ms per step", "ns per spike", "MB beside the data"), strict=True):
            axis.set(xscale="log", yscale="log", xlabel=X_LABELS[part[0]["field"]], ylabel=label)
            axis.grid(alpha=0.3)
            plain_numbers(axis.yaxis)
            axis.legend(fontsize=7.5)
        axes[0, column].set_title({"neurons": "Neurons", "batch": "Batch", "events": "Events"}[sweep])
    figure.suptitle(f"Scaling of a training step, synthetic spike trains, {device_of(record)}", fontsize=10)
    finish(figure, path)


def peers(record, path):
    """A bar per library, fastest first, with the accuracy after one epoch."""
    rows = sorted((row for row in record["rows"] if "skipped" not in row), key=lambda row: -row["ms_per_step"])
    skipped = [f"{row['name']}: {row['skipped']}" for row in record["rows"] if "skipped" in row]
    figure = new_figure(8, 1.3 + 0.5 * len(rows) + 0.16 * len(skipped))
    axis = figure.add_subplot()
    for place, row in enumerate(rows):
        axis.barh(place, row["ms_per_step"], color=BLUE if row["name"].startswith("bats") else GREY, height=0.65)
        accuracy = row["accuracy_percent_after_1_epoch"]
        said = "" if accuracy is None else f", {accuracy:.1f} % after 1 epoch"
        memory = "" if row["memory_mb"] is None else f", {row['memory_mb']:.0f} MB"
        axis.text(1.1 * row["ms_per_step"], place, f"{row['ms_per_step']:.3g} ms{memory}{said}", va="center", fontsize=8)
    names = [row["name"] if row["name"].startswith("bats") else f"{row['name']} {row['version']}" for row in rows]
    axis.set_yticks(range(len(rows)), names)
    times = [row["ms_per_step"] for row in rows]
    axis.set(xscale="log", xlim=(min(times) / 3, max(times) * 25), xlabel="ms per step of training, batch 50")
    plain_numbers(axis.xaxis)
    axis.grid(alpha=0.3, axis="x")
    axis.set_title(f"784-800-10 on MNIST, {device_of(record)}", fontsize=10)
    if skipped:
        figure.text(0.01, 0.0, "\n".join(text[:110] for text in skipped), fontsize=7, va="bottom", color=GREY)
        figure.get_layout_engine().set(rect=(0, 0.05 * len(skipped), 1, 1 - 0.05 * len(skipped)))
    finish(figure, path)


def accuracy_fused(record, path):
    """Test accuracy over the epochs, a line per seed and their mean, with and without the remedy."""
    jobs = list(dict.fromkeys(row["job"] for row in record["rows"]))
    figure = new_figure(0.6 + 4.4 * len(jobs), 4.2)
    for axis, job in zip(np.atleast_1d(figure.subplots(1, len(jobs))), jobs, strict=True):
        remedies = sorted({row["remedy"] for row in record["rows"] if row["job"] == job})
        for place, remedy in enumerate(remedies):
            colour = BLUE if not remedy else (GREEN, ORANGE, GREY, "#8a4fa0")[(place - (0.0 in remedies)) % 4]
            rows = [row for row in record["rows"] if (row["job"], row["remedy"]) == (job, remedy)]
            for row in rows:
                values = row["test_accuracy_percent"]
                axis.plot(range(1, len(values) + 1), values, color=RED if row["nearly_silent"] else colour, linewidth=0.6, alpha=0.6)
            if rows:
                mean = np.mean([row["test_accuracy_percent"] for row in rows], axis=0)
                label = f"{f'remedy {remedy:g}' if remedy else 'without the remedy'}, {rows[0]['step'].split(':')[0]}, mean of {len(rows)}"
                axis.plot(range(1, len(mean) + 1), mean, color=colour, marker="o", markersize=4, linewidth=1.8, label=label)
        if any(row["nearly_silent"] for row in record["rows"] if row["job"] == job):
            axis.plot([], [], color=RED, label="an output nearly silent after epoch 1")
        axis.set(title=TITLES[job], xlabel="epoch", ylabel="test accuracy (%)")
        axis.grid(alpha=0.3)
        axis.legend(fontsize=7.5, loc="upper center", bbox_to_anchor=(0.5, -0.16), frameon=False)
    figure.suptitle(f"Test accuracy over seeds, {device_of(record)}", fontsize=10)
    finish(figure, path)


FIGURES = {
    "ops_cuda": ops, "ops_cpu": ops, "table_cuda": training, "scaling_cuda": scaling, "scaling_cpu": scaling, "peers_cuda": peers,
    "accuracy_fused_cuda": accuracy_fused,
}  # fmt: skip


def main():
    (RESULTS / "figures").mkdir(parents=True, exist_ok=True)
    for name, draw in FIGURES.items():
        record = RESULTS / f"{name}.json"
        if record.is_file():
            draw(json.loads(record.read_text(encoding="utf-8")), RESULTS / "figures" / f"{name}.png")


if __name__ == "__main__":
    main()
