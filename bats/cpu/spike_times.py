"""CPU twin of cuda/lif/spike_times.cu: event-driven forward pass of a dense LIF layer (docs/theory.md, section 2).

Each sample walks its events, eight at a time: a loop over neurons, free of branches so that LLVM vectorises it, adds them to
a and b and asks one cheap question per event, whether b - a y comes near the threshold before the next one. It leaves a byte
per neuron; only neurons near the threshold are walked through the eight events one by one and tested exactly.
"""

import numpy as np
from numba import get_thread_id, njit, prange

from bats.cpu.crossings import crosses, gather, next_crossings
from bats.cpu.time_grid import factor, move, origin_of
from bats.cpu.unaliased import read, write

TILE = 1024  # neurons of a work item, at most
CHUNK = 8  # events that _add_chunk takes
INTERVAL = 5  # numbers about an interval: see _prepare
WORK = 11  # rows of scratch: what _fire needs for a spike of each neuron (7), a, b before and after events
LISTS = 5  # rows of integers: neurons found and firing, and what _fire needs to know of each
LOWEST_BIT = np.array([0] + [(k & -k).bit_length() - 1 for k in range(1, 256)], dtype=np.int32)


@njit(cache=True, _nrt=False, fastmath={"contract"}, error_model="numpy")
def _add_event(a, b, weights, rows, low, intervals, e, four_c, next_a, next_b, found):
    """next_a, next_b = a, b after event e; found: whether the neuron fires before the next event."""
    row, factor_e, y_high, y_low, c_over_low = rows[e], intervals[0, e], intervals[1, e], intervals[2, e], intervals[3, e]
    twice_low, twice_high = y_low + y_low, y_high + y_high
    for i in range(a.shape[0]):
        w = read(weights, row, low + i) * factor_e
        ai = a[i] + w * factor_e
        bi = b[i] + w
        write(next_a, i, ai)
        write(next_b, i, bi)
        write(found, i, crosses(ai, bi, four_c, y_low, twice_low, twice_high, c_over_low))


@njit(cache=True, _nrt=False, fastmath={"contract"})
def _add_chunk(a, b, weights, rows, low, intervals, e, next_a, next_b, found):
    """next_a, next_b = a, b after the events e ... e + 7; found: a bit for each of them after which b - a y reached the limit."""
    factors, ends, limits = intervals[0], intervals[2], intervals[4]
    r0, r1, r2, r3, r4, r5, r6, r7 = rows[e], rows[e + 1], rows[e + 2], rows[e + 3], rows[e + 4], rows[e + 5], rows[e + 6], rows[e + 7]
    e0, e1, e2, e3 = factors[e], factors[e + 1], factors[e + 2], factors[e + 3]
    e4, e5, e6, e7 = factors[e + 4], factors[e + 5], factors[e + 6], factors[e + 7]
    y0, y1, y2, y3, y4, y5, y6, y7 = ends[e], ends[e + 1], ends[e + 2], ends[e + 3], ends[e + 4], ends[e + 5], ends[e + 6], ends[e + 7]
    l0, l1, l2, l3 = limits[e], limits[e + 1], limits[e + 2], limits[e + 3]
    l4, l5, l6, l7 = limits[e + 4], limits[e + 5], limits[e + 6], limits[e + 7]
    zero, one = a.dtype.type(0), a.dtype.type(1)
    m1, m2, m3 = one + one, a.dtype.type(4), a.dtype.type(8)
    m4, m5, m6, m7 = a.dtype.type(16), a.dtype.type(32), a.dtype.type(64), a.dtype.type(128)
    for i in range(a.shape[0]):
        ai, bi, mark = a[i], b[i], zero  # a float: bytes and floats in one vector loop cost conversions
        w = read(weights, r0, low + i) * e0
        bi, ai = bi + w, ai + w * e0
        mark = mark + one if bi - ai * y0 >= l0 else mark
        w = read(weights, r1, low + i) * e1
        bi, ai = bi + w, ai + w * e1
        mark = mark + m1 if bi - ai * y1 >= l1 else mark
        w = read(weights, r2, low + i) * e2
        bi, ai = bi + w, ai + w * e2
        mark = mark + m2 if bi - ai * y2 >= l2 else mark
        w = read(weights, r3, low + i) * e3
        bi, ai = bi + w, ai + w * e3
        mark = mark + m3 if bi - ai * y3 >= l3 else mark
        w = read(weights, r4, low + i) * e4
        bi, ai = bi + w, ai + w * e4
        mark = mark + m4 if bi - ai * y4 >= l4 else mark
        w = read(weights, r5, low + i) * e5
        bi, ai = bi + w, ai + w * e5
        mark = mark + m5 if bi - ai * y5 >= l5 else mark
        w = read(weights, r6, low + i) * e6
        bi, ai = bi + w, ai + w * e6
        mark = mark + m6 if bi - ai * y6 >= l6 else mark
        w = read(weights, r7, low + i) * e7
        bi, ai = bi + w, ai + w * e7
        mark = mark + m7 if bi - ai * y7 >= l7 else mark
        write(next_a, i, ai)
        write(next_b, i, bi)
        write(found, i, np.uint8(mark))


