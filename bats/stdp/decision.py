"""The layer that decides, and learns from reward and punishment."""

import numpy as np

from bats.device import to_numpy
from bats.stdp.layer import OnlineLayer
from bats.stdp.rule import Rule


class DecisionLayer(OnlineLayer):
    """Convolution without a threshold, trained by reward-modulated STDP (Mozafari et al. 2018, 2019).

    A potential is the sum of the weights of all inputs that fire at all. The neuron with the largest one decides: its class is
    feature // neurons_per_class. Right: its weights learn with the `reward` rates (LTP, LTD); wrong: with `punish`; silent: nothing.
    adaptive (lo, hi): after each batch reward becomes its base times lo + hi n_wrong / n, and punish its base times lo + hi n_correct / n.
    """

    def __init__(
        self, n_inputs, n_classes, neurons_per_class, kernel, *, n_bins=15, reward=(0.004, -0.003), punish=(-0.004, 0.0005),
        stabilizer=False, bounds=(0.2, 0.8), adaptive=(0.0, 1.0), mean=0.8, std=0.05, rule="exact", device="auto", seed=None,
    ):  # fmt: skip
        settings = Rule(None, n_bins, 1, 0, rule, stabilizer, tuple(bounds), per_class=neurons_per_class)
        super().__init__(n_inputs, n_classes * neurons_per_class, kernel, settings, (reward, punish), mean, std, device, seed)
        self.n_classes, self.adaptive = n_classes, adaptive
        self.base = self.pairs.astype(np.float64)

    @property
    def rates(self):
        """((LTP, LTD) of reward, (LTP, LTD) of punishment) now."""
        return tuple(tuple(map(float, pair)) for pair in self.pairs)

    def set_rates(self, n_correct, n_wrong, n):
        """Adapts the rates to the results on n images (silent ones among them)."""
        lo, hi = self.adaptive
        scales = np.array([lo + hi * n_wrong / n, lo + hi * n_correct / n])
        self.pairs = (self.base * scales[:, None]).astype(np.float32)

    def learn_images(self, latencies, labels, order=None, progress=None):
        """One pass with fixed rates; decisions int32 [n] (-1: silent) on the device, in the given order. labels [N]."""
        labels = self.xp.asarray(labels, dtype=np.int32)
        if labels.shape != (len(latencies),):
            raise ValueError(f"labels: expected shape {(len(latencies),)}, received {labels.shape}")
        winners = self.run(latencies, order, labels, progress)
        return winners[:, 0, 0] // self.rule.per_class  # -1 // n is -1

    def learn(self, latencies, labels, batch_size=1000, order=None, progress=None):
        """One epoch: decisions int32 [n] on the device, in the given order; the rates adapt after each batch."""
        latencies, truth = self.place(latencies), to_numpy(labels)
        order = np.arange(len(latencies), dtype=np.int32) if order is None else to_numpy(order)
        decisions = self.xp.empty(order.size, dtype=np.int32)
        for start in range(0, order.size, batch_size):
            part = order[start : start + batch_size]
            decided = self.learn_images(latencies, labels, part, progress)
            decisions[start : start + part.size] = decided
            decided = to_numpy(decided)
            correct = int(np.sum(decided == truth[part]))
            self.set_rates(correct, int(np.sum(decided >= 0)) - correct, part.size)
        return decisions

    def evaluate(self, latencies, batch=1000):
        """(decisions int32 [n], -1: silent; scores float32 [n, n_classes]: the largest potential of the class) on the device."""
        decisions = self.xp.empty(len(latencies), dtype=np.int32)
        scores = self.xp.empty((len(latencies), self.n_classes), dtype=np.float32)
        for start in range(0, len(latencies), batch):
            _, potentials = self.convolve(latencies[start : start + batch])
            flat = potentials.reshape(len(potentials), self.n_classes, -1)
            scores[start : start + batch] = flat.max(axis=2)
            part = scores[start : start + batch]  # ties between classes: the lower one, as in the order of the winners
            decisions[start : start + batch] = self.xp.where(part.max(axis=1) > 0, part.argmax(axis=1), -1)
        return decisions, scores
