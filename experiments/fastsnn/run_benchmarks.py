"""Times one layer over the published grid, forward and backward apart: results/fastsnn/benchmarks.csv.

python experiments/fastsnn/run_benchmarks.py [--quick] [--device cuda] [--help]

1000 inputs; 100 to 1000 neurons, 8 to 2048 steps, batches of 16 to 256; the fused standard layer, the fast layer and, on a part
of the grid, the step-by-step loop that everybody writes (benchmarks/step_loop.py). A row per point with the medians in seconds.
The protocol is in benchmarks/layer_timing.py. Points that the file holds already are left as they are.
"""

import argparse
import itertools
import statistics
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))

from layer_timing import LAYERS, LayerPass, LoopPass, measure, poisson_waves
from run_training import device_name, read_rows, write_rows
from tqdm import tqdm

import bats
from bats.training import command_line

N_IN = 1000
UNITS, STEPS, BATCHES = range(100, 1001, 100), [2**n for n in range(3, 12)], (16, 32, 64, 128, 256)
LOOP_UNITS, LOOP_BATCHES = (200,), (32, 128)
COLUMNS = ("type", "t_len", "units", "batch", "forward_time", "backward_time", "repeats", "device")


def grid(quick, device):
    """[(t_len, batch, type, units)], the largest step count last, so that a stopped run has the cheap points."""
    steps, batches, units = (STEPS, BATCHES, UNITS)
    if quick:
        steps, batches, units = ([8, 32, 128], (16, 32), (100, 200)) if device == "cpu" else ([8, 128, 2048], (32, 128), (200, 1000))
    points = []
    for t_len, batch, n in itertools.product(steps, batches, units):
        points += [(t_len, batch, kind, n) for kind in LAYERS]
        if n in LOOP_UNITS and batch in LOOP_BATCHES:
            points.append((t_len, batch, "loop", n))
    return points


def key(row):
    return int(row["t_len"]), int(row["batch"]), row["type"], int(row["units"]), row["device"]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a few points of the grid")
    parser.add_argument("--repeats", type=command_line.integer(1), default=10, help="timed passes per point (default %(default)s)")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto", help="(default %(default)s)")
    parser.add_argument("--out", metavar="FOLDER", help="results root (default: results/ of the checkout)")
    parser.add_argument("--no-progress", action="store_true", help="no progress bar")
    options = parser.parse_args()
    device = bats.device.resolve(options.device)
    xp, name = bats.device.array_module(device), device_name(device)
    path = command_line.results_root(options.out) / "fastsnn" / "benchmarks.csv"
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = read_rows(path)
    held = {key(row) for row in rows}
    points = [point for point in grid(options.quick, device) if (*point, name) not in held]
    bar = tqdm(total=len(points), unit=" points", disable=options.no_progress, dynamic_ncols=True)
    for (t_len, batch), group in itertools.groupby(points, key=lambda point: point[:2]):
        waves = poisson_waves(xp, N_IN, t_len, batch)
        for _, _, kind, n in group:
            bar.set_description(f"T {t_len}, batch {batch}, {kind}, {n} neurons")
            passes = LoopPass(waves, n, device) if kind == "loop" else LayerPass(kind, waves, n, device)
            repeats = min(3, options.repeats) if kind == "loop" else options.repeats
            forward, backward = measure(passes, device, repeats, warm_up=1 if kind == "loop" else 3)
            rows.append({
                "type": kind, "t_len": t_len, "units": n, "batch": batch, "forward_time": f"{statistics.median(forward) / 1e3:.4g}",
                "backward_time": f"{statistics.median(backward) / 1e3:.4g}", "repeats": repeats, "device": name,
            })  # fmt: skip
            bar.update()
            del passes
        write_rows(path, rows, COLUMNS)
        del waves
        if device == "cuda":
            xp.get_default_memory_pool().free_all_blocks()
    bar.close()
    print(f"written: {path}, {len(rows)} rows")


if __name__ == "__main__":
    main()
