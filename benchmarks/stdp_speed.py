"""Speed of the STDP engine: every phase of mozafari2018 on MNIST, per image, measured after a warm-up on the same shapes.

Each phase runs once over all images; the clock stops when the device has finished. Training phases run in the exact online
order. Loading the file is not measured; encoding includes the copy of the images to the device.
    python benchmarks/stdp_speed.py --device cuda --out results/stdp_speed_cuda.json
"""

import argparse
import time

import environment
import numpy as np

from bats import stdp
from bats.data import load_mnist
from bats.device import array_module, resolve


class Clock:
    def __init__(self, device):
        self.device, self.phases = device, {}

    def __call__(self, name, n, run):
        self.wait()
        start = time.perf_counter()
        result = run()
        self.wait()
        seconds = time.perf_counter() - start
        self.phases[name] = {"images": n, "seconds": seconds, "us_per_image": 1e6 * seconds / max(n, 1)}
        print(f"{name:22}{n:8} images {seconds:9.3f} s {1e6 * seconds / max(n, 1):9.2f} us per image", flush=True)
        return result

    def wait(self):
        if self.device == "cuda":
            array_module("cuda").cuda.get_current_stream().synchronize()


def phases(x_train, y_train, x_test, device, clock):
    """Encoding, layer 1, layer 2, decision layer, inference."""
    first = stdp.STDPConvolution(6, 30, 5, 15, winners=5, radius=3, seed=0, device=device)
    second = stdp.STDPConvolution(30, 250, 3, 10, winners=8, radius=1, seed=1, device=device)
    decision = stdp.DecisionLayer(250, 10, 20, 5, seed=2, device=device)
    n = len(x_train)

    def to_second(latencies):
        return stdp.pad(stdp.pool(first.forward(stdp.pad(latencies, 2, 15)), 2), 1, 15)

    def to_decision(latencies):
        return stdp.pad(stdp.pool(second.forward(latencies), 3), 2, 15)

    encoded = clock("encode", n, lambda: stdp.encode(x_train, stdp.MNIST_BANK, device=device))
    padded = stdp.pad(encoded, 2, 15)
    clock("layer 1, STDP", n, lambda: first.learn(padded))
    inputs = clock("layer 1, frozen", n, lambda: to_second(encoded))
    clock("layer 2, STDP", n, lambda: second.learn(inputs))
    inputs = clock("layer 2, frozen", n, lambda: to_decision(inputs))
    density = float((inputs < 15).mean())
    clock("decision, R-STDP", n, lambda: decision.learn(inputs, y_train))
    clock("decision, evaluation", n, lambda: decision.evaluate(inputs))
    test = clock("encode test images", len(x_test), lambda: stdp.encode(x_test, stdp.MNIST_BANK, device=device))
    clock("inference", len(x_test), lambda: decision.evaluate(to_decision(to_second(test))))
    return density


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="auto")
    parser.add_argument("--data", default="", help=".npz with x_train, y_train, x_test (default: MNIST where bats finds it)")
    parser.add_argument("--images", type=int, default=60000, help="training images used (default: %(default)s)")
    parser.add_argument("--out", default="", help="JSON file for the results")
    options = parser.parse_args()
    device = resolve(options.device)
    data = np.load(options.data) if options.data else vars(load_mnist())
    n = min(options.images, len(data["x_train"]))
    arrays = data["x_train"][:n], data["y_train"][:n].astype(np.int32), data["x_test"][: max(1, n // 6)]
    print("warm-up", flush=True)
    phases(*(array[: max(1, len(array) // 10)] for array in arrays), device, Clock(device))
    print("measured", flush=True)
    clock = Clock(device)
    density = phases(*arrays, device, clock)
    if options.out:
        environment.write(options.out, environment.record(device=device, firing_inputs_of_decision=density, phases=clock.phases))


if __name__ == "__main__":
    main()
