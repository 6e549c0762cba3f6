"""Neurons in time steps (docs/timestep.md): membrane and spikes of all steps from the currents, and dL/dI from dL/dS.

All arrays [B, T, N] unless said otherwise, spikes (and passed_on) uint8; one launch each, a thread per sample and neuron.
"""

from typing import NamedTuple

import numpy as np

from bats import kernels
from bats.cpu import stepped_neurons as cpu
from bats.device import is_cupy
from bats.ops.arguments import blocks, expect

_UNIT, _THREADS = "timestep/stepped_neurons", 64  # small blocks: there are only batch x neurons threads


class SteppedNeuron(NamedTuple):
    """Constants of a layer, in its precision."""

    beta: object  # what is left of the membrane after a step
    threshold: object
    resets: bool  # whether a spike takes the threshold from the membrane
    kind: int  # of surrogate
    slope: object  # of the surrogate

    @classmethod
    def make(cls, beta, threshold, resets, surrogate, dtype):
        real = np.dtype(dtype).type
        return cls(real(beta), real(threshold), bool(resets), int(surrogate.kind), real(surrogate.slope))


def lif_steps(membrane, bias, neuron, passed_on, spikes, counts, status):
    """The step-by-step LIF neuron. membrane: the currents, replaced by the membrane before resets; bias [N] or None;
    passed_on: spikes that a skip connection hands on, or None; spikes, counts [B, N] int32 are written, status [B, 5] added to."""
    _expect_forward(membrane, bias, status, passed_on=passed_on, spikes=spikes, counts=counts)
    beta, threshold, resets, *_ = neuron
    if not is_cupy(membrane):
        skip = _or_none(passed_on, membrane, 3, np.uint8)
        cpu.lif_steps(membrane, _or_none(bias, membrane, 1), beta, threshold, resets, skip, spikes, counts, status)
    else:
        _launch("lif_steps", membrane, (bias, beta, threshold, np.int32(resets), passed_on, spikes, counts, status))


def lif_steps_backward(errors, membrane, neuron, passed_on=None, passed_errors=None):
    """errors: dL/dS of the output, replaced by dL/dI; passed_errors, if given: receives the errors of passed_on."""
    _expect_backward(errors, membrane, passed_on, passed_errors)
    beta, threshold, resets, kind, slope = neuron
    if not is_cupy(errors):
        skip = _or_none(passed_on, errors, 3, np.uint8), _or_none(passed_errors, errors, 3)
        cpu.lif_steps_backward(errors, membrane, beta, threshold, resets, kind, slope, *skip)
    else:
        _launch(
            "lif_steps_backward", errors, (membrane, beta, threshold, np.int32(resets), np.int32(kind), slope, passed_on, passed_errors)
        )


def single_spike_steps(membrane, bias, neuron, passed_on, spikes, first, counts, status):
    """The single-spike neuron: as lif_steps, without reset; first [B, N] int32: step of the spike, T for none."""
    _expect_forward(membrane, bias, status, passed_on=passed_on, spikes=spikes, counts=counts, first=first)
    beta, threshold, *_ = neuron
    if not is_cupy(membrane):
        arrays = _or_none(bias, membrane, 1), beta, threshold, _or_none(passed_on, membrane, 3, np.uint8)
        cpu.single_spike_steps(membrane, *arrays, spikes, first, counts, status)
    else:
        _launch("single_spike_steps", membrane, (bias, beta, threshold, passed_on, spikes, first, counts, status))


def single_spike_backward(errors, membrane, first, neuron, passed_on=None, passed_errors=None):
    """As lif_steps_backward, with `first` as single_spike_steps left it."""
    _expect_backward(errors, membrane, passed_on, passed_errors)
    expect("first", first, (errors.shape[0], errors.shape[2]), np.int32, errors)
    beta, threshold, _, kind, slope = neuron
    if not is_cupy(errors):
        skip = _or_none(passed_on, errors, 3, np.uint8), _or_none(passed_errors, errors, 3)
        cpu.single_spike_backward(errors, membrane, first, beta, threshold, kind, slope, *skip)
    else:
        _launch(
            "single_spike_backward", errors, (membrane, first, beta, threshold, np.int32(kind), slope, passed_on, passed_errors)
        )


