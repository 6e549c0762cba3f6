"""The whole dense network in plain NumPy: the oracle of the tests, written to be read next to docs/theory.md.

Numbers such as (7) are the equations of docs/theory.md. Times are in seconds. A spike train is times [B, N, K]
(ascending, inf = empty slot) with counts [B, N]; weights are [Nout, Nin]. Every function computes in float64 unless
told otherwise; the same code run with dtype=np.float32 and origin="absolute" is the "naive float32 version" of the
tolerance rule (t0 = 0 for ever, so it overflows at t > 88 tau_s). Source of the method: Bacho & Chu, Neural Computation
35(10), 2023 (arXiv 2212.09500). Nothing is validated here: shapes and values are the business of the network.
"""

from dataclasses import dataclass

import numpy as np


@dataclass
class Layer:
    """A dense LIF layer: weights [Nout, Nin], synaptic time constant (s), threshold, reset step, spikes kept."""

    weights: np.ndarray
    tau_s: float
    theta: float
    delta_theta: float
    max_n_spike: int


@dataclass
class LayerSpikes:
    """What a layer emitted, and what its gradient needs; slots without a spike hold inf in times and 0 elsewhere."""

    times: np.ndarray  # [B, Nout, K] spike times t_k
    counts: np.ndarray  # [B, Nout] int32
    overflow: np.ndarray  # [B, Nout] bool: one more spike would have followed; never set for K = 1 (first spike code)
    x: np.ndarray  # [B, Nout, K] x_k of (9), relative to the origin t0_k
    q: np.ndarray  # [B, Nout, K] q_k of (9) = e^{(t_k - t0_k)/tau}
    t0: np.ndarray  # [B, Nout, K] origin in which x_k and q_k are expressed
    tau_s: float
    theta: float
    delta_theta: float

    @property
    def slopes(self):
        """z_k = du/dt just before spike k (10), [B, Nout, K]; 0 where there is no spike. Independent of the origin."""
        return np.divide(self.x, self.q, out=np.zeros_like(self.x), where=self.q != 0)


def _masked(times, counts, dtype):
    """times with every slot at or beyond its count set to inf."""
    times, counts = np.asarray(times, dtype), np.asarray(counts)
    return np.where(np.arange(times.shape[2]) < counts[..., None], times, dtype(np.inf))


def forward_layer(times, counts, weights, tau_s, theta, delta_theta, max_n_spike, t_max=np.inf, dtype=np.float64,
                  origin="moving"):
    """Spikes of a dense LIF layer -> LayerSpikes. times [B, Nin, Kin], counts [B, Nin], weights [Nout, Nin].

    origin="moving" puts t0 at the last pre-spike, which holds for any duration; "absolute" keeps t0 = 0.
    """
    if origin not in ("moving", "absolute"):
        raise ValueError(f"origin must be 'moving' or 'absolute', got {origin!r}")
    times, weights = _masked(times, counts, dtype), np.asarray(weights, dtype)
    n_batch, (n_post, _), n_keep = len(times), weights.shape, max_n_spike
    tau, c, D = dtype(2 * tau_s), dtype(theta / (2 * tau_s)), dtype(delta_theta / (2 * tau_s))

    # The events of each sample, by time, then neuron, then slot; a last column of inf closes the final interval.
    flat = times.reshape(n_batch, -1)
    order = np.argsort(flat, axis=1, kind="stable")
    events = np.append(np.take_along_axis(flat, order, axis=1), np.full((n_batch, 1), np.inf, dtype), axis=1)
    neurons = order // max(times.shape[2], 1)

    a, b, t0 = np.zeros((n_batch, n_post), dtype), np.zeros((n_batch, n_post), dtype), np.zeros((n_batch, 1), dtype)
    n_spikes, stopped = np.zeros((n_batch, n_post), np.int32), np.zeros((n_batch, n_post), bool)
    out_times = np.full((n_batch, n_post, n_keep), np.inf, dtype)
    out_x, out_q, out_t0 = np.zeros_like(out_times), np.zeros_like(out_times), np.zeros_like(out_times)
    with np.errstate(all="ignore"):  # NaN and inf fail the comparisons below: never a spike
        for e in range(flat.shape[1]):
            t_e, t_next = events[:, e, None], np.minimum(events[:, e + 1, None], dtype(t_max))  # [B, 1]
            if not np.isfinite(t_e).any():
                break
            if origin == "moving":  # (28) the origin moves to the event
                decay = np.exp(-(t_e - t0) / tau)
                a, b, t0 = a * decay * decay, b * decay, t_e
            E = np.exp((t_e - t0) / tau)
            w = weights.T[neurons[:, e]]  # [B, Nout]
            a, b, last = a + w * E * E, b + w * E, np.broadcast_to(t_e, a.shape)  # (6)
            while True:  # every crossing between this event and the next one
                discriminant = b * b - 4 * a * c
                x = np.sqrt(discriminant)
                q = 2 * a / (b + x)
                t = t0 + tau * np.log(q)  # (9)
                fires = (a > 0) & (b > 0) & (discriminant > 0) & (last < t) & (t <= t_next) & np.isfinite(t) & ~stopped
                stopped |= fires & (n_spikes == n_keep)  # would have fired once more: it stays silent from here on
                fires &= n_spikes < n_keep
                if not fires.any():
                    break
                sample, neuron = np.nonzero(fires)
                slot = sample, neuron, n_spikes[fires]
                out_times[slot], out_x[slot], out_q[slot] = t[fires], x[fires], q[fires]
                out_t0[slot] = np.broadcast_to(t0, t.shape)[fires]
                n_spikes += fires
                b, last = np.where(fires, b - D * q, b), np.where(fires, t, last)  # (7) reset
    overflow = stopped if n_keep > 1 else np.zeros_like(stopped)
    return LayerSpikes(out_times, n_spikes, overflow, out_x, out_q, out_t0, tau_s, theta, delta_theta)


