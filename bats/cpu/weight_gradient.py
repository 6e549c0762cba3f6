"""CPU twin of cuda/lif/weight_gradient.cu: dL/dw of a dense layer, summed over the batch in a fixed order.

Walking the events of a sample backwards, event j adds E_j^2 Q_i - E_j P_i to dL/dw_ij, where P_i = sum g_k / E_k and
Q_i = sum g_k / E_k^2 run over the spikes of neuron i that came later (docs/theory.md, section 3). A work item owns a tile of
neurons, whose P and Q stay in the nearest cache, and a group of samples; the inner loop over the tile is vectorised.
"""

import numpy as np
from numba import njit, prange

from bats.cpu.time_grid import factor, move, origin_of

TILE = 256  # neurons of a work item, at most
BLOCK = 256  # spikes that are searched at once for those of a tile


def layout(batch, n_post, threads):
    """(groups of samples, neurons of a tile). Only the groups decide in which order is summed: they do not depend on `threads`.

    Tiles: of equal width, a multiple of 8; an even number of them, and at least one for each thread.
    """
    groups = max(1, min(batch, 8, 1024 // n_post))
    tiles = -(-n_post // TILE)
    if groups < threads:
        tiles = max(2 * -(-tiles // 2), -(-threads // groups))
    return groups, 8 * -(-n_post // (8 * tiles))


@njit(cache=True, parallel=True)
def event_factors(event_times, event_counts, length, tau, factors):
    """factors [B, E] = e^{(t - c L) / tau} of every event."""
    for b in prange(event_times.shape[0]):
        for e in range(event_counts[b]):
            t = event_times[b, e]
            factors[b, e] = factor(t, origin_of(t, length), length, tau)


@njit(cache=True, _nrt=False, fastmath={"contract"})
def _add_event(row, p, q, e):
    for i in range(row.shape[0]):
        row[i] += e * (e * q[i] - p[i])


@njit(cache=True, _nrt=False, error_model="numpy")
def _next_spikes(end, out_times, out_neurons, out_positions, gains, length, tau, scale, low, tile, late):
    """Those of the BLOCK spikes before place `end` that belong to the tile, latest first, into late [4, BLOCK]: time, neuron
    (within the tile), gain y and gain y^2. Returns their number.

    The first loop has no branch, which would be mispredicted every few spikes.
    """
    one, n = tau / tau, 0
    for s in range(end - 1, max(end - BLOCK, 0) - 1, -1):
        i = out_neurons[s] - low
        late[0, n] = end - s
        late[1, n] = i
        n += (i >= 0) & (i < tile)
    for k in range(n):
        s = end - int(late[0, k])
        t = out_times[s]
        y = one / factor(t, origin_of(t, length), length, tau)
        gain = gains[out_positions[s]] * scale * y
        late[0, k], late[2, k], late[3, k] = t, gain, gain * y
    return n


@njit(cache=True, _nrt=False, error_model="numpy")
def _add_sample(event_times, event_neurons, n_events, factors, out_times, out_neurons, out_positions, n_out, gains,
                length, tau, scale, low, p, q, late, total):  # fmt: skip
    """total [n_pre, n_post] += the sample's part for the neurons low ... low + tile - 1."""
    tile = p.shape[0]
    p[:] = 0
    q[:] = 0
    origin = tau - tau
    none_yet = True
    left, n, k = np.int64(n_out), np.int64(0), 0  # spikes not yet looked at; of those looked at n are in `late`, and k of them are added
    for e in range(n_events - 1, -1, -1):
        t = event_times[e]
        while True:
            while k == n and left > 0:
                n = _next_spikes(left, out_times, out_neurons, out_positions, gains, length, tau, scale, low, tile, late)
                left, k = max(left - BLOCK, 0), 0
            if k == n or not late[0, k] > t:
                break
            moved = origin_of(late[0, k], length)
            if moved != origin and not none_yet:
                move(p, q, moved - origin, length, tau)
            origin = moved
            none_yet = False
            i = int(late[1, k])
            p[i] += late[2, k]
            q[i] += late[3, k]
            k += 1
        if none_yet:
            continue
        moved = origin_of(t, length)
        if moved != origin:
            move(p, q, moved - origin, length, tau)
            origin = moved
        _add_event(total[event_neurons[e], low : low + tile], p, q, factors[e])


@njit(cache=True, _nrt=False)
def _clear(total, low, tile):
    for j in range(total.shape[0]):
        row = total[j, low : low + tile]
        for i in range(tile):
            row[i] = 0


@njit(cache=True, _nrt=False)
def _add_groups(partial, j, row):
    for i in range(row.shape[0]):
        row[i] = partial[0, j, i]
    for group in range(1, partial.shape[0]):
        for i in range(row.shape[0]):
            row[i] += partial[group, j, i]


@njit(cache=True, parallel=True)
def weight_gradient(event_times, event_neurons, event_counts, factors, out_times, out_neurons, out_positions, out_counts, gains,
                    length, tau, scale, p, q, late, partial, gradient):  # fmt: skip
    """Input events and factors [B, E], output events [B, F], gains [B, K * n_post] -> gradient [n_pre, n_post] * scale.

    p, q [work items, width], late [work items, 4, BLOCK + 1] are scratch; partial [groups, n_pre, n_post] holds the sums of the
    groups of samples (of none if there is one group only).
    """
    n_pre, n_post = gradient.shape
    width = p.shape[1]
    groups = max(1, partial.shape[0])
    for item in prange((n_post + width - 1) // width * groups):
        low = item // groups * width
        group = item % groups
        tile = min(width, n_post - low)
        total = partial[group] if partial.shape[0] > 0 else gradient
        _clear(total, low, tile)
        for b in range(group, event_times.shape[0], groups):
            _add_sample(
                event_times[b], event_neurons[b], event_counts[b], factors[b], out_times[b], out_neurons[b], out_positions[b],
                out_counts[b], gains[b], length, tau, scale, low, p[item, :tile], q[item, :tile], late[item], total,
            )  # fmt: skip
    if partial.shape[0] > 0:
        for j in prange(n_pre):
            _add_groups(partial, np.int64(j), gradient[j])
