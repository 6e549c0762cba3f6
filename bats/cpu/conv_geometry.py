"""CPU twin of cuda/conv/geometry.cuh: which post-neurons see a pre-neuron, and through which row of the weights."""

from numba import njit


@njit(cache=True, inline="always")
def place_of(g, pre_neuron):
    """(x, y) in the padded grid, channel."""
    position = pre_neuron // g.pre_c
    return position // g.pre_y + g.padding_x, position % g.pre_y + g.padding_y, pre_neuron % g.pre_c


@njit(cache=True, inline="always")
def positions_seeing(place, n_filter, stride, n_post):
    """First and last + 1 of the positions along one axis whose receptive field holds `place` (0 and 0: none)."""
    first = max(0, (place - n_filter) // stride + 1)
    last = min(n_post, place // stride + 1)
    return first, max(first, last)


@njit(cache=True, inline="always")
def filter_row(g, channel, fx, fy):
    return (channel * g.filter_y + fy) * g.filter_x + fx
