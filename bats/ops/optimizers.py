"""Deltas of the optimizers on flat views, with the weights they are added to if wanted."""

import numpy as np

from bats import kernels
from bats.cpu import optimizers as cpu
from bats.device import is_cupy
from bats.ops.arguments import blocks, expect


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


def gradient_descent(gradient, schedule, delta, weights=None):
    """delta = -lr g; weights += delta if given. Arrays of one shape, C-contiguous."""
    target = delta if weights is None else weights
    _expect_same(gradient, delta=delta, weights=target)
    if not is_cupy(gradient):
        cpu.gradient_descent(_flat(gradient), schedule, _flat(delta), _flat(target), weights is not None)
    elif gradient.size:
        arguments = (gradient, schedule, np.int64(gradient.size), delta, target, np.int32(weights is not None))
        kernels.kernel("optim/optimizers", "gradient_descent", gradient.dtype)(
            (blocks(gradient.size, 256),), (256,), arguments
        )


def adam(gradient, m, v, schedule, beta1, beta2, epsilon, delta, weights=None, nesterov=False):
    """Adam, or NAdam with nesterov; m, v updated in place; weights += delta if given."""
    target = delta if weights is None else weights
    _expect_same(gradient, m=m, v=v, delta=delta, weights=target)
    real = gradient.dtype.type
    constants = (real(beta1), real(beta2), real(epsilon))
    apply = weights is not None
    if not is_cupy(gradient):
        cpu.adam(
            _flat(gradient), _flat(m), _flat(v), schedule, *constants, nesterov, _flat(delta), _flat(target), apply
        )  # fmt: skip
    elif gradient.size:
        arguments = (gradient, m, v, schedule, *constants, np.int32(nesterov), np.int64(gradient.size), delta, target, np.int32(apply))
        kernels.kernel("optim/optimizers", "adam", gradient.dtype)((blocks(gradient.size, 256),), (256,), arguments)
