"""bats beside the libraries that a user would pick instead: the same network, task, batch and optimizer, in one run.

784-800-10 on MNIST, batch 50, Adam. bats: the count job of experiments/mnist, fused and plain. The peers (SpikingJelly,
snnTorch, Norse; peer_models.py) train the same sizes with surrogate gradients through 200 time steps of 1 ms. Milliseconds are
medians over --steps steps, from images that lie on the device to the update, between device events (CPU: wall clock); where
steps are slow, over as many as --seconds allow. Accuracy is that of the test set after one epoch, if an epoch takes less than
--epoch-seconds. Memory is what the step needs at its highest beside the data. A library that is not installed, or does not run,
is skipped with the reason.

    python benchmarks/peers.py --device cuda --out results/peers_cuda.json
"""

import argparse
import gc
import importlib.metadata
import itertools
import statistics
import time

import environment
from clock import Clock
from jobs import JOBS, Work, describe, epoch, load_data

import bats
from bats.step import Step
from bats.training.evaluation import evaluate_step

LEARNING_RATE = 1e-3  # of the peers: the default of their examples; that of the count job for bats


def row(name, version, times, memory, batch, n_images, accuracy, seconds, why=None):
    median = statistics.median(times)
    return {
        "name": name, "version": version, "batch": batch, "steps": len(times), "ms_per_step": median,
        "samples_per_second": 1e3 * batch / median,
        "epoch_seconds": seconds if seconds is not None else 1e-3 * median * n_images / batch, "epoch_measured": seconds is not None,
        "memory_mb": memory, "accuracy_percent_after_1_epoch": accuracy, "accuracy_missing": why,
    }  # fmt: skip


def bats_row(fused, data, options, device):
    gc.collect()
    clock = Clock(device=device)
    work = Work("count", options.batch, device, "float32", data, fused, clock)
    name = "bats, fused step" if fused else "bats, plain step"
    if fused and not work.step.fused:
        return {"name": name, "skipped": work.step.fused_reason}
    work.train_steps(3)
    held = clock.memory()
    memory = None if held is None else (held - work.images_held - work.table_bytes()) / 1e6
    fresh = Work("count", options.batch, device, "float32", data, fused, clock)  # accuracy after one epoch, not one and three steps
    clock.synchronize()
    seconds = 1e-3 * Clock(device="cpu").time(lambda: epoch(fresh.step, 2))
    test = Step(fresh.network, fresh.loss, fresh.test, min(1000, len(fresh.test)), fresh.model.t_max, fused=fused)
    accuracy = 100 * evaluate_step(test, test.batch_size)["accuracy"]
    times = fresh.steps_in_a_row(options.steps, clock)
    return row(name, bats.__version__, times, memory, options.batch, len(work.train), accuracy, seconds)


def in_a_row(call, n, cuda):
    """Clock.in_a_row with the events of PyTorch: CuPy may be absent where a peer runs, and its streams are others."""
    import torch

    if not cuda:
        return Clock(device="cpu").in_a_row(call, n)
    events = [torch.cuda.Event(enable_timing=True) for _ in range(n + 1)]
    events[0].record()
    for event in events[1:]:
        call()
        event.record()
    torch.cuda.synchronize()
    return [begin.elapsed_time(end) for begin, end in itertools.pairwise(events)]


def peer_row(kind, data, options, device):
    import torch
    from peer_models import NO_ACCURACY, PEERS, PeerTraining

    name = PEERS[kind][0]
    training = PeerTraining(kind, data, options.batch, device, LEARNING_RATE)
    cuda = device == "cuda"
    if cuda:
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()

    slow = max(in_a_row(training.step, options.warm_up, cuda)[-2:])
    times = in_a_row(training.step, max(3, min(options.steps, int(1e3 * options.seconds / slow))), cuda)
    memory = (torch.cuda.max_memory_allocated() - before) / 1e6 if cuda else None
    n_images = len(data.y_train)
    expected = 1e-3 * statistics.median(times) * n_images / options.batch
    why = NO_ACCURACY.get(kind)
    if why is not None:
        accuracy = seconds = None
    elif expected > options.epoch_seconds:
        accuracy = seconds = None
        why = f"an epoch takes about {expected:.0f} s, the limit of this run is {options.epoch_seconds:g} s"
    else:
        training = PeerTraining(kind, data, options.batch, device, LEARNING_RATE)
        start = time.perf_counter()
        for _ in range(n_images // options.batch):
            loss = training.step()
        float(loss.detach())
        seconds = time.perf_counter() - start
        accuracy = training.accuracy()
    return row(name, importlib.metadata.version(kind), times, memory, options.batch, n_images, accuracy, seconds, why)


def line(found):
    if "skipped" in found:
        return f"{found['name']:18s} skipped: {found['skipped']}"
    accuracy = found["accuracy_percent_after_1_epoch"]
    said = found["accuracy_missing"] if accuracy is None else f"{accuracy:.2f} % after 1 epoch of {found['epoch_seconds']:.2f} s"
    memory = "-" if found["memory_mb"] is None else f"{found['memory_mb']:.0f} MB"
    return f"{found['name']:18s} {found['ms_per_step']:9.4f} ms per step  {found['samples_per_second']:9.0f} samples/s  {memory}  {said}"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda"))
    parser.add_argument("--peers", nargs="*", default=["spikingjelly", "norse", "snntorch"], choices=("spikingjelly", "norse", "snntorch"))
    parser.add_argument("--batch", type=int, default=JOBS["count"].batch_size)
    parser.add_argument("--warm-up", type=int, default=5, help="steps before the timing of a peer (default %(default)s)")
    parser.add_argument("--steps", type=int, default=200, help="steps timed (default %(default)s)")
    parser.add_argument("--seconds", type=float, default=20, help="at most for the timing of a peer (default %(default)s)")
    parser.add_argument("--epoch-seconds", type=float, default=30, help="longest epoch that is run for an accuracy (default %(default)s)")
    parser.add_argument("--data", help="an .npz file or folder; default: where bats.data.load_mnist looks")
    parser.add_argument("--out", help="JSON file for the results")
    parser.add_argument("--plot", help="PNG file for a figure of them")
    options = parser.parse_args()
    device = bats.device.resolve(options.device)
    data = load_data("count", options.data)
    rows = []
    for fused in ("auto", False):
        rows.append(bats_row(fused, data, options, device))
        print(line(rows[-1]), flush=True)
    for kind in options.peers:
        try:
            rows.append(peer_row(kind, data, options, device))
        except Exception as error:  # a library that is absent or breaks here says so in the record; the others still run
            rows.append({"name": kind, "skipped": f"{type(error).__name__}: {error}".splitlines()[0]})
        print(line(rows[-1]), flush=True)
    record = environment.record(device=device, data=describe(data), learning_rate_of_peers=LEARNING_RATE, versions=versions(), rows=rows)
    if options.out:
        environment.write(options.out, record)
    if options.plot:
        from plots_speed import peers

        peers(record, options.plot)


def versions():
    found = {}
    for name in ("torch", "triton", "spikingjelly", "snntorch", "norse"):
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


if __name__ == "__main__":
    main()
