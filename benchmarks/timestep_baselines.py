"""What fused layers and the single-spike trick gain over the loop that everybody writes: one layer, forward and backward.

    python benchmarks/timestep_baselines.py --device cuda --out results/timestep_baselines

1000 inputs, batch 128, 200 neurons (--units), 128, 512 and 2048 steps (--steps); protocol in layer_timing.py. "loop" is
step_loop.py; "standard" and "fast" are the layers of bats.timestep, on spikes and on numbers that are no small integers, also
with tf32=True. Memory is all that the pool of the GPU had to reserve for forward and backward beside the input: workspaces,
partial sums, weights, gradients, in multiples of one array of currents [batch, steps, neurons]. Writes OUT.json and OUT.md.
"""

import argparse
import gc
import statistics
from pathlib import Path

import environment
from layer_timing import LayerPass, LoopPass, measure, numbers, poisson_waves

import bats
from bats.training.atomic import write_text

N_IN = 1000
CASES = [("loop", "spikes", False)]
CASES += [(kind, inputs, tf32) for tf32 in (False, True) for inputs in ("spikes", "numbers") for kind in ("standard", "fast")]


def held(xp, device):
    """Bytes that the pool of the GPU had to reserve at once since it was last emptied; None on the CPU."""
    return xp.get_default_memory_pool().total_bytes() if device == "cuda" else None


def point(kind, inputs, tf32, n_steps, batch, n, device, repeats):
    xp = bats.device.array_module(device)
    gc.collect()
    waves = (poisson_waves if inputs == "spikes" else numbers)(xp, N_IN, n_steps, batch)
    currents = batch * n_steps * n * waves.itemsize
    if device == "cuda":
        xp.get_default_memory_pool().free_all_blocks()
    before = held(xp, device)
    passes = LoopPass(waves, n, device) if kind == "loop" else LayerPass(kind, waves, n, device, inputs == "spikes", tf32)
    own_input = passes.inputs.nbytes if kind == "loop" else 0  # its copy in another order counts as input
    forward, backward = measure(passes, device, repeats)
    after = held(xp, device)
    memory = None if before is None else after - before - own_input
    forward, backward = statistics.median(forward), statistics.median(backward)
    return {
        "layer": kind, "inputs": inputs, "tf32": tf32, "steps": n_steps, "batch": batch, "neurons": n, "repeats": repeats,
        "forward_ms": forward, "backward_ms": backward, "both_ms": forward + backward, "memory_bytes": memory,
        "memory_in_currents": memory and memory / currents,
    }  # fmt: skip


def table(record):
    """Markdown."""
    lines = [
        f"`{record['command']}`, {record['date']}, {record['environment'].get('gpu', record['environment']['cpu'])}, "
        f"{N_IN} inputs, float32. Medians of {record['rows'][-1]['repeats']} repeats in ms (of the loop, "
        f"{record['rows'][0]['repeats']}); memory beside the input, in arrays of currents.",
        "",
        "| steps | batch | neurons | layer | inputs | forward | backward | both | loop / this | memory |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    loops = {row["steps"]: row["both_ms"] for row in record["rows"] if row["layer"] == "loop"}
    for row in record["rows"]:
        memory = "-" if row["memory_in_currents"] is None else f"{row['memory_in_currents']:.1f}"
        gain = f"{loops[row['steps']] / row['both_ms']:.1f}" if row["steps"] in loops else "-"
        lines.append(
            f"| {row['steps']} | {row['batch']} | {row['neurons']} | {row['layer']}{', tf32' * row['tf32']} | {row['inputs']} | "
            f"{row['forward_ms']:.3f} | {row['backward_ms']:.3f} | {row['both_ms']:.3f} | {gain} | {memory} |"
        )
    both = {(row["layer"], row["steps"]): row["both_ms"] for row in record["rows"] if row["inputs"] == "spikes" and not row["tf32"]}
    trick = [f"{both['standard', t] / both['fast', t]:.2f} at {t} steps" for t in loops if ("fast", t) in both]
    lines += ["", f"What the single-spike trick still gains against a fused scan with resets (standard / fast): {', '.join(trick)}."]
    return "\n".join(lines) + "\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda"))
    parser.add_argument("--steps", nargs="+", type=int, default=[128, 512, 2048])
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--units", type=int, default=200)
    parser.add_argument("--repeats", type=int, default=200, help="timed passes of a layer; the loop has 5 (default %(default)s)")
    parser.add_argument("--out", help="name of the results, without .json and .md")
    options = parser.parse_args()
    device = bats.device.resolve(options.device)
    rows = []
    for n_steps in options.steps:
        for kind, inputs, tf32 in CASES:
            repeats = min(5, options.repeats) if kind == "loop" else options.repeats
            rows.append(point(kind, inputs, tf32, n_steps, options.batch, options.units, device, repeats))
            row = rows[-1]
            said = f"T {n_steps:5d} {kind:9s} {inputs:8s} {'tf32' * tf32:5s} {row['forward_ms']:9.3f} + {row['backward_ms']:9.3f} ms"
            print(said, f"memory {row['memory_in_currents']}", flush=True)
    record = environment.record(device=device, dtype="float32", rows=rows)
    print(table(record))
    if options.out:
        environment.write(f"{options.out}.json", record)
        write_text(Path(f"{options.out}.md"), table(record))


if __name__ == "__main__":
    main()
