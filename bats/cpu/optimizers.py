"""CPU twins of cuda/optim/*.cu: deltas of the optimizers, and the weights they are added to.

Every optimizer keeps `schedule`, float64 [4]: learning rate, step count, and two factors that `tick` derives from them,
so that a step needs nothing from Python. A flat gradient is cut into pieces that threads work on side by side.
"""

import numpy as np
from numba import njit, prange

PIECE = 16384

# Moments below this become 0. Those of a weight whose gradient stays 0 would fade into subnormal numbers, on which processors are
# a hundred times slower, and stay there; what they add to a weight is far below its last bit.
TINY32, TINY64 = (float(np.finfo(dtype).tiny / np.finfo(dtype).eps) for dtype in (np.float32, np.float64))


@njit(cache=True, _nrt=False)
def tick(schedule, beta1, beta2):
    """Counts the step t and stores 1 / (1 - beta1^t) and 1 / (1 - beta2^t); a beta of 0 gives 1."""
    schedule[1] += 1
    schedule[2] = 1 / (1 - beta1 ** schedule[1])
    schedule[3] = 1 / (1 - beta2 ** schedule[1])


@njit(cache=True, parallel=True)
def gradient_descent(gradient, schedule, out, add):
    """out = -lr g, or out += -lr g with add."""
    rate = gradient.dtype.type(schedule[0])
    for piece in prange((gradient.size + PIECE - 1) // PIECE):
        for i in range(piece * PIECE, min((piece + 1) * PIECE, gradient.size)):
            out[i] = (out[i] if add else rate - rate) - rate * gradient[i]


@njit(cache=True, parallel=True)
def adam(gradient, m, v, schedule, beta1, beta2, epsilon, nesterov, out, add):
    """Adam (Kingma & Ba 2015) and, with nesterov, NAdam (Dozat 2016). All arrays flat; betas, epsilon of their type.

    out = delta, or out += delta with add: delta = -lr m^ / (sqrt(v^) + eps), with m^ replaced by
    beta1 m^ + (1 - beta1) g / (1 - beta1^t) for NAdam.
    """
    rate = gradient.dtype.type(schedule[0])
    correct1 = gradient.dtype.type(schedule[2])
    correct2 = gradient.dtype.type(schedule[3])
    one = gradient.dtype.type(1)
    keep = beta1 if nesterov else one
    fresh = (one - beta1) * correct1 if nesterov else one - one
    least = gradient.dtype.type(TINY64 if gradient.itemsize == 8 else TINY32)
    for piece in prange((gradient.size + PIECE - 1) // PIECE):
        low, high = piece * PIECE, min((piece + 1) * PIECE, gradient.size)
        _adam_piece(
            gradient[low:high], m[low:high], v[low:high], out[low:high], add,
            rate, beta1, beta2, one - beta1, one - beta2, correct1, correct2, keep, fresh, epsilon, least,
        )  # fmt: skip


@njit(cache=True, _nrt=False, error_model="numpy")
def _adam_piece(g, m, v, out, add, rate, beta1, beta2, rest1, rest2, correct1, correct2, keep, fresh, epsilon, least):
    zero = least - least
    for i in range(g.shape[0]):
        mi = beta1 * m[i] + rest1 * g[i]
        vi = beta2 * v[i] + rest2 * g[i] * g[i]
        mi = zero if abs(mi) < least else mi
        vi = zero if vi < least else vi
        m[i] = mi
        v[i] = vi
        step = keep * (mi * correct1) + fresh * g[i]
        out[i] = (out[i] if add else zero) - rate * step / (np.sqrt(vi * correct2) + epsilon)
