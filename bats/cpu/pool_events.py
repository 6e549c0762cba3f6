"""CPU twin of cuda/conv/pool_events.cu: events renamed after the window they are in; those in no window are dropped."""

from numba import njit


@njit(cache=True)
def pool_events(event_times, event_neurons, event_positions, event_counts, g, times, neurons, positions, counts):
    """Event list [B, E], g: PoolGeometry -> event list [B, F] in the same order."""
    for b in range(event_times.shape[0]):
        kept = 0
        for e in range(event_counts[b]):
            channel, place = event_neurons[b, e] % g.channels, event_neurons[b, e] // g.channels
            x, y = place // g.pre_y, place % g.pre_y
            px, py = x // g.stride_x, y // g.stride_y
            inside = px < g.post_x and py < g.post_y and x % g.stride_x < g.window_x and y % g.stride_y < g.window_y
            if inside:
                times[b, kept] = event_times[b, e]
                neurons[b, kept] = (px * g.post_y + py) * g.channels + channel
                positions[b, kept] = event_positions[b, e]
                kept += 1
        counts[b] = kept
