"""Read-outs that learn by reward: one decision layer, or a majority of three. (Of a hidden layer with it: joint.py.)

A read-out has
    pretraining      {name: STDPConvolution}: hidden layers of its own that first train without labels,
    decision_layers  {name: DecisionLayer},
    begin()          called once, before the first image that is rewarded,
    learn(latencies, labels, order, number) -> decisions int32 [len(order)]: the images `order` one after the other, then new
                     rates; number: how many such batches the run has learned from before,
    evaluate(latencies) -> (decisions int32 [n], scores float32 [n, n_classes]), NumPy,
    scale_rates(factor): its base rates from now on are `factor` times those it was made with (learning-rate schedule).
"""

import numpy as np

from bats.device import to_numpy

SILENT = -1


class Readout:
    """What read-outs share: their layers by name and the base rates they were made with."""

    def __init__(self, decision_layers, pretraining=None):
        self.pretraining = pretraining or {}
        self.decision_layers = dict(decision_layers)
        self._base = {name: layer.base.copy() for name, layer in self.decision_layers.items()}

    def begin(self):
        """Nothing to do before the first reward."""

    def scale_rates(self, factor):
        for name, layer in self.decision_layers.items():
            layer.base = self._base[name] * factor


class SingleDecision(Readout):
    """The class of the decision layer's winner."""

    def __init__(self, name, layer):
        super().__init__({name: layer})
        self.layer = layer

    def learn(self, latencies, labels, order, number=0):
        return to_numpy(self.layer.learn(latencies, labels, batch_size=len(order), order=order))

    def evaluate(self, latencies):
        return tuple(map(to_numpy, self.layer.evaluate(latencies)))


def vote(decisions, precedence):
    """The class with at least two votes; else that of the first branch in `precedence` that votes; -1 if none does.

    decisions: int [branches, n], -1 = silent, a branch that does not vote. Returns int32 [n].
    """
    decisions = np.asarray(decisions, dtype=np.int32)
    result = np.full(decisions.shape[1], SILENT, dtype=np.int32)
    for branch in reversed(precedence):
        result = np.where(decisions[branch] != SILENT, decisions[branch], result)
    for first in range(len(decisions)):
        for second in range(first):
            agreed = (decisions[first] == decisions[second]) & (decisions[first] != SILENT)
            result = np.where(agreed, decisions[first], result)
    return result.astype(np.int32)


class MajorityDecision(Readout):
    """Three decision layers on the same input. Each is rewarded or punished by its own vote; the rates of all three
    follow the hits and misses of the ensemble.

    precedence: order in which branches decide when no two agree. The scores of a class are the mean of the branches'
    scores, each divided by the branch's largest for that image, since potentials grow with the size of a kernel.
    """

    def __init__(self, layers, precedence):
        if len(layers) != 3:
            raise ValueError(f"layers: expected 3, so that two votes are a majority; received {len(layers)}")
        super().__init__(layers)
        self.precedence = [list(layers).index(name) for name in precedence]

    def learn(self, latencies, labels, order, number=0):
        votes = [to_numpy(layer.learn_images(latencies, labels, order=order)) for layer in self.decision_layers.values()]
        decisions = vote(votes, self.precedence)
        right = int(np.sum(decisions == to_numpy(labels)[order]))
        wrong = int(np.sum(decisions != SILENT)) - right
        for layer in self.decision_layers.values():
            layer.set_rates(right, wrong, len(order))
        return decisions

    def evaluate(self, latencies):
        votes, scores = [], 0
        for layer in self.decision_layers.values():
            decisions, branch = map(to_numpy, layer.evaluate(latencies))
            votes.append(decisions)
            scores = scores + branch / np.maximum(branch.max(axis=1, keepdims=True), np.finfo(np.float32).tiny)
        return vote(votes, self.precedence), (scores / len(votes)).astype(np.float32)
