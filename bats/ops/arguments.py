"""What every operation checks before it launches: CuPy looks at nothing, ignores strides and passes Python ints as 64 bits."""

import numpy as np

from bats.device import is_cupy


def expect(name, array, shape, dtype, like=None):
    """Raises TypeError or ValueError unless array has this shape (None: any extent) and dtype, is C-contiguous, and lives
    where `like` lives."""
    if not hasattr(array, "flags") or not hasattr(array, "dtype"):
        raise TypeError(f"{name}: expected a NumPy or CuPy array, received {type(array).__name__}")
    if array.dtype != dtype:
        raise TypeError(f"{name}: expected dtype {np.dtype(dtype)}, received {array.dtype}")
    if len(array.shape) != len(shape) or any(
        want is not None and want != got for want, got in zip(shape, array.shape, strict=True)
    ):
        wanted = tuple("any" if want is None else want for want in shape)
        raise ValueError(f"{name}: expected shape {wanted}, received {array.shape}")
    if not array.flags.c_contiguous:
        raise ValueError(f"{name}: expected a C-contiguous array, received strides {array.strides}")
    if like is not None and is_cupy(array) != is_cupy(like):
        places = ["NumPy (CPU)", "CuPy (CUDA)"]
        raise TypeError(f"{name}: expected a {places[is_cupy(like)]} array, received {places[is_cupy(array)]}")


def expect_events(name, events, batch, dtype, like=None):
    """The same for the arrays of an EventList."""
    capacity = max(1, events.n_neurons * events.n_slots)
    expect(f"{name}.times", events.times, (batch, capacity), dtype, like)
    expect(f"{name}.neurons", events.neurons, (batch, capacity), np.int32, like)
    expect(f"{name}.positions", events.positions, (batch, capacity), np.int32, like)
    expect(f"{name}.counts", events.counts, (batch,), np.int32, like)


def blocks(n, size):
    """Number of blocks of `size` that cover n."""
    return (int(n) + size - 1) // size
