"""When a membrane reaches the threshold between two events, and the spikes that follow (docs/theory.md, section 2).

Spikes of one neuron wait for each other; those of many neurons are best computed side by side (next_crossings), so that their
roots and divisions overlap.
"""

import numpy as np
from numba import njit

from bats.cpu.unaliased import read, write


@njit(cache=True, _nrt=False, inline="always")
def crosses(a, b, four_c, y_low, twice_low, twice_high, c_over_low):
    """Does u cross theta while y falls from y_high to y_low? NaN in a or b never does.

    The parabola b y - a y^2 must exceed c (touching it is no spike: the slope would be 0), and either u >= theta when the
    interval closes, or the vertex lies inside. Written with 4 c, 2 y_low, 2 y_high and c / y_low, which neurons share.
    """
    return (b * b - a * four_c > 0) & ((b - a * y_low >= c_over_low) | ((b < a * twice_high) & (b > a * twice_low)))


@njit(cache=True, _nrt=False, error_model="numpy")
def fire(neuron, a, b, c, reset, tau, y_high, y_low, t_origin, t_last, t_next, times, counts, slopes, status):
    """Emits the spikes of one neuron between two events, in order; returns b after them."""
    n_slots, n = times.shape[0], counts[neuron]
    four_c, two_a, twice_low, c_over_low = c + c + c + c, a + a, y_low + y_low, c / y_low
    never = slopes.dtype.type(-np.inf)
    while crosses(a, b, four_c, y_low, twice_low, y_high + y_high, c_over_low):
        if n == n_slots:
            status[2] += 1  # overflow: it would fire once more than it can hold
            b = never
            break
        x = np.sqrt(b * b - a * four_c)
        y = min(max((b + x) / two_a, y_low), y_high)
        t_last = min(max(t_origin - tau * np.log(y), t_last), t_next)
        times[n, neuron] = t_last
        slopes[n, neuron] = x * y
        n += 1
        b -= reset / y
        y_high = y
        if n_slots == 1:  # time to first spike: done by definition, nothing overflows
            b = never
            break
    counts[neuron] = n
    return b


@njit(cache=True, _nrt=False, fastmath={"contract"}, error_model="numpy")
def next_crossings(states, y, slope, n, four_c):
    """y [n], where the search starts, becomes that of the spike; slope = du/dt there. states: a, b and the y at which it ends."""
    for j in range(n):
        a, b = read(states, 0, j), read(states, 1, j)
        x = np.sqrt(b * b - a * four_c)
        crossing = min(max((b + x) / (a + a), read(states, 2, j)), y[j])
        write(slope, j, x * crossing)
        write(y, j, crossing)


@njit(cache=True, _nrt=False, inline="always")
def gather(found, found_words, who):
    """Places of the bytes other than 0 of `found`, in order, into who; returns how many. found_words: the same memory, 8 bytes each."""
    n = np.int64(0)  # a literal 0 would have Numba compile what is called with it twice
    for word in range(found_words.shape[0]):
        if found_words[word] != 0:
            for i in range(word * 8, word * 8 + 8):
                who[n] = i
                n += found[i] != 0
    return n