@njit(cache=True, _nrt=False, inline="always")
def _state_after(e, neuron, a, b, weights, rows, intervals, first):
    """a, b of a neuron after event e, from those before the event `first`."""
    for u in range(first, e + 1):
        w = read(weights, rows[u], neuron) * intervals[0, u]
        b += w
        a += w * intervals[0, u]
    return a, b


@njit(cache=True, _nrt=False, error_model="numpy")
def _fire(n, low, a, b, weights, event_times, rows, intervals, first, end, t_after, t_origin, four_c, reset, tau, found, next_b, work,
          lists, times, counts, slopes, status):  # fmt: skip
    """Emits the spikes of n neurons, places lists[0, :n] in the tile, between the events first ... end - 1, those with a bit in found.

    a, b: before these events; next_b: after them, without the resets, which are taken off here. t_after: time of event `end`, or the
    end of the simulation. One spike of each neuron at a time, in two loops without unpredictable branches: which neurons fire
    in the first interval in question; their spikes, until no neuron fires again in its interval.
    """
    n_slots = times.shape[0]
    places, marks, firing, events, firing_marks = lists[0], lists[1], lists[2], lists[3], lists[4]
    own_a, own_b, lows, y, slope, fallen, firing_fallen = work[0], work[1], work[2], work[3], work[4], work[5], work[6]
    never = work.dtype.type(-np.inf)
    for j in range(n):
        marks[j] = found[places[j]]
        fallen[j] = 0
    while n > 0:
        n_firing = n_later = 0
        for j in range(n):
            place, mark, fall = places[j], marks[j], fallen[j]
            e = first + LOWEST_BIT[mark]
            ai, bi = _state_after(e, low + place, a[place], b[place] - fall, weights, rows, intervals, first)
            y_high, y_low = intervals[1, e], intervals[2, e]
            own_a[n_firing], own_b[n_firing], y[n_firing], lows[n_firing] = ai, bi, y_high, y_low
            firing[n_firing], events[n_firing], firing_marks[n_firing], firing_fallen[n_firing] = place, e, mark, fall
            fires = crosses(ai, bi, four_c, y_low, y_low + y_low, y_high + y_high, intervals[3, e])
            n_firing += fires
            places[n_later], marks[n_later], fallen[n_later] = place, mark & (mark - 1), fall
            n_later += (not fires) & (mark & (mark - 1) != 0)
        while n_firing > 0:
            n, n_firing = n_firing, 0
            next_crossings(work, y, slope, n, four_c)
            for j in range(n):
                place, e, mark, ai = firing[j], events[j], firing_marks[j], own_a[j]
                neuron = low + place
                k = counts[neuron]
                if k == n_slots:
                    status[2] += 1  # overflow: it would fire once more than it can hold
                    next_b[place] = never
                    continue
                t_last = times[max(k - 1, 0), neuron]
                t_last = t_last if (k > 0) & (t_last > event_times[e]) else event_times[e]
                t_next = event_times[e + 1] if e + 1 < end else t_after
                times[k, neuron] = min(max(t_origin - tau * np.log(y[j]), t_last), t_next)
                slopes[k, neuron] = slope[j]
                counts[neuron] = k + 1
                if n_slots == 1:  # time to first spike: done by definition, nothing overflows
                    next_b[place] = never
                    continue
                fall = reset / y[j]
                next_b[place] -= fall
                bi, y_low, y_high = own_b[j] - fall, intervals[2, e], y[j]
                fall += firing_fallen[j]
                own_a[n_firing], own_b[n_firing], y[n_firing], lows[n_firing] = ai, bi, y_high, y_low
                firing[n_firing], events[n_firing], firing_marks[n_firing], firing_fallen[n_firing] = place, e, mark, fall
                fires = crosses(ai, bi, four_c, y_low, y_low + y_low, y_high + y_high, intervals[3, e])
                n_firing += fires
                places[n_later], marks[n_later], fallen[n_later] = place, mark & (mark - 1), fall
                n_later += (not fires) & (mark & (mark - 1) != 0)
        n = n_later


@njit(cache=True, _nrt=False, error_model="numpy")
def _prepare(event_times, n_events, tau, c, length, t_max, intervals):
    """What all neurons share about the events of a sample and the intervals that they open, intervals [5, E]; returns the
    number of events before t_max.

    Rows: E; y at the beginning and y at the end of the interval, the latter NaN where more events follow at the same time, since
    nothing can happen in between; c / y at the end; and the limit, which b - a y reaches at the end of an interval in which
    u reaches theta. u reaches it at y if b >= a y + c / y, of which the right side is at most c (E_end - E)^2 / E_end below its value
    at the end (the least of it is where a y = c / y); infinity where the end is NaN.
    """
    one = tau / tau
    slack = intervals.dtype.type(1e-6)  # the limit must not be sharper than the exact test
    for e in range(n_events):
        t = event_times[e]
        if not t < t_max:
            n_events = e
            break
        if e > 0 and event_times[e - 1] == t:
            intervals[0, e] = intervals[0, e - 1]
            intervals[1, e] = intervals[1, e - 1]
        else:
            intervals[0, e] = factor(t, origin_of(t, length), length, tau)
            intervals[1, e] = one / intervals[0, e]
    for e in range(n_events):
        t = event_times[e]
        t_end = event_times[e + 1] if e + 1 < n_events else t_max
        if t_end == t:
            intervals[2, e] = np.nan
            intervals[3, e] = np.nan
            intervals[4, e] = np.inf
            continue
        if e + 1 < n_events and origin_of(t, length) == origin_of(t_end, length):
            y_low, last = intervals[1, e + 1], intervals[0, e + 1]
        else:
            y_low = np.exp((origin_of(t, length) * length - t_end) / tau)
            last = one / y_low
        width = last - intervals[0, e]
        intervals[2, e] = y_low
        intervals[3, e] = c * last
        intervals[4, e] = c * (last - width * width * y_low - slack * last)
    return n_events


