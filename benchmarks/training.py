"""Time and memory of whole training steps: the jobs of experiments/mnist and the Fashion-MNIST network.

Method: the network is first trained for --warm-up steps, so that the spikes are those of a network at work; then every step is
timed on its own, with device events on CUDA and with a wall clock on the CPU, and the median is reported. An epoch is timed as
a user sees it: 60 000 images, order and metrics included. Memory is what the run holds beside the images.

    python benchmarks/training.py --device cuda --batches 5 50 256 1024 --out results/training_cuda.json
    python benchmarks/training.py --device cuda --jobs fashion --data fashion_mnist.npz
"""

import argparse
import gc
import statistics
import time

import environment
import models
import models_conv
import numpy as np
from model_fashion import FASHION

import bats
from bats.data import load_mnist
from bats.sources import LatencyImages
from bats.step import Step

JOBS = {"count": models.COUNT, "ttfs": models.TTFS, "conv": models_conv.CONV, "fashion": FASHION}


class Clock:
    """Milliseconds of one call: device events on CUDA, a wall clock elsewhere."""

    def __init__(self, network):
        self.cuda = network.device == "cuda"
        self.xp = network.xp

    def time(self, call):
        if not self.cuda:
            start = time.perf_counter()
            call()
            return 1e3 * (time.perf_counter() - start)
        begin, end = self.xp.cuda.Event(), self.xp.cuda.Event()
        begin.record()
        call()
        end.record()
        end.synchronize()
        return self.xp.cuda.get_elapsed_time(begin, end)

    def memory(self):
        """Bytes held by CuPy's pool (CUDA), or resident in the process (CPU, Linux)."""
        if self.cuda:
            return self.xp.get_default_memory_pool().used_bytes()
        try:
            with open("/proc/self/status", encoding="ascii") as lines:
                return 1024 * int(next(line for line in lines if line.startswith("VmRSS")).split()[1])
        except (OSError, StopIteration):
            return None


def epoch(step, seed):
    step.reset_metrics()
    step.start(np.random.Generator(np.random.Philox(seed)).permutation(len(step.source)))
    while step.train_next():
        pass
    return step.metrics()


def measure(job, batch, device, dtype, data, warm_up, steps, fused):
    gc.collect()  # networks of earlier rows hold each other in cycles
    model = JOBS[job]
    network = model.network(device, dtype, seed=0)
    clock = Clock(network)
    train = LatencyImages(data.x_train, data.y_train).to(device, dtype)
    test = LatencyImages(data.x_test, data.y_test).to(device, dtype)
    images_held = clock.memory()
    step = Step(network, model.make_loss(), train, batch, model.t_max, bats.AdamOptimizer(model.learning_rate), fused=fused)
    order = np.random.Generator(np.random.Philox(1)).permutation(len(train))
    step.start(np.resize(order, batch * (warm_up + steps)))
    for _ in range(warm_up):
        step.train_next()
    step.metrics()
    times = [clock.time(step.train_next) for _ in range(steps)]
    metrics = step.metrics()
    result = {
        "job": job, "batch": batch, "steps": steps, "fused": step.fused,
        "ms_per_step": statistics.median(times), "ms_per_step_p90": statistics.quantiles(times, n=10)[-1],
        "samples_per_second": 1e3 * batch / statistics.median(times),
        "memory_beside_images_mb": None if images_held is None else (clock.memory() - images_held) / 1e6,
        "spikes_per_sample": {name: layer["spikes_per_sample"] for name, layer in metrics["layers"].items()},
    }  # fmt: skip
    start = time.perf_counter()
    epoch(step, 2)
    result["epoch_seconds"] = time.perf_counter() - start
    evaluation = Step(network, model.make_loss(), test, min(1000, len(test)), model.t_max, fused=fused)
    for _ in range(3):  # compiled, captured, replayed
        evaluation.reset_metrics()
        start = time.perf_counter()
        evaluation.start(np.arange(len(test)))
        while evaluation.evaluate_next():
            pass
        evaluation.metrics()
        result["inference_ms"] = 1e3 * (time.perf_counter() - start)
    return result


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda"))
    parser.add_argument("--dtype", default="float32", choices=("float32", "float64"))
    parser.add_argument("--fused", action="store_true", help="the fused step of bats.fused where it can be used")
    parser.add_argument("--jobs", nargs="+", default=["count", "ttfs"], choices=list(JOBS))
    parser.add_argument("--batches", nargs="+", type=int, help="default: those of the experiments")
    parser.add_argument("--warm-up", type=int, default=200, help="training steps before the timing (default: %(default)s)")
    parser.add_argument("--steps", type=int, default=200, help="steps timed (default: %(default)s)")
    parser.add_argument("--data", help="an .npz file or folder; default: where bats.data.load_mnist looks")
    parser.add_argument("--out", help="JSON file for the results")
    options = parser.parse_args()
    device = bats.device.resolve(options.device)
    data = load_mnist(options.data)
    rows = []
    for job in options.jobs:
        for batch in options.batches or [JOBS[job].batch_size]:
            fused = "auto" if options.fused else False
            row = measure(job, batch, device, options.dtype, data, options.warm_up, options.steps, fused)
            rows.append(row)
            memory = "-" if row["memory_beside_images_mb"] is None else f"{row['memory_beside_images_mb']:.0f} MB"
            kind = "fused" if row["fused"] else "plain"
            print(
                f"{job:7s} batch {batch:5d} {kind}  {row['ms_per_step']:8.3f} ms per step  "
                f"{row['samples_per_second']:10.0f} samples/s  "
                f"epoch {row['epoch_seconds']:6.2f} s  inference {row['inference_ms']:7.1f} ms  {memory}",
                flush=True,
            )
    if options.out:
        images = f"{data.name}: {len(data.x_train)} training images"
        environment.write(options.out, environment.record(device=device, dtype=options.dtype, data=images, rows=rows))


if __name__ == "__main__":
    main()
