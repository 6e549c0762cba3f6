"""A learned causal filter along the time steps of all neurons of a layer, and its gradients. Arrays [B, T, N]."""

import numpy as np

from bats import kernels
from bats.cpu import temporal_filter as cpu
from bats.device import is_cupy
from bats.ops.arguments import blocks, expect

_UNIT, _TILE, _WARPS = "timestep/temporal_filter", 32, 4


def filter_scratch(xp, batch, n_steps, dtype):
    """Room for temporal_filter_gradient: [batch, n_steps]."""
    return xp.zeros((batch, n_steps), dtype=dtype)


def _expect(first, second, response):
    expect("errors or currents", first, (None, None, None), first.dtype)
    expect("out", second, first.shape, first.dtype, first)
    expect("filter", response, (first.shape[1],), first.dtype, first)


def _launch(name, array, arguments):
    batch, n_steps, n = array.shape
    if batch:
        grid = (blocks(n, _TILE), blocks(n_steps, _TILE), batch)
        kernels.kernel(_UNIT, name, array.dtype)(grid, (_TILE, _WARPS), (np.int32(n_steps), np.int32(n), *arguments))


def temporal_filter(currents, bias, response, out):
    """currents += bias ([N] or None), then out[t] = sum_{s <= t} response[t - s] currents[s]; response [T]."""
    _expect(currents, out, response)
    if bias is not None:
        expect("bias", bias, (currents.shape[2],), currents.dtype, currents)
    if not is_cupy(currents):
        cpu.temporal_filter(currents, np.empty(0, dtype=currents.dtype) if bias is None else bias, response, out)
        return
    if bias is not None and currents.size:
        n = np.int32(currents.shape[2])
        kernels.kernel(_UNIT, "add_bias", currents.dtype)(
            (blocks(currents.size, 256),), (256,), (currents, np.int64(currents.size), n, bias)
        )
    _launch("temporal_filter", currents, (currents, response, out))


def temporal_filter_backward(errors, response, out):
    """out[s] = sum_{t >= s} response[t - s] errors[t]: errors of what went into the filter."""
    _expect(errors, out, response)
    if not is_cupy(errors):
        cpu.temporal_filter_backward(errors, response, out)
    else:
        _launch("temporal_filter_backward", errors, (errors, response, out))


def temporal_filter_gradient(errors, currents, gradient, scale, scratch):
    """gradient [T]: gradient[d] = scale sum over samples, neurons and t of errors[t + d] currents[t]."""
    _expect(errors, currents, gradient)
    batch, n_steps, n = errors.shape
    expect("scratch", scratch, (None, n_steps), errors.dtype, errors)
    scale = errors.dtype.type(scale)
    if not is_cupy(errors):
        cpu.temporal_filter_gradient(errors, currents, scale, scratch[:batch], gradient)
        return
    if batch:
        kernels.kernel(_UNIT, "filter_gradient", errors.dtype)(
            (blocks(n_steps, _TILE), batch), (_TILE, _WARPS), (np.int32(n_steps), np.int32(n), errors, currents, scratch)
        )
    kernels.kernel(_UNIT, "sum_rows", errors.dtype)(
        (blocks(n_steps, 128),), (128,), (scratch, np.int32(batch), np.int32(n_steps), scale, gradient)
    )
