"""The online loop on the device of its arrays: every image sees the weights that the previous one left."""

import numpy as np

from bats.cpu import stdp_online as cpu
from bats.device import is_cupy
from bats.ops.arguments import expect


def learn(latencies, order, labels, weights, rule, rates, counter):
    """Winners int32 [n, k, 3] (feature, row, column; -1: none) of the images latencies[order[i]], in that order.

    latencies uint8 [N, C, H, W] (already padded), order int32 [n], labels int32 [N] or None, weights float32 [F, C, kh, kw]
    (updated in place), rule: Rule, rates float32 [2, 2] NumPy: (LTP, LTD) of STDP or reward, then of punishment; counter: images
    since the last doubling. Rates double inside; Rule.advance says what they are afterwards.
    """
    check(latencies, weights)
    expect("order", order, (None,), np.int32, latencies)
    labels = order if labels is None else labels[order]  # unread without classes
    if is_cupy(latencies):
        from bats.stdp import online_cuda

        return online_cuda.learn(latencies, order, labels, weights, rule, rates, counter)
    n_features = weights.shape[0]
    by_input = np.ascontiguousarray(weights.reshape(n_features, -1).T)
    winners = np.full((order.size, rule.winners, 3), -1, dtype=np.int32)
    doubling = rule.doubling, np.float32(rule.max_rate)
    cpu.learn(
        latencies, order, labels, by_input, weights.shape[2:], rule.level, rule.n_bins, rule.radius, rule.rule == "rounded",
        rates.copy(), rule.stabilizer, rule.limits, doubling, np.full(1, counter), rule.per_class, winners,
    )  # fmt: skip
    weights[:] = by_input.T.reshape(weights.shape)
    return winners


def check(latencies, weights):
    """Raises unless latencies uint8 [n, C, H, W] and weights float32 [F, C, kh, kw] fit together."""
    expect("weights", weights, (None, None, None, None), np.float32)
    expect("latencies", latencies, (None, weights.shape[1], None, None), np.uint8, weights)
    if latencies.shape[2] < weights.shape[2] or latencies.shape[3] < weights.shape[3]:
        raise ValueError(f"latencies: expected maps of at least {weights.shape[2:]}, received {latencies.shape[2:]}")
