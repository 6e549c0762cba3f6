"""CPU twin of cuda/events/sort_events.cu: spike trains to event lists, a radix sort per sample.

The bits of non-negative floats ascend with their values, so the times are sorted as unsigned integers, 8 bits at a time
from the lowest; each pass is stable, which keeps spikes of equal time in the order of their neurons.
"""

import numpy as np
from numba import njit, prange

BITS = 8
DIGITS = 1 << BITS


@njit(cache=True, _nrt=False)
def _pass(keys, positions, n, shift, start, out_keys, out_positions):
    """One counting sort by 8 bits; False if all keys have them in common (nothing was moved then)."""
    start[:] = 0
    mask = DIGITS - 1
    for e in range(n):
        start[(keys[e] >> shift) & mask] += 1
    if start[(keys[0] >> shift) & mask] == n:
        return False
    total = 0
    for digit in range(DIGITS):
        count = start[digit]
        start[digit] = total
        total += count
    for e in range(n):
        digit = (keys[e] >> shift) & mask
        place = start[digit]
        start[digit] = place + 1
        out_keys[place] = keys[e]
        out_positions[place] = positions[e]
    return True


@njit(cache=True, _nrt=False)
def radix_sort(keys, positions, n, start, other_keys, other_positions):
    """Sorts n unsigned keys and what belongs to them, in place and stably; the last three arrays are scratch."""
    in_place = True  # the list stands in keys, positions (True) or in the other arrays
    if n > 1:
        shift = keys[0] ^ keys[0]
        for _ in range(keys.itemsize * 8 // BITS):
            if in_place:
                moved = _pass(keys, positions, n, shift, start, other_keys, other_positions)
            else:
                moved = _pass(other_keys, other_positions, n, shift, start, keys, positions)
            if moved:
                in_place = not in_place
            shift += keys.dtype.type(BITS)
    if not in_place:
        for e in range(n):
            keys[e] = other_keys[e]
            positions[e] = other_positions[e]


@njit(cache=True, _nrt=False)
def _sort_one(trains, train_counts, keys, neurons, positions, other_keys, other_positions, start):
    n_neurons = trains.shape[1]
    total = np.int64(0)  # a literal 0 would have Numba compile what is called with it twice
    for n in range(n_neurons):
        for k in range(train_counts[n]):
            keys[total] = trains[k, n]
            positions[total] = k * n_neurons + n
            total += 1
    radix_sort(keys, positions, total, start, other_keys, other_positions)
    for e in range(total):
        neurons[e] = positions[e] % n_neurons
    return total


@njit(cache=True, parallel=True)
def sort_events(trains, train_counts, keys, neurons, positions, counts, other_keys, other_positions, start):
    """trains [B, K, N], train_counts [B, N] -> event list sorted by time, then neuron, then slot.

    Times are passed as unsigned integers of their bits. other_keys, other_positions [B, E] and start [B, 256] are scratch.
    """
    for b in prange(trains.shape[0]):
        counts[b] = _sort_one(
            trains[b], train_counts[b], keys[b], neurons[b], positions[b], other_keys[b], other_positions[b], start[b]
        )