def readout_steps(membrane, bias, beta, logits, peaks, status):
    """Leaky integrator. membrane: the currents, replaced by the membrane; logits [B, 1, N]: its largest value over time;
    peaks [B, N] int32: the first step that has it."""
    _expect_forward(membrane, bias, status, peaks=peaks)
    batch, _, n = membrane.shape
    expect("logits", logits, (batch, 1, n), membrane.dtype, membrane)
    beta = membrane.dtype.type(beta)
    if not is_cupy(membrane):
        cpu.readout_steps(membrane, _or_none(bias, membrane, 1), beta, logits, peaks, status)
    else:
        _launch("readout_steps", membrane, (bias, beta, logits, peaks, status))


def readout_backward(errors, peaks, beta, out):
    """errors [B, 1, N] = dL/dlogits -> out = dL/dI: errors beta^(peak - t) up to the peak, 0 after it."""
    batch, _, n = out.shape
    expect("out", out, (None, None, None), out.dtype)
    expect("errors", errors, (batch, 1, n), out.dtype, out)
    expect("peaks", peaks, (batch, n), np.int32, out)
    if not is_cupy(out):
        cpu.readout_backward(errors, peaks, out.dtype.type(beta), out)
    else:
        _launch("readout_backward", out, (errors, peaks, out.dtype.type(beta)))


def bias_gradient(errors, sums, out, scale):
    """out [N] = scale times the sum of errors over steps, then samples; sums [B, N] is room for the first of the two."""
    batch, _, n = errors.shape
    expect("errors", errors, (None, None, None), errors.dtype)
    expect("sums", sums, (batch, n), errors.dtype, errors)
    expect("out", out, (n,), errors.dtype, errors)
    scale = errors.dtype.type(scale)
    if not is_cupy(errors):
        cpu.bias_gradient(errors, sums, scale, out)
        return
    _launch("sum_steps", errors, (sums,))
    kernels.kernel(_UNIT, "sum_samples", errors.dtype)((blocks(n, 128),), (128,), (sums, np.int32(batch), np.int32(n), scale, out))


# ----------------------------------------------------------------------------------------------------------------------
def _expect_forward(membrane, bias, status, **arrays):
    expect("membrane", membrane, (None, None, None), membrane.dtype)
    batch, n_steps, n = membrane.shape
    if n_steps < 1:
        raise ValueError(f"membrane: expected at least one time step, received shape {membrane.shape}")
    if bias is not None:
        expect("bias", bias, (n,), membrane.dtype, membrane)
    for name, array in arrays.items():
        if name in ("spikes", "passed_on"):
            if array is not None:
                expect(name, array, membrane.shape, np.uint8, membrane)
        else:
            expect(name, array, (batch, n), np.int32, membrane)
    expect("status", status, (batch, 5), np.uint64 if is_cupy(membrane) else np.int64, membrane)


def _expect_backward(errors, membrane, passed_on, passed_errors):
    expect("errors", errors, (None, None, None), errors.dtype)
    expect("membrane", membrane, errors.shape, errors.dtype, errors)
    for name, array, dtype in (("passed_on", passed_on, np.uint8), ("passed_errors", passed_errors, errors.dtype)):
        if array is not None:
            expect(name, array, errors.shape, dtype, errors)


def _or_none(array, like, axes, dtype=None):
    """array, or an empty one in its place: Numba compiles one function for both. dtype: None is that of `like`."""
    return np.empty((0,) * axes, dtype=dtype or like.dtype) if array is None else array


def _launch(name, array, arguments):
    """Kernel(array, T, N, ...) with a thread per sample (blockIdx.y) and neuron; None is a null pointer."""
    batch, n_steps, n = array.shape
    if batch == 0:
        return
    pointers = tuple(np.uintp(0) if argument is None else argument for argument in arguments)
    kernels.kernel(_UNIT, name, array.dtype)(
        (blocks(n, _THREADS), batch), (_THREADS,), (array, np.int32(n_steps), np.int32(n), *pointers)
    )
