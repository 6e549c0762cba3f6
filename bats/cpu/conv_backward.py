"""CPU twins of cuda/conv/conv_weight_gradient.cu and conv_presynaptic_errors.cu.

Both walk the input events of a sample backwards and keep, for every post-neuron, the sums P and Q over its spikes that came
later (docs/theory.md, equation 30); where the kernels look these sums up (later_sums), a walk in time order has them at hand.
"""

from numba import njit, prange

from bats.cpu.conv_geometry import filter_row, place_of, positions_seeing
from bats.cpu.time_grid import factor, move, origin_of


@njit(cache=True)
def _clear(p, q):
    for i in range(p.shape[0]):
        p[i] = 0
        q[i] = 0


@njit(cache=True)
def _take_later(t, s, origin, out_times, out_neurons, out_positions, gains, length, tau, p, q):
    """Adds the spikes after t to P and Q, relative to the origin of t -> number of spikes left, origin."""
    while s > 0 and out_times[s - 1] > t:
        s -= 1
        moved = origin_of(out_times[s], length)
        if moved != origin:
            move(p, q, moved - origin, length, tau)
            origin = moved
        y = 1 / factor(out_times[s], origin, length, tau)
        gain = gains[out_positions[s]] * y
        p[out_neurons[s]] += gain
        q[out_neurons[s]] += gain * y
    moved = origin_of(t, length)
    if moved != origin:
        move(p, q, moved - origin, length, tau)
    return s, moved


@njit(cache=True)
def _last_origin(times, n, length, zero):
    return origin_of(times[n - 1], length) if n > 0 else zero


@njit(cache=True, fastmath={"contract"})
def _add(row, p, q, e):
    for i in range(row.shape[0]):
        row[i] += e * (e * q[i] - p[i])


@njit(cache=True, fastmath={"contract", "reassoc"})
def _dot(row, p, q, e):
    total = e - e
    for i in range(row.shape[0]):
        total += row[i] * (e * (q[i] + q[i]) - p[i])
    return total


@njit(cache=True)
def _gradient_of_one(event_times, event_neurons, n_events, factors, out_times, out_neurons, out_positions, n_out, gains, g,
                     length, tau, p, q, total):  # fmt: skip
    _clear(p, q)
    s, origin = n_out, _last_origin(out_times, n_out, length, tau - tau)
    for e in range(n_events - 1, -1, -1):
        s, origin = _take_later(event_times[e], s, origin, out_times, out_neurons, out_positions, gains, length, tau, p, q)
        if s == n_out:
            continue
        x, y, channel = place_of(g, event_neurons[e])
        first_x, end_x = positions_seeing(x, g.filter_x, g.stride_x, g.post_x)
        first_y, end_y = positions_seeing(y, g.filter_y, g.stride_y, g.post_y)
        for px in range(first_x, end_x):
            for py in range(first_y, end_y):
                i = (px * g.post_y + py) * g.post_c
                row = filter_row(g, channel, x - px * g.stride_x, y - py * g.stride_y)
                _add(total[row], p[i : i + g.post_c], q[i : i + g.post_c], factors[e])


@njit(cache=True)
def _sum_groups(partial, row, scale, out):
    for i in range(out.shape[0]):
        out[i] = partial[0, row, i]
    for group in range(1, partial.shape[0]):
        for i in range(out.shape[0]):
            out[i] += partial[group, row, i]
    for i in range(out.shape[0]):
        out[i] *= scale


@njit(cache=True, parallel=True)
def conv_weight_gradient(event_times, event_neurons, event_counts, factors, out_times, out_neurons, out_positions, out_counts,
                         gains, g, length, tau, scale, p, q, partial, gradient):  # fmt: skip
    """Input events and factors [B, E], output events [B, F], gains [B, K * N] -> gradient [C_pre * FY * FX, C] * scale.

    Scratch: p, q [groups, N], partial [groups, C_pre * FY * FX, C]: a group is every so-many-th sample, groups are added in order.
    """
    groups = partial.shape[0]
    for group in prange(groups):
        for row in range(partial.shape[1]):
            for i in range(partial.shape[2]):
                partial[group, row, i] = 0
        for b in range(group, event_times.shape[0], groups):
            _gradient_of_one(
                event_times[b], event_neurons[b], event_counts[b], factors[b], out_times[b], out_neurons[b], out_positions[b],
                out_counts[b], gains[b], g, length, tau, p[group], q[group], partial[group],
            )  # fmt: skip
    for row in range(gradient.shape[0]):
        _sum_groups(partial, row, scale, gradient[row])


@njit(cache=True)
def _errors_of_one(event_times, event_neurons, event_positions, n_events, factors, weights, out_times, out_neurons, out_positions,
                   n_out, gains, g, length, tau, p, q, errors):  # fmt: skip
    _clear(p, q)
    s, origin = n_out, _last_origin(out_times, n_out, length, tau - tau)
    for e in range(n_events - 1, -1, -1):
        s, origin = _take_later(event_times[e], s, origin, out_times, out_neurons, out_positions, gains, length, tau, p, q)
        total = tau - tau
        if s < n_out:
            x, y, channel = place_of(g, event_neurons[e])
            first_x, end_x = positions_seeing(x, g.filter_x, g.stride_x, g.post_x)
            first_y, end_y = positions_seeing(y, g.filter_y, g.stride_y, g.post_y)
            for px in range(first_x, end_x):
                for py in range(first_y, end_y):
                    i = (px * g.post_y + py) * g.post_c
                    row = filter_row(g, channel, x - px * g.stride_x, y - py * g.stride_y)
                    total += _dot(weights[row], p[i : i + g.post_c], q[i : i + g.post_c], factors[e])
        errors[event_positions[e]] = factors[e] * total / tau


@njit(cache=True, parallel=True)
def conv_presynaptic_errors(event_times, event_neurons, event_positions, event_counts, factors, weights, out_times, out_neurons,
                            out_positions, out_counts, gains, g, length, tau, p, q, errors):  # fmt: skip
    """Events and factors of the layer's input [B, E], weights [C_pre * FY * FX, C], events of its output [B, F], gains [B, K * N]
    -> errors [B, size of the trains], written at the positions of the input events. p, q [B, N] are scratch."""
    for b in prange(event_times.shape[0]):
        _errors_of_one(
            event_times[b], event_neurons[b], event_positions[b], event_counts[b], factors[b], weights, out_times[b],
            out_neurons[b], out_positions[b], out_counts[b], gains[b], g, length, tau, p[b], q[b], errors[b],
        )  # fmt: skip
