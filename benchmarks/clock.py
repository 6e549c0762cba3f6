"""Time and memory: device events and CuPy's pool on CUDA, a wall clock and the resident set on the CPU."""

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
