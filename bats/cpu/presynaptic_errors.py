"""CPU twin of cuda/lif/presynaptic_errors.cu: dL/dt of the spikes that a dense layer received."""

from numba import njit, prange

from bats.cpu.time_grid import factor, move, origin_of


@njit(cache=True, _nrt=False, fastmath={"contract", "reassoc"})
def _dot(row, p, q, e):
    total = e - e
    for i in range(row.shape[0]):
        total += row[i] * (e * q[i] - p[i])
    return total


@njit(cache=True, _nrt=False)
def _one(event_times, event_positions, event_neurons, n_events, factors, weights, out_times, out_positions, out_neurons, n_out,
         gains, length, tau, p, q, errors):  # fmt: skip
    p[:] = 0
    q[:] = 0
    s = n_out - 1
    origin = origin_of(out_times[s], length) if n_out > 0 else tau - tau
    for e in range(n_events - 1, -1, -1):
        t = event_times[e]
        while s >= 0 and out_times[s] > t:
            moved = origin_of(out_times[s], length)
            if moved != origin:
                move(p, q, moved - origin, length, tau)
                origin = moved
            y = 1 / factor(out_times[s], origin, length, tau)
            i = out_neurons[s]
            p[i] += gains[out_positions[s]] * y
            q[i] += (gains[out_positions[s]] + gains[out_positions[s]]) * y * y
            s -= 1
        if s == n_out - 1:  # no later spike: this event changed nothing
            errors[event_positions[e]] = 0
            continue
        moved = origin_of(t, length)
        if moved != origin:
            move(p, q, moved - origin, length, tau)
            origin = moved
        e_factor = factors[e]
        errors[event_positions[e]] = e_factor * _dot(weights[event_neurons[e]], p, q, e_factor) / tau


@njit(cache=True, parallel=True)
def presynaptic_errors(event_times, event_positions, event_neurons, event_counts, factors, weights, out_times, out_positions,
                       out_neurons, out_counts, gains, length, tau, p, q, errors):  # fmt: skip
    """Events and factors of the layer's input [B, E], events of its output [B, F], weights [n_pre, n_post], gains
    [B, K * n_post] -> errors.

    errors [B, K_pre * n_pre] is written at the positions of the input events only; p, q [B, n_post] are scratch.
    """
    for b in prange(event_times.shape[0]):
        _one(
            event_times[b], event_positions[b], event_neurons[b], event_counts[b], factors[b], weights, out_times[b],
            out_positions[b], out_neurons[b], out_counts[b], gains[b], length, tau, p[b], q[b], errors[b],
        )  # fmt: skip
