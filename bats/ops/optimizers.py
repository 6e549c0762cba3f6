"""Deltas of the optimizers on flat views, with the weights they are added to if wanted."""

import numpy as np

from bats import kernels
from bats.cpu import optimizers as cpu
from bats.device import is_cupy
from bats.ops.arguments import blocks, expect
from bats.ops.launch import run

MOST_PARAMETERS = 12  # of adam_step
SHARED_FROM = 17  # as in cuda/common/partial_sums.cuh
_PARAMETER = np.dtype(
    [(name, np.uint64) for name in ("gradient", "m", "v", "out", "partial")]
    + [("size", np.int64), ("first", np.int32), ("n_partial", np.int32)]
)


def _flat(array):
    return array.reshape(-1)


def _expect_same(gradient, **arrays):
    expect("gradient", gradient, gradient.shape, gradient.dtype)
    for name, array in arrays.items():
        expect(name, array, gradient.shape, gradient.dtype, gradient)


def tick(schedule, beta1, beta2, dtype):
    """Counts a step: schedule float64 [4] = learning rate, t, 1 / (1 - beta1^t), 1 / (1 - beta2^t)."""
    expect("schedule", schedule, (4,), np.float64)
    if not is_cupy(schedule):
        cpu.tick(schedule, beta1, beta2)
    else:
        kernels.kernel("optim/optimizers", "tick", dtype)((1,), (1,), (schedule, np.float64(beta1), np.float64(beta2)))


def gradient_descent(gradient, schedule, out, add=False):
    """out = delta = -lr g, or out += delta with add (the weights). Arrays of one shape, C-contiguous."""
    _expect_same(gradient, out=out)
    if not is_cupy(gradient):
        cpu.gradient_descent(_flat(gradient), schedule, _flat(out), add)
    elif gradient.size:
        arguments = (gradient, schedule, np.int64(gradient.size), out, np.int32(add))
        _launch("gradient_descent", gradient, arguments)


def adam(gradient, m, v, schedule, beta1, beta2, epsilon, out, add=False, nesterov=False):
    """Adam, or NAdam with nesterov: m, v updated in place, out = delta, or out += delta with add (the weights)."""
    _expect_same(gradient, m=m, v=v, out=out)
    real = gradient.dtype.type
    constants = (real(beta1), real(beta2), real(epsilon))
    if not is_cupy(gradient):
        cpu.adam(_flat(gradient), _flat(m), _flat(v), schedule, *constants, nesterov, _flat(out), add)
    elif gradient.size:
        _launch("adam", gradient, (gradient, m, v, schedule, *constants, np.int32(nesterov), np.int64(gradient.size), out, np.int32(add)))


def adam_step(parameters, schedule, beta1, beta2, epsilon, nesterov, ticket, pending=()):
    """tick, then adam with add for every (gradient, m, v, weights) of the list, in one launch and with the same bits (CUDA).

    ticket: uint32 [1], 0. At most MOST_PARAMETERS of them, C-contiguous, of one dtype. pending: gradients that are not made yet, as
    layer_backward returns them; what add_partial does is done first, in the same launch.
    """
    expect("schedule", schedule, (4,), np.float64)
    expect("ticket", ticket, (1,), np.uint32, schedule)
    if not 0 < len(parameters) <= MOST_PARAMETERS:
        raise ValueError(f"parameters: expected 1 to {MOST_PARAMETERS}, received {len(parameters)}")
    table, first = np.zeros((), dtype=[("of", _PARAMETER, MOST_PARAMETERS)]), 0
    dtype = parameters[0][0].dtype
    sums = {gradient.data.ptr: (partial, n) for partial, n, gradient in pending}
    for place, (gradient, m, v, weights) in enumerate(parameters):
        expect("gradient", gradient, gradient.shape, dtype, schedule)
        _expect_same(gradient, m=m, v=v, weights=weights)
        partial, n = sums.pop(gradient.data.ptr, (gradient, 0))
        table["of"][place] = (*(array.data.ptr for array in (gradient, m, v, weights, partial)), gradient.size, first, n)
        first += blocks(gradient.size, 256 if n < SHARED_FROM else 32)
    if sums:
        raise ValueError(f"pending: expected gradients of the parameters, received {len(sums)} of others")
    if not first:
        return
    kernel = kernels.kernel("optim/optimizers", "adam_step", dtype)
    arguments = (
        table, np.int32(len(parameters)), schedule, np.float64(beta1), np.float64(beta2), dtype.type(epsilon), np.int32(nesterov), ticket
    )  # fmt: skip
    if pending:  # the kernel before is of a backward pass
        run(kernel, (first,), 256, arguments)
    else:  # it may be another step, which must have ended: schedule and moments are read before gradients are waited for
        kernel((first,), (256,), arguments)


def _launch(name, gradient, arguments):
    kernels.kernel("optim/optimizers", name, gradient.dtype)((blocks(gradient.size, 256),), (256,), arguments)