@njit(cache=True, _nrt=False, error_model="numpy")
def _simulate(event_times, event_neurons, n_events, intervals, weights, tau, c, reset, length, t_max, low, tile, work, lists, found,
              found_words, times, counts, slopes, status):  # fmt: skip
    """Neurons low ... low + tile - 1 of one sample."""
    n_slots = times.shape[0]
    a, b, next_a, next_b = work[7, :tile], work[8, :tile], work[9, :tile], work[10, :tile]
    four_c = c + c + c + c
    for k in range(4):
        status[k] = 0
    for i in range(tile):  # empties the slots that the previous run filled; all of them where its count makes no sense
        count = counts[low + i]
        n_filled = count if count >= 0 and count < n_slots else n_slots
        for k in range(n_filled):
            times[k, low + i] = np.inf
        counts[low + i] = 0
        a[i] = 0
        b[i] = 0
    found[:] = 0
    origin = tau - tau  # zero, in the layer's type
    e = np.int64(0)  # a literal 0 would have Numba compile what is called with it twice
    while e < n_events:
        if origin_of(event_times[e], length) != origin:
            move(b, a, origin - origin_of(event_times[e], length), length, tau)
            origin = origin_of(event_times[e], length)
        # The last event never belongs to a chunk: the limit of a long interval is not sharp.
        if e + CHUNK < n_events and origin_of(event_times[e + CHUNK - 1], length) == origin:
            end = e + CHUNK
            _add_chunk(a, b, weights, event_neurons, low, intervals, e, next_a, next_b, found)
        else:
            end = e + 1
            _add_event(a, b, weights, event_neurons, low, intervals, e, four_c, next_a, next_b, found)
        n = gather(found, found_words, lists[0])
        if n > 0:
            t_after = event_times[end] if end < n_events else t_max
            _fire(n, low, a, b, weights, event_times, event_neurons, intervals, e, end, t_after, origin * length, four_c, reset, tau, found,
                  next_b, work, lists, times, counts, slopes, status)  # fmt: skip
        a, b, next_a, next_b = next_a, next_b, a, b
        e = end
    for i in range(tile):
        status[0] += counts[low + i]
        status[1] += counts[low + i] == 0
        status[3] += not np.isfinite(a[i])


@njit(cache=True, parallel=True)
def spike_times(event_times, event_neurons, event_counts, weights, tau, c, reset, length, t_max, n_events, intervals, item_status,
                work, lists, found, found_words, times, counts, slopes, status):  # fmt: skip
    """Event list [B, E], weights [n_pre, n_post] -> times, slopes [B, K, n_post], counts [B, n_post], status [B, 4].

    tau, c = theta / tau, reset = delta_theta / tau, length = L, t_max: scalars of the layer's type. Scratch: n_events [B];
    intervals [B, INTERVAL, E]; item_status [B, tiles, 4]; for each thread work [WORK, width], lists [LISTS, width], found
    uint8 [width] and the same memory as uint64 words.
    slopes: du/dt at the spike. times and counts come as the last run left them: only the slots that it filled are emptied
    (counts that are out of range empty everything). status per sample, added to: spikes, silent, overflowing, non-finite
    neurons.
    """
    batch, n_post = counts.shape
    n_tiles, width = item_status.shape[1], work.shape[2]
    if n_tiles > 1:
        for s in prange(batch):
            n_events[s] = _prepare(event_times[s], event_counts[s], tau, c, length, t_max, intervals[s])
    for item in prange(n_tiles * batch):  # tile by tile, so that a very wide layer's weights are read in turn
        tile, s, thread = item // batch, item % batch, get_thread_id()
        low = tile * width
        if n_tiles == 1:
            n_events[s] = _prepare(event_times[s], event_counts[s], tau, c, length, t_max, intervals[s])
        _simulate(
            event_times[s], event_neurons[s], n_events[s], intervals[s], weights, tau, c, reset, length, t_max, low,
            min(width, n_post - low), work[thread], lists[thread], found[thread], found_words[thread], times[s], counts[s], slopes[s],
            item_status[s, tile],
        )  # fmt: skip
    for s in range(batch):
        for tile in range(n_tiles):
            for k in range(4):
                status[s, k] += item_status[s, tile, k]
