"""CPU twin of cuda/events/encode_latency.cu: images to event lists, one spike per pixel."""

from numba import njit, prange


@njit(cache=True, _nrt=False)
def _encode_one(pixels, latencies, start, times, neurons):
    """Counting sort by latency: darker is later, equal pixels stay in the order of their index."""
    start[:] = 0
    for n in range(pixels.shape[0]):
        start[255 - pixels[n] + 1] += 1
    for value in range(1, 257):
        start[value] += start[value - 1]
    total = start[255]  # pixels of value 0 come last and do not spike
    for n in range(pixels.shape[0]):
        value = pixels[n]
        if value > 0:
            place = start[255 - value]
            start[255 - value] = place + 1
            times[place] = latencies[value]
            neurons[place] = n
    return total


@njit(cache=True, parallel=True)
def encode_latency(images, indices, latencies, start, times, neurons, counts):
    """images [n, N] uint8, indices [B], latencies [256] seconds, start [B, 257] int32 (scratch) -> event list."""
    for b in prange(indices.shape[0]):
        counts[b] = _encode_one(images[indices[b]], latencies, start[b], times[b], neurons[b])


@njit(cache=True, _nrt=False)
def next_batch(order, cursor, all_labels, indices, labels):
    """indices [B], labels [B] = the next B entries of order from cursor[0] on, and their labels; cursor moves on."""
    first = cursor[0]
    for b in range(indices.shape[0]):
        indices[b] = order[first + b]
        labels[b] = all_labels[indices[b]]
    cursor[0] = first + indices.shape[0]


@njit(cache=True, _nrt=False)
def gather_spike_trains(times, counts, indices, out_times, out_counts):
    """Rows `indices` of times [n, K, N] and counts [n, N]."""
    for b in range(indices.shape[0]):
        row = indices[b]
        for n in range(counts.shape[1]):
            out_counts[b, n] = counts[row, n]
            for k in range(times.shape[1]):
                out_times[b, k, n] = times[row, k, n]
