"""CPU twin of cuda/events/sort_events.cu: spike trains to event lists, a stable bottom-up merge sort per sample."""

from numba import njit, prange

RUN = 8  # runs of this length are sorted by insertion, then merged


@njit(cache=True)
def _insertion_sort(times, positions, low, high):
    for e in range(low + 1, high):
        t, p = times[e], positions[e]
        f = e - 1
        while f >= low and times[f] > t:
            times[f + 1] = times[f]
            positions[f + 1] = positions[f]
            f -= 1
        times[f + 1] = t
        positions[f + 1] = p


@njit(cache=True)
def _merge(times, positions, low, middle, high, out_times, out_positions):
    left, right = low, middle
    for e in range(low, high):
        if right >= high or (left < middle and times[left] <= times[right]):
            out_times[e] = times[left]
            out_positions[e] = positions[left]
            left += 1
        else:
            out_times[e] = times[right]
            out_positions[e] = positions[right]
            right += 1


@njit(cache=True)
def _sort_one(trains, train_counts, times, neurons, positions, other_times, other_positions):
    n_neurons, n_slots = trains.shape
    total = 0
    for n in range(n_neurons):
        for k in range(train_counts[n]):
            times[total] = trains[n, k]
            positions[total] = n * n_slots + k
            total += 1
    for low in range(0, total, RUN):
        _insertion_sort(times, positions, low, min(low + RUN, total))
    width = RUN
    in_place = True  # the sorted runs stand in times (True) or in other_times
    while width < total:
        for low in range(0, total, 2 * width):
            middle, high = min(low + width, total), min(low + 2 * width, total)
            if in_place:
                _merge(times, positions, low, middle, high, other_times, other_positions)
            else:
                _merge(other_times, other_positions, low, middle, high, times, positions)
        in_place = not in_place
        width *= 2
    for e in range(total):
        if not in_place:
            times[e] = other_times[e]
            positions[e] = other_positions[e]
        neurons[e] = positions[e] // n_slots
    return total


@njit(cache=True, parallel=True)
def sort_events(trains, train_counts, times, neurons, positions, counts, other_times, other_positions):
    """trains [B, N, K], train_counts [B, N] -> event list sorted by time, then neuron, then slot; two arrays of scratch."""
    for b in prange(trains.shape[0]):
        counts[b] = _sort_one(
            trains[b], train_counts[b], times[b], neurons[b], positions[b], other_times[b], other_positions[b]
        )
