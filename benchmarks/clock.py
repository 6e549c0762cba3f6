"""Time and memory: device events and CuPy's pool on CUDA, a wall clock and the resident set on the CPU."""

import itertools
import statistics
import time

from bats.device import array_module

COPIES = 20  # of a launch in one graph


class Clock:
    """Milliseconds of one call: device events on CUDA, a wall clock elsewhere. network: or anything with device and xp."""

    def __init__(self, network=None, device=None):
        self.cuda = (device or network.device) == "cuda"
        self.xp = array_module(device) if network is None else network.xp

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

    def in_a_row(self, call, n):
        """Milliseconds of each of n calls that are enqueued one after another, as training does it: from the end of one to the end of the
        next on the device (CUDA), which includes the host where it is slower. On the CPU as time()."""
        if not self.cuda:
            return [self.time(call) for _ in range(n)]
        events = [self.xp.cuda.Event() for _ in range(n + 1)]
        events[0].record()
        for event in events[1:]:
            call()
            event.record()
        events[-1].synchronize()
        return [self.xp.cuda.get_elapsed_time(*pair) for pair in itertools.pairwise(events)]

    def memory(self):
        """Bytes held by CuPy's pool (CUDA), or resident in the process (CPU, Linux)."""
        if self.cuda:
            return self.xp.get_default_memory_pool().used_bytes()
        try:
            with open("/proc/self/status", encoding="ascii") as lines:
                return 1024 * int(next(line for line in lines if line.startswith("VmRSS")).split()[1])
        except (OSError, StopIteration):
            return None

    def synchronize(self):
        if self.cuda:
            self.xp.cuda.get_current_stream().synchronize()


def microseconds(clock, launch, repeats=15, copies=COPIES):
    """Of one launch(): on CUDA one of `copies` in a graph, so that it is the device's time and not Python's; on the CPU the wall
    clock. The median of `repeats`, after warm-up."""
    if not clock.cuda:
        launch()
        return statistics.median(1e3 * clock.time(launch) for _ in range(repeats))
    from bats.graphs import GraphCache

    launch()
    graph = GraphCache._capture(lambda: [launch() for _ in range(copies)])
    times = [1e3 * clock.time(graph.launch) / copies for _ in range(repeats + 5)]
    return statistics.median(times[5:])
