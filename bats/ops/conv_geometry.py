"""Who is connected to whom in convolution and pooling layers, as plain integers that kernels and CPU twins share.

Neuron index: (ix * Y + iy) * C + ic. In memory, weights are [C_pre, FY, FX, C_post]: the transpose of what users see.
"""

import functools
import numbers
from typing import NamedTuple

import numpy as np

from bats.device import array_module


class ConvGeometry(NamedTuple):
    """Post-neuron (px, py, c) sees pre-neuron (px * stride_x + fx - padding_x, py * stride_y + fy - padding_y, any)."""

    pre_x: int
    pre_y: int
    pre_c: int
    filter_x: int
    filter_y: int
    post_x: int
    post_y: int
    post_c: int
    stride_x: int
    stride_y: int
    padding_x: int
    padding_y: int

    @property
    def n_pre(self):
        return self.pre_x * self.pre_y * self.pre_c

    @property
    def n_post(self):
        return self.post_x * self.post_y * self.post_c

    @property
    def weight_shape(self):
        """Of the weights in memory."""
        return self.pre_c, self.filter_y, self.filter_x, self.post_c

    @property
    def post_shape(self):
        return self.post_x, self.post_y, self.post_c


class PoolGeometry(NamedTuple):
    """Post-neuron (px, py, c) takes the spikes of pre-neurons (px * stride_x + wx, py * stride_y + wy, c)."""

    pre_x: int
    pre_y: int
    channels: int
    window_x: int
    window_y: int
    stride_x: int
    stride_y: int
    post_x: int
    post_y: int

    @property
    def n_pre(self):
        return self.pre_x * self.pre_y * self.channels

    @property
    def n_post(self):
        return self.post_x * self.post_y * self.channels

    @property
    def post_shape(self):
        return self.post_x, self.post_y, self.channels

    @property
    def covers_all(self):
        """Whether every pre-neuron is in a window."""
        return all(
            window == stride and post * window == pre
            for window, stride, post, pre in (
                (self.window_x, self.stride_x, self.post_x, self.pre_x),
                (self.window_y, self.stride_y, self.post_y, self.pre_y),
            )
        )


_STRUCT = np.dtype([(name, np.int32) for name in ConvGeometry._fields if name != "pre_x"])


def packed(geometry):
    """A ConvGeometry as the argument `Geometry g` of the kernels (cuda/conv/geometry.cuh)."""
    return np.array(tuple(geometry)[1:], dtype=_STRUCT)


_MASKS = np.dtype([("masks", np.uint64), ("words", np.int32), ("g", _STRUCT)], align=True)


def packed_masks(geometry=None, masks=None):
    """masks [B, words, post_x + post_y], or None, as the argument `FieldMasks masks` of the kernels (cuda/conv/field_masks.cuh)."""
    argument = np.zeros((), dtype=_MASKS)
    if masks is not None:
        argument["masks"], argument["words"], argument["g"] = masks.data.ptr, masks.shape[1], packed(geometry)
    return argument


@functools.cache
def packed_places(geometry):
    """uint32 [n_pre] on the device: place of each neuron that a convolution receives from, as pack_place (cuda/conv/records.cuh)."""
    x, y, c = np.unravel_index(np.arange(geometry.n_pre), (geometry.pre_x, geometry.pre_y, geometry.pre_c))
    places = c << 20 | (y + geometry.padding_y) << 10 | (x + geometry.padding_x)
    return array_module("cuda").asarray(places.astype(np.uint32))


def shape_of(name, values, n=3):
    """A tuple of n positive integers; raises TypeError or ValueError with what came."""
    try:
        values = tuple(values)
    except TypeError:
        raise TypeError(f"{name}: expected {n} integers, received {values!r}") from None
    if any(not isinstance(value, numbers.Integral) or isinstance(value, bool) for value in values):
        raise TypeError(f"{name}: expected {n} integers, received {values}")
    if len(values) != n or any(value < 1 for value in values):
        raise ValueError(f"{name}: expected {n} integers of at least 1, received {tuple(int(value) for value in values)}")
    return tuple(int(value) for value in values)


def pair(name, value, at_least):
    """(x, y) from an integer or two; raises TypeError or ValueError with what came."""
    values = (value, value) if isinstance(value, numbers.Integral) else value
    if isinstance(values, (str, bytes)) or not hasattr(values, "__len__") or len(values) != 2:
        raise TypeError(f"{name}: expected an integer or a pair of them, received {value!r}")
    if any(not isinstance(item, numbers.Integral) or isinstance(item, bool) for item in values):
        raise TypeError(f"{name}: expected an integer or a pair of them, received {value!r}")
    if min(values) < at_least:
        raise ValueError(f"{name}: expected at least {at_least}, received {value!r}")
    return int(values[0]), int(values[1])


def convolve(neurons_shape, filters_shape, stride=1, padding=0):
    """ConvGeometry of filters [FX, FY, C] over neurons [X, Y, C_pre]. Raises ValueError if a filter does not fit the padded grid."""
    (x, y, c), (fx, fy, filters) = shape_of("neurons_shape", neurons_shape), shape_of("filters_shape", filters_shape)
    (sx, sy), (ox, oy) = pair("stride", stride, 1), pair("padding", padding, 0)
    if fx > x + 2 * ox or fy > y + 2 * oy:
        raise ValueError(f"filters_shape: expected filters of at most {x + 2 * ox} x {y + 2 * oy}, the padded grid, received {fx} x {fy}")
    return ConvGeometry(x, y, c, fx, fy, (x + 2 * ox - fx) // sx + 1, (y + 2 * oy - fy) // sy + 1, filters, sx, sy, ox, oy)


def pool(neurons_shape, window=2, stride=None):
    """PoolGeometry of windows over neurons [X, Y, C]; stride: default, the window; rows and columns that fill no window are left out.

    Raises ValueError if a window does not fit, or if windows overlap: a spike has one place to go.
    """
    x, y, c = shape_of("neurons_shape", neurons_shape)
    wx, wy = pair("window", window, 1)
    sx, sy = (wx, wy) if stride is None else pair("stride", stride, 1)
    if wx > x or wy > y:
        raise ValueError(f"window: expected at most {x} x {y}, the grid of the neurons, received {wx} x {wy}")
    if sx < wx or sy < wy:
        raise ValueError(f"stride: expected at least the window {wx} x {wy} (windows do not overlap), received {sx} x {sy}")
    return PoolGeometry(x, y, c, wx, wy, sx, sy, (x - wx) // sx + 1, (y - wy) // sy + 1)