def backward_layer(errors, spikes, pre_times, pre_counts, weights):
    """dL/dw as the batch mean [Nout, Nin] and dL/dt of the pre-spikes [B, Nin, Kin], from errors = dL/dt [B, Nout, K].

    Causality is strict: a pre-spike at exactly t_k contributes nothing to spike k. Empty slots get 0.
    """
    dtype = spikes.times.dtype.type
    errors, weights = np.asarray(errors, dtype), np.asarray(weights, dtype)
    pre_times = _masked(pre_times, pre_counts, dtype)
    n_batch, _, n_keep = errors.shape
    tau_s, tau, D = dtype(spikes.tau_s), dtype(2 * spikes.tau_s), dtype(spikes.delta_theta / (2 * spikes.tau_s))
    weight_gradient, pre_errors = np.zeros_like(weights), np.zeros_like(pre_times)
    with np.errstate(over="ignore", invalid="ignore"):  # only origin="absolute" overflows
        for s in range(n_batch):
            t, x, q, t0 = spikes.times[s], spikes.x[s], spikes.q[s], spikes.t0[s]  # [Nout, K]
            delta = np.where(np.arange(n_keep) < spikes.counts[s][:, None], errors[s], dtype(0))
            for k in reversed(range(n_keep)):  # (19) errors return through the resets of the later spikes
                for m in range(k + 1, n_keep):
                    on = x[:, m] > 0
                    delta[on, k] += delta[on, m] * D * np.exp((t[on, k] - t0[on, m]) / tau) / x[on, m]
            for k in range(n_keep):
                on = np.flatnonzero(x[:, k] > 0)
                if not on.size:
                    continue
                f2 = delta[on, k] * tau / x[on, k]  # delta_k f2_k of (17), [n]
                f1 = f2 / q[on, k]
                causal = pre_times[s] < t[on, k, None, None]  # [n, Nin, Kin]
                E = np.where(causal, np.exp((pre_times[s] - t0[on, k, None, None]) / tau), dtype(0))
                E1, E2 = f1[:, None, None] * E * E, f2[:, None, None] * E
                weight_gradient[on] += (E1 - E2).sum(axis=2)  # (18)
                pre_errors[s] += (weights[on][:, :, None] * (E1 / tau_s - E2 / tau)).sum(axis=0)  # (20)
    return weight_gradient / dtype(n_batch), pre_errors


def forward_network(times, counts, layers, t_max=np.inf, dtype=np.float64, origin="moving"):
    """Spikes of every layer, first to last: list of LayerSpikes. layers: list of Layer."""
    trains = []
    for layer in layers:
        trains.append(forward_layer(times, counts, layer.weights, layer.tau_s, layer.theta, layer.delta_theta,
                                    layer.max_n_spike, t_max, dtype, origin))
        times, counts = trains[-1].times, trains[-1].counts
    return trains


