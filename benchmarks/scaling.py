"""Time and memory of a training step against hidden neurons, batch size, and events per sample, fused and plain.

Synthetic spike trains (scaling_cases.py): 784 inputs, 140 events per sample, 800 hidden neurons, batch 64, thresholds of the
MNIST count job; one of these grows at a time (the events at batch 16 with 128 hidden neurons), weights are scaled so that
neurons go on firing as they do. Adam at learning rate 0, so that all steps do the same work. Time is the median of --steps
steps in a row (Clock.in_a_row), of fewer where they are slow (--seconds per point); as in a training, several of them may be
one graph, of whose time each has its share (steps_per_time; 1 where a record has none). A spike is an input event or a spike of
a layer. Memory is what the step holds beside the data (the fused step's list of their events counts as data). A point that
needs more than --memory-gb, or runs out of memory or time, is left out with the reason.

    python benchmarks/scaling.py --device cuda --out results/scaling_cuda.json --plot results/figures/scaling_cuda.png
    python benchmarks/scaling.py --device cpu --quick
"""

import argparse
import gc
import statistics
import time

import environment
import numpy as np
import scaling_cases
from clock import Clock

import bats
from bats.step import Step

KINDS = {"plain": False, "fused": "auto"}
ROW, MOST_INDICES = 50, 2**20  # steps in a row; indices of their order
CONSTANT_WITHIN = 1.5  # what issue 4 asks of the time per spike over batches of 64 to 16 384


def measure(case, kind, device, options):
    """A row; {"skipped": why} instead of figures where there are none."""
    row = {"kind": kind, "hidden": case.hidden, "batch": case.batch, "events": case.events, "inputs": case.inputs}
    expected = case.estimate(kind == "fused")
    if expected > 1e9 * options.memory_gb:
        return {**row, "skipped": f"needs about {expected / 1e9:.1f} GB, the budget is {options.memory_gb:g} GB"}
    gc.collect()
    try:
        return {**row, **_figures(case, kind, device, options)}
    except Exception as error:
        if not isinstance(error, MemoryError) and "OutOfMemory" not in type(error).__name__:
            raise
        return {**row, "skipped": f"out of memory: {str(error).splitlines()[0]}"}
    finally:
        if device == "cuda":
            gc.collect()
            bats.device.array_module(device).get_default_memory_pool().free_all_blocks()


