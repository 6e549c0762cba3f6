"""CPU twin of cuda/lif/weight_gradient.cu: dL/dw of a dense layer, summed over the batch in a fixed order.

Walking the events of a sample backwards, event j adds E_j^2 Q_i - E_j P_i to dL/dw_ij, where P_i = sum g_k / E_k and
Q_i = sum g_k / E_k^2 run over the spikes of neuron i that came later (docs/theory.md, section 3). A work item owns a tile of
neurons, whose P and Q stay in the nearest cache, and a group of samples; the inner loop over the tile is vectorised.
"""

from numba import njit, prange

from bats.cpu.time_grid import factor, move, origin_of

TILE = 128  # neurons of a work item, at most


def tile_width(n_post):
    """Neurons of a work item: an even number of items of equal width, a multiple of 8."""
    items = 2 * -(-n_post // (2 * TILE))
    return 8 * -(-n_post // (8 * items))


@njit(cache=True, parallel=True)
def event_factors(event_times, event_counts, length, tau, factors):
    """factors [B, E] = e^{(t - c L) / tau} of every event."""
    for b in prange(event_times.shape[0]):
        for e in range(event_counts[b]):
            t = event_times[b, e]
            factors[b, e] = factor(t, origin_of(t, length), length, tau)


@njit(cache=True, fastmath={"contract"})
def _contributions(p, q, e, value):
    for i in range(value.shape[0]):
        value[i] = e * (e * q[i] - p[i])


@njit(cache=True)
def _add(row, value):
    for i in range(row.shape[0]):
        row[i] += value[i]


@njit(cache=True)
def _add_sample(event_times, event_neurons, n_events, factors, out_times, out_neurons, out_positions, n_out, gains,
                length, tau, scale, low, p, q, value, total):  # fmt: skip
    """total [n_pre, tile] += the sample's part for the neurons low ... low + tile - 1."""
    tile = p.shape[0]
    p[:] = 0
    q[:] = 0
    s = n_out - 1
    origin = tau - tau
    none_yet = True
    t_value = -tau  # the time that value is for
    for e in range(n_events - 1, -1, -1):
        t = event_times[e]
        while s >= 0 and out_times[s] > t:
            i = out_neurons[s] - low
            if i >= 0 and i < tile:
                moved = origin_of(out_times[s], length)
                if moved != origin and not none_yet:
                    move(p, q, moved - origin, length, tau)
                origin = moved
                none_yet = False
                y = 1 / factor(out_times[s], origin, length, tau)
                gain = gains[out_positions[s]] * scale * y
                p[i] += gain
                q[i] += gain * y
            s -= 1
        if none_yet:
            continue
        moved = origin_of(t, length)
        if moved != origin:
            move(p, q, moved - origin, length, tau)
            origin = moved
        if t != t_value:  # events of one time share what they add
            _contributions(p, q, factors[e], value)
            t_value = t
        _add(total[event_neurons[e], low : low + tile], value)


@njit(cache=True)
def _clear(total, low, tile):
    for j in range(total.shape[0]):
        for i in range(low, low + tile):
            total[j, i] = 0


@njit(cache=True)
def _add_groups(partial, j, row):
    for i in range(row.shape[0]):
        row[i] = partial[0, j, i]
    for group in range(1, partial.shape[0]):
        for i in range(row.shape[0]):
            row[i] += partial[group, j, i]


@njit(cache=True, parallel=True)
def weight_gradient(event_times, event_neurons, event_counts, factors, out_times, out_neurons, out_positions, out_counts, gains,
                    length, tau, scale, width, p, q, value, partial, gradient):  # fmt: skip
    """Input events and factors [B, E], output events [B, F], gains [B, K * n_post] -> gradient [n_pre, n_post] * scale.

    width: neurons of a work item; p, q, value [work items, width] are scratch; partial [groups, n_pre, n_post] holds the sums of the
    groups of samples (of none if there is one group only).
    """
    n_pre, n_post = gradient.shape
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
                out_counts[b], gains[b], length, tau, scale, low, p[item, :tile], q[item, :tile], value[item, :tile],
                total,
            )  # fmt: skip
    if partial.shape[0] > 0:
        for j in prange(n_pre):
            _add_groups(partial, j, gradient[j])
