"""What the layers of an STDP network share: weights on a device, the forward pass in batches, the online loop in parts."""

import numpy as np

from bats.cpu.warm_up import warm_up_stdp
from bats.device import array_module, resolve, to_numpy
from bats.stdp import online, ops

_PART = 1000  # images between two reports of progress


class OnlineLayer:
    """Weights float32 [F, C, kh, kw] ~ N(mean, std), a Rule, and rates float32 [2, 2] (NumPy)."""

    def __init__(self, n_inputs, n_features, kernel, rule, rates, mean, std, device, seed):
        self.device = resolve(device)
        self.xp = array_module(self.device)
        kernel = (kernel, kernel) if np.ndim(kernel) == 0 else tuple(kernel)
        shape = (n_inputs, n_features, *kernel)
        if len(shape) != 4 or min(shape) < 1:
            raise ValueError(f"n_inputs, n_features, kernel: expected positive numbers, received {n_inputs}, {n_features}, {kernel}")
        if self.device == "cpu":
            warm_up_stdp()
        self.rule = rule
        self.pairs = np.array(rates, dtype=np.float32)
        self.counter = 0
        random = np.random.default_rng(seed)
        self._weights = self.xp.asarray(random.normal(mean, std, (n_features, n_inputs, *kernel)).astype(np.float32))

    @property
    def weights(self):
        """float32 [F, C, kh, kw] on the device; may be set from NumPy or CuPy."""
        return self._weights

    @weights.setter
    def weights(self, values):
        if values.shape != self._weights.shape:
            raise ValueError(f"weights: expected shape {self._weights.shape}, received {values.shape}")
        values = values if self.device == "cuda" else to_numpy(values)
        self._weights[:] = self.xp.asarray(values, dtype=np.float32)

    def output_shape(self, height, width):
        """(features, rows, columns) for input maps of this size."""
        n_features, _, kernel_height, kernel_width = self._weights.shape
        return n_features, height - kernel_height + 1, width - kernel_width + 1

    def place(self, latencies):
        """The array on the layer's device, contiguous."""
        latencies = latencies if self.device == "cuda" else to_numpy(latencies) if hasattr(latencies, "get") else latencies
        return self.xp.ascontiguousarray(self.xp.asarray(latencies))

    def convolve(self, latencies):
        """ops.convolve with this layer's weights and threshold."""
        return ops.convolve(self.place(latencies), self._weights, self.rule.threshold, self.rule.n_bins)

    def run(self, latencies, order, labels, progress=None):
        """The online loop over latencies[order]; returns the winners int32 [n, k, 3] on the device."""
        latencies = self.place(latencies)
        order = np.arange(len(latencies)) if order is None else to_numpy(order) if hasattr(order, "get") else np.asarray(order)
        if order.ndim != 1 or (order.size and not 0 <= order.min() <= order.max() < len(latencies)):
            raise ValueError(f"order: expected indices in 0..{len(latencies) - 1}, received shape {order.shape}")
        order = self.xp.asarray(np.ascontiguousarray(order, dtype=np.int32))
        winners = self.xp.empty((order.size, self.rule.winners, 3), dtype=np.int32)
        for start in range(0, order.size, _PART):
            part = order[start : start + _PART]
            winners[start : start + part.size] = online.learn(
                latencies, part, labels, self._weights, self.rule, self.pairs, self.counter
            )
            self.pairs, self.counter = self.rule.advance(self.pairs, self.counter, part.size)
            if progress is not None:
                if self.device == "cuda":
                    self.xp.cuda.get_current_stream().synchronize()
                progress(part.size)
        return winners

    def state(self):
        """All that learning changes, as a dict of NumPy arrays."""
        return {"weights": to_numpy(self._weights), "rates": self.pairs.copy(), "counter": np.array(self.counter)}

    def load_state(self, state):
        """Takes over what state() returned; raises ValueError for weights of another shape."""
        self.weights = np.asarray(state["weights"])
        self.pairs = np.array(state["rates"], dtype=np.float32)
        self.counter = int(state["counter"])
