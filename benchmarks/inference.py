"""What evaluating a test set costs, and where: the upload of the order, launches from the host, the device, reading the metrics."""

import itertools
import statistics
import time

import numpy as np

REPEATS, WARM_UP = 31, 5  # compiled, captured, replayed


def measure(step, clock):
    """step: for evaluation -> {inference_ms: all samples, as a user waits for it; inference_device_ms: between device events around
    the launches (CUDA); start_ms, enqueue_ms, wait_ms, metrics_ms: time of the host in Step.start, in all evaluate_next, waiting for the
    device, and in metrics() after that}. Medians."""
    rows = []
    warm_up, repeats = (WARM_UP, REPEATS) if clock.cuda else (1, 2)
    for _ in range(warm_up + repeats):
        step.reset_metrics()
        clock.synchronize()
        begin, end = (clock.xp.cuda.Event(), clock.xp.cuda.Event()) if clock.cuda else (None, None)
        times = [time.perf_counter()]
        step.start(np.arange(len(step.source)))
        times.append(time.perf_counter())
        if clock.cuda:
            begin.record()
        while step.evaluate_next(steps=step.steps_at_once):
            pass
        if clock.cuda:
            end.record()
        times.append(time.perf_counter())
        clock.synchronize()
        times.append(time.perf_counter())
        step.metrics()
        times.append(time.perf_counter())
        device = clock.xp.cuda.get_elapsed_time(begin, end) if clock.cuda else None
        rows.append((1e3 * (times[-1] - times[0]), *(1e3 * (b - a) for a, b in itertools.pairwise(times)), device))
    names = ("inference_ms", "start_ms", "enqueue_ms", "wait_ms", "metrics_ms", "inference_device_ms")
    columns = zip(names, zip(*rows[warm_up:], strict=True), strict=True)
    return {name: None if column[0] is None else statistics.median(column) for name, column in columns}
