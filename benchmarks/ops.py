"""Every operation of a training step at the sizes of the MNIST count job: time, bytes, and how near it is to what the machine allows.

Method: the network is trained for --warm-up steps, then one batch is taken and each operation of the plain step is launched on
it alone: on CUDA 20 times in a graph, between device events, on the CPU by the wall clock; the median. Bytes and operations are
what it cannot do without (op_list.py), floor_us the larger of bytes / bandwidth and operations / issue rate; both rates are
assumptions and stand in the record. Rows of the fused kernels come from
fused_kernels.py, in the same call: of one launch, which takes at most samples_at_once samples.

    python benchmarks/ops.py --device cuda --out results/ops_cuda.json --plot results/figures/ops.png
"""

import argparse
import gc

import environment
import op_list
from clock import COPIES, Clock, microseconds
from jobs import Work, describe, load_data

import bats

L2_BYTES_PER_SECOND = 2.9e12  # copy of 10 MB within the L2 of an H200 (shared/design/speed.md, section 3); the arrays of a step lie there
CPU_BYTES_PER_SECOND = 60e9  # the arrays of a step lie in the last cache
CPU_LANES = 2 * 8  # float32 instructions of a core and cycle: two ports of 256 bits
CPU_HERTZ = 2.8e9


def rates(device, bandwidth=None):
    """{bytes_per_second, operations_per_second, assumed: how they come about}."""
    if device == "cpu":
        cores = environment.describe()["cpu_count"]
        rate = cores * CPU_LANES * CPU_HERTZ
        said = f"{cores} cores x {CPU_LANES} lanes x {CPU_HERTZ / 1e9:g} GHz; caches {CPU_BYTES_PER_SECOND / 1e9:g} GB/s"
        return {"bytes_per_second": bandwidth or CPU_BYTES_PER_SECOND, "operations_per_second": rate, "assumed": said}
    attributes = bats.device.array_module("cuda").cuda.Device().attributes
    processors, hertz = attributes["MultiProcessorCount"], 1e3 * attributes["ClockRate"]
    said = f"one instruction per cycle on {processors} x 4 schedulers of 32 lanes at {hertz / 1e9:g} GHz; bytes from the L2 of an H200"
    return {"bytes_per_second": bandwidth or L2_BYTES_PER_SECOND, "operations_per_second": processors * 128 * hertz, "assumed": said}


def row(name, kind, batch, us, n_bytes, n_operations, rate):
    memory, arithmetic = 1e6 * n_bytes / rate["bytes_per_second"], 1e6 * n_operations / rate["operations_per_second"]
    floor = max(memory, arithmetic)
    return {
        "op": name, "step": kind, "batch": batch, "us": us, "bytes": n_bytes,
        "gb_per_second": n_bytes / us / 1e3, "operations": n_operations,
        "floor_us": floor, "bound": "memory" if memory >= arithmetic else "arithmetic", "share_of_floor": floor / us,
    }  # fmt: skip


def measure(job, batch, device, data, warm_up, rate, repeats=15):
    gc.collect()
    clock = Clock(device=device)
    work = Work(job, batch, device, "float32", data, False, clock)
    work.train_steps(warm_up)
    work.optimizer.learning_rate = 0
    work.train_steps(1)  # what the operations find is of the weights as they are
    launches = (repeats + 6) * COPIES + 2
    rows = []
    for op in op_list.make(work, launches):
        us = microseconds(clock, op.launch, repeats)
        rows.append(row(op.name, "plain", batch, us, op.n_bytes, op.n_operations, rate))
        print(line(rows[-1]), flush=True)
    work.advance()
    step_us = 1e3 * sorted(work.steps_in_a_row(20, clock))[10]
    print(f"{'whole plain step':32s} {step_us:9.2f} us; its operations alone {sum(one['us'] for one in rows):.2f} us", flush=True)
    fused, why = fused_rows(job, batch, device, data, warm_up, lambda share: op_list.fused_floors(work, share), rate)
    return rows + fused, {"batch": batch, "plain_step_us": step_us, "fused": why or "in the rows"}


def fused_rows(job, batch, device, data, warm_up, floors, rate):
    """(rows of the fused kernels, or why there are none)."""
    if device != "cuda":
        return [], "the kernels need CUDA"
    import fused_kernels

    found = fused_kernels.measure(job, batch, data, warm_up, "float32")
    floors, rows = floors(found.get("samples_at_once", batch) / batch), []
    for key, us in found.items():
        name = key.removesuffix("_us")
        if key != name and us is not None:
            n_bytes, n_operations = floors.get(name, (0, 0))  # a kernel that op_list does not know has no floor
            rows.append(row(name, "fused", batch, us, n_bytes, n_operations, rate))
            print(line(rows[-1]), flush=True)
    return rows, None


def line(found):
    return (
        f"{found['op']:32s} {found['us']:9.2f} us  {found['bytes'] / 1e6:8.3f} MB  {found['gb_per_second']:8.1f} GB/s  "
        f"floor {found['floor_us']:8.3f} us ({found['bound']})  {100 * found['share_of_floor']:5.1f} %"
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda"))
    parser.add_argument("--job", default="count", choices=("count", "ttfs"))
    parser.add_argument("--batches", nargs="+", type=int, default=[50])
    parser.add_argument("--warm-up", type=int, default=200, help="training steps before the timing (default: %(default)s)")
    parser.add_argument("--bandwidth", type=float, help="bytes per second of the floors; default: see rates() and the record")
    parser.add_argument("--data", help="an .npz file or folder; default: where bats.data.load_mnist looks")
    parser.add_argument("--out", help="JSON file for the results")
    parser.add_argument("--plot", help="PNG file for a figure of them")
    options = parser.parse_args()
    device = bats.device.resolve(options.device)
    data, rate = load_data(options.job, options.data), rates(device, options.bandwidth)
    rows, steps = [], []
    for batch in options.batches:
        found, step = measure(options.job, batch, device, data, options.warm_up, rate)
        rows += found
        steps.append(step)
    record = environment.record(
        device=device, dtype="float32", job=options.job, data=describe(data), copies=COPIES, rates=rate, operations=op_list.OPERATIONS,
        steps=steps, rows=rows,
    )  # fmt: skip
    if options.out:
        environment.write(options.out, record)
    if options.plot:
        from plots_speed import ops

        ops(record, options.plot)


if __name__ == "__main__":
    main()
