"""CPU twin of cuda/losses/losses.cu: losses, their errors dL/dt per spike, read-outs, and the running metrics.

times, errors [B, K, N], counts [B, N].
"""

import numpy as np
from numba import njit


@njit(cache=True)
def spike_count_loss(counts, targets, loss, errors):
    """1/2 sum (target - n)^2; error target - n on every emitted spike. targets [B, N] of the errors' type."""
    for b in range(counts.shape[0]):
        total = loss[b] - loss[b]
        for i in range(counts.shape[1]):
            missing = targets[b, i] - counts[b, i]
            total += missing * missing / 2
            for k in range(errors.shape[1]):
                errors[b, k, i] = missing if k < counts[b, i] else 0
        loss[b] = total


@njit(cache=True)
def spike_count_class_loss(counts, labels, target_true, target_false, loss, errors):
    """spike_count_loss with the target target_true for the label neuron and target_false for the others."""
    for b in range(counts.shape[0]):
        total = 0.0
        for i in range(counts.shape[1]):
            missing = (target_true if i == labels[b] else target_false) - counts[b, i]
            total += missing * missing / 2
            for k in range(errors.shape[1]):
                errors[b, k, i] = missing if k < counts[b, i] else 0
        loss[b] = total


@njit(cache=True)
def ttfs_softmax_cross_entropy(times, counts, labels, tau, silent_loss, loss, errors):
    """-ln softmax(-t / tau)[label] on first spikes, shifted by the earliest; a silent neuron has probability 0.

    A silent label makes the loss a constant: no errors then, for any neuron.
    """
    for b in range(times.shape[0]):
        errors[b] = 0
        first = np.inf
        for i in range(times.shape[2]):
            if counts[b, i] > 0:
                first = min(first, times[b, 0, i])
        total = 0.0
        for i in range(times.shape[2]):
            if counts[b, i] > 0:
                total += np.exp(-(times[b, 0, i] - first) / tau)
        for i in range(times.shape[2]):
            if counts[b, i] > 0 and counts[b, labels[b]] > 0:
                probability = np.exp(-(times[b, 0, i] - first) / tau) / total
                errors[b, 0, i] = ((1.0 if i == labels[b] else 0.0) - probability) / tau
        label = labels[b]
        loss[b] = (times[b, 0, label] - first) / tau + np.log(total) if counts[b, label] > 0 else silent_loss


@njit(cache=True)
def spike_time_loss(times, counts, targets, loss, errors):
    """1/2 sum (t - t*)^2 on first spikes, over the neurons that spike and have a finite target. targets [B, N]."""
    for b in range(times.shape[0]):
        errors[b] = 0
        total = loss[b] - loss[b]
        for i in range(times.shape[2]):
            if counts[b, i] > 0 and np.isfinite(targets[b, i]):
                late = times[b, 0, i] - targets[b, i]
                total += late * late / 2
                errors[b, 0, i] = late
        loss[b] = total


@njit(cache=True)
def softmax_cross_entropy(logits, labels, loss, errors):
    """-ln softmax(logits)[label] and dL/dlogits; logits [B, 1, N], shifted by the largest."""
    for b in range(logits.shape[0]):
        row, label = logits[b, 0], labels[b]
        largest = row.max()
        total = 0.0
        for i in range(row.shape[0]):
            total += np.exp(row[i] - largest)
        for i in range(row.shape[0]):
            errors[b, 0, i] = np.exp(row[i] - largest) / total - (1.0 if i == label else 0.0)
        loss[b] = np.log(total) - (row[label] - largest)


@njit(cache=True)
def most_spikes(times, counts, predictions):
    """Neuron with most spikes; ties go to the earliest first spike, then to the lower index; -1 for a silent sample."""
    for b in range(counts.shape[0]):
        best = -1
        for i in range(counts.shape[1]):
            n = counts[b, i]
            if n > 0 and (
                best < 0 or n > counts[b, best] or (n == counts[b, best] and times[b, 0, i] < times[b, 0, best])
            ):
                best = i
        predictions[b] = best


@njit(cache=True)
def first_spike(times, counts, predictions):
    """Neuron that spikes first; ties go to the lower index; -1 for a silent sample."""
    for b in range(counts.shape[0]):
        best = -1
        for i in range(counts.shape[1]):
            if counts[b, i] > 0 and (best < 0 or times[b, 0, i] < times[b, 0, best]):
                best = i
        predictions[b] = best


@njit(cache=True)
def largest(logits, counts, predictions):
    """Neuron with the largest logit [B, 1, N]; ties go to the lower index; -1 if all are NaN."""
    for b in range(counts.shape[0]):
        best = -1
        for i in range(counts.shape[1]):
            if logits[b, 0, i] == logits[b, 0, i] and (best < 0 or logits[b, 0, i] > logits[b, 0, best]):
                best = i
        predictions[b] = best


@njit(cache=True)
def accumulate_metrics(loss, predictions, counts, labels, totals):
    """totals [4] float64 += samples, sum of the loss, correct predictions, silent label neurons."""
    for b in range(loss.shape[0]):
        totals[0] += 1
        totals[1] += loss[b]
        totals[2] += predictions[b] == labels[b]
        totals[3] += counts[b, labels[b]] == 0