def _figures(case, kind, device, options):
    clock = Clock(device=device)
    network = scaling_cases.network(case, device, "float32")
    before = clock.memory()
    weights = sum(layer.weights.nbytes for layer in network.trainable_layers)
    data = scaling_cases.source(case).to(device, "float32")
    data_bytes = data.times.nbytes + data.counts.nbytes
    loss, optimizer = bats.SpikeCountClassLoss(15, 3), bats.AdamOptimizer(0)
    step = Step(network, loss, data, case.batch, scaling_cases.T_MAX, optimizer, fused=KINDS[kind])
    if KINDS[kind] and not step.fused:
        return {"skipped": f"not fused: {step.fused_reason}"}
    order = np.arange(case.batch)
    for _ in range(3):  # compiled, captured, replayed
        step.start(order)
        slow = clock.time(step.train_next)
    held = clock.memory()
    wanted = max(4, min(options.steps, int(1e3 * options.seconds / max(slow, 1e-6))))
    many = max(4, min(ROW, wanted + 1, MOST_INDICES // case.batch))  # steps in a row
    at_once = max(1, min(step.steps_at_once, wanted // 4, MOST_INDICES // (many * case.batch)))
    order = np.tile(order, many * at_once)

    def some():
        step.train_next(steps=at_once)

    for _ in range(2):  # a longer order is another array: captured anew
        step.start(order)
        clock.in_a_row(some, 2)
    step.reset_metrics()
    times = []
    while at_once * len(times) < wanted:
        step.start(order)
        times += [time / at_once for time in clock.in_a_row(some, many)[1:]]  # the first waits for its launch
    layers = step.metrics()["layers"]
    ms, spikes = statistics.median(times), case.events + sum(layer["spikes_per_sample"] for layer in layers.values())
    table = getattr(getattr(step, "_fused", None), "table", None)
    table_bytes = 0 if table is None else sum(getattr(array, "nbytes", 0) for array in vars(table).values())
    memory = None if before is None else (held - before - data_bytes - table_bytes) / 1e6
    return {
        "steps": at_once * len(times), "steps_per_time": at_once, "ms_per_step": ms, "spikes_per_sample": spikes,
        "ns_per_spike": 1e6 * ms / (case.batch * spikes),
        "memory_mb": memory, "weights_mb": weights / 1e6, "spikes_mb": 12 * case.batch * spikes / 1e6, "data_mb": data_bytes / 1e6,
        "event_table_mb": table_bytes / 1e6, "overflow": sum(layer["overflow"] for layer in layers.values()),
    }  # fmt: skip


def slope(x, y):
    """Of log y over log x, by least squares; None for fewer than two points."""
    return None if len(set(x)) < 2 else float(np.polyfit(np.log(x), np.log(y), 1)[0])


def summarise(rows):
    """What the sweeps say: slopes, and the two claims of issue 4."""
    good = [row for row in rows if "skipped" not in row]
    found = {}
    for sweep in dict.fromkeys(row["sweep"] for row in good):
        for kind in KINDS:
            part = [row for row in good if (row["sweep"], row["kind"]) == (sweep, kind)]
            if not part:
                continue
            x = [row[row["field"]] for row in part]
            memory = [(row["spikes_mb"] + row["weights_mb"], row["memory_mb"]) for row in part if row["memory_mb"] and row["memory_mb"] > 0]
            entry = {
                "slope_ms": slope(x, [row["ms_per_step"] for row in part]),
                "slope_memory_over_spikes_and_weights": slope(*zip(*memory, strict=True)) if len(memory) > 1 else None,
                "memory_per_byte_of_spikes_and_weights": [round(b / a, 2) for a, b in memory],
            }
            large = [row["ns_per_spike"] for row in part if row["batch"] >= 64]
            if sweep == "batch" and len(large) > 1:
                ratio = max(large) / min(large)
                entry |= {"ns_per_spike_max_over_min_from_64": ratio, "constant_within_1.5": ratio <= CONSTANT_WITHIN}
            found[f"{sweep}, {kind}"] = entry
    return found


def line(row):
    start = f"{row['sweep']:8s} {row['kind']:6s} {row[row['field']]:8d}  "
    if "skipped" in row:
        return start + f"skipped: {row['skipped']}"
    memory = "-" if row["memory_mb"] is None else f"{row['memory_mb']:.1f} MB"
    spikes = f"{row['spikes_per_sample']:10.0f} spikes per sample  {row['ns_per_spike']:8.3f} ns per spike"
    return start + f"{row['ms_per_step']:10.4f} ms  {spikes}  {memory}"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda"))
    parser.add_argument("--sweeps", nargs="+", default=["neurons", "batch", "events"], choices=("neurons", "batch", "events"))
    parser.add_argument("--kinds", nargs="+", default=list(KINDS), choices=list(KINDS))
    parser.add_argument("--quick", action="store_true", help="three small sizes of each")
    parser.add_argument("--steps", type=int, default=200, help="steps timed (default %(default)s)")
    parser.add_argument("--seconds", type=float, default=3, help="for the steps of one point, at most (default %(default)s)")
    parser.add_argument("--total-seconds", type=float, default=400, help="after which no point is begun (default %(default)s)")
    parser.add_argument("--memory-gb", type=float, default=24, help="most that a point may need (default %(default)s)")
    parser.add_argument("--out", help="JSON file for the results")
    parser.add_argument("--plot", help="PNG file for a figure of them")
    options = parser.parse_args()
    device = bats.device.resolve(options.device)
    kinds = options.kinds if device == "cuda" else ["plain"]
    end, rows = time.perf_counter() + options.total_seconds, []
    for sweep, (field, cases) in scaling_cases.sweeps(options.quick, device).items():
        for case in cases if sweep in options.sweeps else ():
            for kind in kinds:
                where = {"sweep": sweep, "field": field, field: getattr(case, field), "kind": kind}
                late = time.perf_counter() > end
                found = {"skipped": f"the run's {options.total_seconds:g} s were over"} if late else measure(case, kind, device, options)
                rows.append({**where, **found})
                print(line(rows[-1]), flush=True)
    record = environment.record(device=device, dtype="float32", rows=rows, summary=summarise(rows))
    for name, entry in record["summary"].items():
        print(name, entry)
    if options.out:
        environment.write(options.out, record)
    if options.plot:
        from plots_speed import scaling

        scaling(record, options.plot)


if __name__ == "__main__":
    main()