def backward_network(errors, times, counts, layers, trains):
    """From errors of the last layer: (weight gradients, pre-spike errors), two lists aligned with layers.

    times, counts are the input trains; the first entry of the second list is dL/dt of the input spikes.
    """
    weight_gradients, pre_errors = [None] * len(layers), [None] * len(layers)
    for n in reversed(range(len(layers))):
        pre = (times, counts) if n == 0 else (trains[n - 1].times, trains[n - 1].counts)
        weight_gradients[n], errors = backward_layer(errors, trains[n], *pre, layers[n].weights)
        pre_errors[n] = errors
    return weight_gradients, pre_errors


def _on_first_spike(values, times):
    """Errors [B, N, K] that hold values [B, N] in slot 0 of the neurons that fired."""
    errors = np.zeros(np.shape(times))
    errors[..., 0] = np.where(np.isfinite(times[..., 0]), values, 0)
    return errors


def spike_count_class_loss(counts, times, labels, target_true, target_false):
    """(22): 1/2 sum (target - n)^2, and target - n on every emitted spike -> loss [B], errors [B, N, K]."""
    one_hot = np.arange(counts.shape[1]) == np.asarray(labels)[:, None]
    difference = np.where(one_hot, target_true, target_false) - counts.astype(np.float64)
    emitted = np.arange(times.shape[2]) < counts[..., None]
    return 0.5 * (difference**2).sum(axis=1), np.where(emitted, difference[..., None], 0.0)


def ttfs_softmax_cross_entropy(times, labels, tau):
    """(23): -ln softmax(-t/tau)[label] of the first spikes -> loss [B] (100 when the label is silent), errors."""
    first, one_hot = times[..., 0], np.arange(times.shape[1]) == np.asarray(labels)[:, None]
    earliest = np.where(np.isfinite(first).any(axis=1), first.min(axis=1), 0.0)[:, None]
    scores = np.exp(-(first - earliest) / tau)  # e^{-inf} = 0: a silent neuron has probability 0
    softmax = scores / np.maximum(scores.sum(axis=1, keepdims=True), 1e-300)
    at_label = np.where(one_hot, first, np.inf).min(axis=1)
    log_sum = np.log(np.maximum(scores.sum(axis=1), 1e-300))
    loss = np.where(np.isfinite(at_label), (at_label - earliest[:, 0]) / tau + log_sum, 100.0)
    learns = np.isfinite(at_label)[:, None]  # a silent label: the loss is a constant
    return loss, _on_first_spike(np.where(learns, (one_hot - softmax) / tau, 0), times)


def spike_time_loss(times, target_times):
    """(24): 1/2 sum (t - t*)^2 over the first spikes; a silent neuron, or one with t* = inf, contributes nothing."""
    on = np.isfinite(times[..., 0]) & np.isfinite(target_times)
    difference = np.where(on, np.subtract(times[..., 0], target_times, where=on, out=np.zeros(on.shape)), 0.0)
    return 0.5 * (difference**2).sum(axis=1), _on_first_spike(difference, times)


def gradient_descent(gradient, learning_rate):
    """(25): the delta to add to the weights."""
    return -learning_rate * gradient


def adam(gradient, m, v, t, learning_rate, beta1=0.9, beta2=0.999, epsilon=1e-8):
    """(26): step t = 1, 2, ... from moments m, v -> (delta, m, v)."""
    m, v = beta1 * m + (1 - beta1) * gradient, beta2 * v + (1 - beta2) * gradient**2
    return -learning_rate * (m / (1 - beta1**t)) / (np.sqrt(v / (1 - beta2**t)) + epsilon), m, v


def nadam(gradient, m, v, t, learning_rate, beta1=0.9, beta2=0.999, epsilon=1e-8):
    """(27): Adam with Nesterov momentum (Dozat 2016) -> (delta, m, v)."""
    m, v = beta1 * m + (1 - beta1) * gradient, beta2 * v + (1 - beta2) * gradient**2
    ahead = beta1 * m / (1 - beta1**t) + (1 - beta1) * gradient / (1 - beta1**t)
    return -learning_rate * ahead / (np.sqrt(v / (1 - beta2**t)) + epsilon), m, v
