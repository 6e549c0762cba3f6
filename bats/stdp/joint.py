"""A hidden layer and the decision layer above it, both learning from the same reward, image by image."""

import numpy as np

from bats.device import to_numpy
from bats.stdp import ops
from bats.stdp.network import in_chunks, pool_and_pad
from bats.stdp.readouts import SILENT, Readout


class JointDecision(Readout):
    """Decisions of `decision` on the pooled output of `hidden`; both given as (name, layer).

    An image that is decided rightly rewards the winners of both layers, wrongly punishes them; the winners of the hidden
    layer are its own, after point-wise inhibition, while the decision layer sees all its spikes. window, padding: between
    the two. reward, punish: (LTP, LTD) of the hidden layer from then on, adapted after each batch as those of the decision
    layer. alternate: batches with odd numbers train the hidden layer only, the others the decision layer only.

    The loop issues a few small kernels per image, on the device too; nothing waits for the host in it.
    """

    def __init__(self, hidden, decision, *, window, padding, reward, punish, alternate=False):
        super().__init__([decision], dict([hidden]))
        self.hidden, self.decision = hidden[1], decision[1]
        self.window, self.padding, self.alternate = window, padding, alternate
        self._hidden_base = np.array([reward, punish])
        self._factor = 1.0

    def begin(self):
        self.hidden.pairs = self._hidden_base.astype(np.float32)

    def scale_rates(self, factor):
        super().scale_rates(factor)
        self._factor = factor

    def _between(self, fired):
        return pool_and_pad(fired, self.window, self.padding, self.hidden.rule.n_bins)

    def decision_input(self, latencies):
        """What the decision layer sees of the hidden layer's input: uint8 [n, F, H, W]."""
        return in_chunks(lambda part: self._between(self.hidden.forward(part)), latencies)

    def learn(self, latencies, labels, order, number=0):
        truth = to_numpy(labels)
        if self.alternate and number % 2 == 0:  # the hidden layer rests: its output for the batch in one pass, then the fast loop
            part = self.decision.xp.asarray(order)
            decided = self.decision.learn_images(self.decision_input(latencies[part]), truth[order])
        else:
            decided = self._learn_images(latencies, truth, order, also_decision=not self.alternate)
        decisions = to_numpy(decided)
        right = int(np.sum(decisions == truth[order]))
        wrong = int(np.sum(decisions != SILENT)) - right
        self.decision.set_rates(right, wrong, len(order))
        lo, hi = self.decision.adaptive
        scales = np.array([[lo + hi * wrong / len(order)], [lo + hi * right / len(order)]])
        self.hidden.pairs = (self._hidden_base * self._factor * scales).astype(np.float32)
        return decisions

    def _learn_images(self, latencies, truth, order, also_decision):
        """The images in turn with fixed rates, both layers or the hidden one alone; decisions int32 [n] on the device."""
        xp, below, above = self.hidden.xp, self.hidden, self.decision
        labels = xp.asarray(truth[order], dtype=np.int32)
        decisions = xp.empty(len(order), dtype=np.int32)
        rates = [xp.asarray(layer.pairs) for layer in (below, above)]
        for position, index in enumerate(order):
            image = latencies[index : index + 1]
            fired, potentials = below.convolve(image)
            chosen = _winners(below, fired, potentials)
            inputs = self._between(fired)
            spikes, sums = above.convolve(inputs)
            winner = _winners(above, spikes, sums)
            outcome = ops.outcomes(winner, labels[position : position + 1], above.rule.per_class)
            decisions[position] = winner[0, 0, 0] // above.rule.per_class
            _update(below, image, chosen, fired, rates[0], outcome)
            if also_decision:
                _update(above, inputs, winner, spikes, rates[1], outcome)
        return decisions

    def evaluate(self, latencies):
        return tuple(map(to_numpy, self.decision.evaluate(self.decision_input(latencies))))


def _winners(layer, fired, potentials):
    rule = layer.rule
    return ops.winners(fired, potentials, rule.winners, rule.radius, rule.n_bins, rule.rule)


def _update(layer, image, chosen, fired, rates, outcome):
    rule = layer.rule
    ops.update(
        layer.weights, image[0], chosen[0], fired[0], rates, outcome=outcome, stabilizer=rule.stabilizer, bounds=rule.bounds
    )  # fmt: skip
