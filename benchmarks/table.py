"""The table of issue 4 in one command: milliseconds per step of the four jobs, epoch, memory, inference, and the CPU, beside their
targets.

    python benchmarks/table.py --device cuda --out results/table

Each step is measured as by training.py, fused where it can be. The line of the CPU is measured in a process of its own that is
held to two cores; with --device cpu only that line is measured, and --cpu-record takes it from an earlier record (JSON of
training.py or of this script) instead. Writes OUT.json and OUT.md.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import environment
import training
from jobs import describe, load_data

import bats
from bats.training.atomic import write_text

STEPS = {  # (job, batch): target in ms per step on an H200
    ("count", 50): 0.050, ("count", 256): 0.15, ("count", 1024): 0.55, ("ttfs", 50): 0.050, ("ttfs", 256): 0.15, ("ttfs", 1024): 0.55,
    ("conv", 20): 0.27, ("fashion", 5): 0.065,
}  # fmt: skip
NAMES = {
    "count": "MNIST count 784-800-10", "ttfs": "MNIST TTFS 784-800-10", "conv": "MNIST conv", "fashion": "Fashion 784-400-400-10",
}  # fmt: skip
CPU_CORES = 2


def lines_of(rows):
    """[{name, batch, what, value, target, unit, step}] for the rows of training.py that are there; value None where one is missing."""
    by_place = {(row["job"], row["batch"]): row for row in rows if "cpu" not in row}
    cpu = next((row for row in rows if row.get("cpu")), None)
    found = []

    def add(row, name, batch, what, key, target, unit, scale=1):
        value = None if row is None or row.get(key) is None else scale * row[key]
        step = None if row is None else "fused" if row["fused"] else "plain"
        found.append({"name": name, "batch": batch, "what": what, "value": value, "target": target, "unit": unit, "step": step})

    for (job, batch), target in STEPS.items():
        add(by_place.get((job, batch)), NAMES[job], batch, "step", "ms_per_step", target, "ms")
    count = NAMES["count"]
    add(by_place.get(("count", 50)), count, 50, "epoch of 60 000, shuffle included", "epoch_seconds", 0.065, "s")
    beside_data = "memory beside the data (images and lists of their events)"
    add(by_place.get(("count", 1024)), count, 1024, beside_data, "memory_beside_data_mb", 0.2, "GB", 1e-3)
    add(by_place.get(("count", 50)), count, None, "inference, 10 000 test images", "inference_ms", 3, "ms")
    add(cpu, f"{count}, CPU, {CPU_CORES} cores", 50, "epoch of 60 000", "epoch_seconds", 8, "s")
    return found


def markdown(record):
    machine = record["environment"].get("gpu") or record["environment"]["cpu"]
    lines = [
        f"`{record['command']}`, {record['date']}, {machine}, float32. "
        "Medians; on CUDA a time is the mean of the steps of one graph (training.py). Targets: issue 4, on an H200.",
        "",
        "| job | batch | what | measured | target | measured / target | step |",
        "|---|---|---|---|---|---|---|",
    ]
    for line in record["table"]:
        if line["value"] is None:
            shown = ratio = "not measured"
        else:
            shown = f"{line['value']:.3g} {line['unit']}"
            ratio = f"{line['value'] / line['target']:.2f}"
            ratio = f"**{ratio}**" if line["value"] <= line["target"] else ratio
        batch = "any" if line["batch"] is None else line["batch"]
        target = f"<= {line['target']:g} {line['unit']}"
        lines.append(f"| {line['name']} | {batch} | {line['what']} | {shown} | {target} | {ratio} | {line['step'] or '-'} |")
    for text in record["notes"]:
        lines += ["", text]
    return "\n".join(lines) + "\n"


def gpu_rows(options):
    rows, notes = [], []
    for job in dict.fromkeys(job for job, _ in STEPS):
        try:
            data = load_data(job, options.data)
        except (FileNotFoundError, ValueError) as error:
            notes.append(f"{NAMES[job]} is missing: {str(error).splitlines()[0]}")
            continue
        for batch in [batch for name, batch in STEPS if name == job]:
            rows.append(training.measure(job, batch, "cuda", "float32", data, options.warm_up, options.steps, "auto"))
            rows[-1]["data"] = describe(data)
            print(training.line(rows[-1]), flush=True)
    return rows, notes


def cpu_row(options):
    """Measured by training.py in a process that is held to CPU_CORES cores."""
    cores = sorted(os.sched_getaffinity(0))[:CPU_CORES] if hasattr(os, "sched_setaffinity") else None
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "cpu.json"
        command = [sys.executable, str(environment.ROOT / "benchmarks" / "training.py"), "--device", "cpu", "--jobs", "count"]
        command += ["--fused", "on", "--warm-up", str(options.warm_up), "--steps", str(options.steps), "--out", str(place)]
        command += ["--data", options.data] if options.data else []
        hold = None if cores is None else lambda: os.sched_setaffinity(0, cores)
        subprocess.run(command, check=True, preexec_fn=hold, env={**os.environ, "NUMBA_NUM_THREADS": str(len(cores or [0] * CPU_CORES))})
        return read_cpu(place)


def read_cpu(path):
    """The line of the CPU in a record of training.py or of this script, with its machine. Raises ValueError if there is none."""
    record, found = json.loads(Path(path).read_text(encoding="utf-8")), []
    for row in record["rows"]:
        if row["job"] == "count" and row["batch"] == 50 and (row.get("cpu") or record["device"] == "cpu"):
            found.append({"fused": False, **row, "cpu": row.get("cpu") or record["environment"]["cpu"]})
    if not found:
        raise ValueError(f"{path}: expected a row of the count job at batch 50 on the CPU, received none")
    return max(found, key=lambda row: row["fused"])  # what a training takes by itself


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda"))
    parser.add_argument("--warm-up", type=int, default=300, help="training steps before the timing (default: %(default)s)")
    parser.add_argument("--steps", type=int, default=300, help="steps timed (default: %(default)s)")
    parser.add_argument("--cpu-record", help="JSON file with the line of the CPU, instead of measuring it")
    parser.add_argument("--no-cpu", action="store_true", help="leave the line of the CPU open")
    parser.add_argument("--data", help="a folder; default: where bats.data looks")
    parser.add_argument("--out", help="name of the results, without .json and .md")
    options = parser.parse_args()
    device = bats.device.resolve(options.device)
    rows, notes = gpu_rows(options) if device == "cuda" else ([], ["Measured without a GPU: only the line of the CPU."])
    if not options.no_cpu:
        rows.append(read_cpu(options.cpu_record) if options.cpu_record else cpu_row(options))
        notes.append(f"CPU: {rows[-1]['cpu']}, {rows[-1]['ms_per_step']:.2f} ms per step.")
    plain = [f"{NAMES[row['job']]}, batch {row['batch']}: {row['fused_reason']}" for row in rows if not row["fused"] and "cpu" not in row]
    if plain:
        notes.append("Not fused: " + "; ".join(plain) + ".")
    for row in rows:
        if row["job"] == "count" and row["batch"] == 50 and row.get("inference_device_ms") is not None:
            names = (("start", "order"), ("enqueue", "launches"), ("wait", "waiting"), ("metrics", "reading the metrics"))
            parts = ", ".join(f"{row[f'{name}_ms']:.2f} ms {what}" for name, what in names)
            notes.append(f"Inference: {row['inference_device_ms']:.2f} ms on the device; on the host {parts}.")
    record = environment.record(device=device, dtype="float32", steps=options.steps, table=lines_of(rows), notes=notes, rows=rows)
    print(markdown(record))
    if options.out:
        environment.write(f"{options.out}.json", record)
        write_text(Path(f"{options.out}.md"), markdown(record))


if __name__ == "__main__":
    main()
