"""Time and memory of whole training steps: the jobs of experiments/mnist and the Fashion-MNIST network.

Method: the network is first trained for --warm-up steps, so that the spikes are those of a network at work. Then steps follow one
another as in training, and a step lasts from the end of the one before to its own end, by device events on CUDA and by a wall clock
on the CPU; the median is reported. On CUDA up to forty steps are one graph, as in a training, and a time is the mean of these
(steps_per_time; 1 where a record has none); there are then at least 50 times. ms_per_step_alone is that of single steps on an idle
device, each waited for: it includes what otherwise overlaps with the step before (records before 2026-11-26 hold this one as
ms_per_step). An epoch is timed as a user sees it: 60 000 images, order and metrics included; so is inference, with its parts beside
it (inference.py). Memory is what the run holds beside the images; event_table_mb of it is the fused step's list of their events.

    python benchmarks/training.py --device cuda --fused both --jobs count ttfs conv fashion --out results/training_cuda.json
    python benchmarks/training.py --device cuda --jobs fashion --data fashion_mnist.npz --batches 5
"""

import argparse
import gc
import statistics

import environment
import inference
from clock import Clock
from jobs import JOBS, Work, default_batches, describe, epoch, load_data

import bats
from bats.step import Step

LEAST_TIMES = 50
FUSED = {"off": (False,), "on": ("auto",), "both": (False, "auto")}


class NotFusedError(RuntimeError):
    """The message says why."""


def measure(job, batch, device, dtype, data, warm_up, steps, fused, inference_batch=1000, insist=False):
    """One row of the record. fused: as of bats.step.Step; insist: raise NotFusedError instead of timing a plain step in its place."""
    gc.collect()  # networks of earlier rows hold each other in cycles
    clock = Clock(device=device)
    work = Work(job, batch, device, dtype, data, fused, clock)
    if insist and not work.step.fused:
        raise NotFusedError(work.step.fused_reason)
    work.train_steps(warm_up)
    work.step.metrics()
    times = work.steps_in_a_row(max(LEAST_TIMES, steps // work.at_once), clock)
    alone = work.timed_steps(steps, clock)
    metrics, held = work.step.metrics(), work.images_held
    row = {
        "job": job, "batch": batch, "steps": steps, "fused": work.step.fused, "fused_reason": work.step.fused_reason,
        "steps_per_time": work.at_once, "times": len(times),
        "ms_per_step": statistics.median(times), "ms_per_step_p90": statistics.quantiles(times, n=10)[-1],
        "ms_per_step_alone": statistics.median(alone),
        "samples_per_second": 1e3 * batch / statistics.median(times),
        "memory_beside_images_mb": None if held is None else (clock.memory() - held) / 1e6,
        "event_table_mb": work.table_bytes() / 1e6,
        "spikes_per_sample": {name: layer["spikes_per_sample"] for name, layer in metrics["layers"].items()},
    }  # fmt: skip
    if held is not None:
        row["memory_beside_data_mb"] = row["memory_beside_images_mb"] - row["event_table_mb"]  # the event lists are data in another form
    row["epoch_seconds"] = epoch_seconds(work)
    model, test = work.model, work.test
    evaluation = Step(work.network, work.loss, test, min(inference_batch, len(test)), model.t_max, fused=fused)
    return {**row, "inference_images": len(test), **inference.measure(evaluation, clock)}


def epoch_seconds(work):
    """Of one epoch as a user waits for it; the median of five if they are short, after two that may still capture their last batches."""
    wall, seconds = Clock(device="cpu"), []
    while not seconds or (len(seconds) < 7 and sum(seconds) < 2):
        seconds.append(1e-3 * wall.time(lambda: epoch(work.step, 2)))
    return statistics.median(seconds[2:] if len(seconds) > 2 else seconds)


def line(row):
    memory = "-" if row["memory_beside_images_mb"] is None else f"{row['memory_beside_images_mb']:.0f} MB"
    device = "" if row["inference_device_ms"] is None else f" ({row['inference_device_ms']:.1f} on the device)"
    return (
        f"{row['job']:7s} batch {row['batch']:5d} {'fused' if row['fused'] else 'plain'}  {row['ms_per_step']:8.4f} ms per step, "
        f"alone {row['ms_per_step_alone']:.4f}  "
        f"{row['samples_per_second']:10.0f} samples/s  epoch {row['epoch_seconds']:6.3f} s  "
        f"inference {row['inference_ms']:7.2f} ms{device}  {memory}"
    )


def measure_all(options, device):
    """(rows, what was left out: [{job, batch, why}], {job: data})."""
    rows, skipped, data = [], [], {}
    for job in options.jobs:
        try:
            images = load_data(job, options.data)
        except (FileNotFoundError, ValueError) as error:
            skipped.append({"job": job, "why": str(error).splitlines()[0]})
            print(f"{job:7s} skipped: {skipped[-1]['why']}", flush=True)
            continue
        data[job] = describe(images)
        for batch in options.batches or default_batches(job, device):
            for fused in FUSED[options.fused]:
                how = options.warm_up, options.steps, fused, options.inference_batch
                try:
                    rows.append(measure(job, batch, device, options.dtype, images, *how, insist=fused and options.fused == "both"))
                    print(line(rows[-1]), flush=True)
                except NotFusedError as why:
                    skipped.append({"job": job, "batch": batch, "why": f"not fused: {why}"})
                    print(f"{job:7s} batch {batch:5d} {skipped[-1]['why']}", flush=True)
    return rows, skipped, data


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda"))
    parser.add_argument("--dtype", default="float32", choices=("float32", "float64"))
    parser.add_argument(
        "--fused", nargs="?", const="on", default="both", choices=list(FUSED),
        help="the fused step of bats.fused where it can be used, the plain one, or both one after another (default %(default)s)",
    )  # fmt: skip
    parser.add_argument("--jobs", nargs="+", default=["count", "ttfs"], choices=list(JOBS))
    parser.add_argument("--batches", nargs="+", type=int, help="default: 5 to 4096 on CUDA, those of the experiments on the CPU")
    parser.add_argument("--warm-up", type=int, default=200, help="training steps before the timing (default: %(default)s)")
    parser.add_argument("--steps", type=int, default=200, help="steps timed (default: %(default)s)")
    parser.add_argument("--inference-batch", type=int, default=1000, help="(default: %(default)s)")
    parser.add_argument("--data", help="an .npz file or folder; default: where bats.data looks")
    parser.add_argument("--out", help="JSON file for the results")
    parser.add_argument("--plot", help="PNG file for a figure of them")
    options = parser.parse_args()
    device = bats.device.resolve(options.device)
    rows, skipped, data = measure_all(options, device)
    record = environment.record(device=device, dtype=options.dtype, data=data, rows=rows, skipped=skipped)
    if options.out:
        environment.write(options.out, record)
    if options.plot:
        from plots_speed import training

        training(record, options.plot)


if __name__ == "__main__":
    main()
