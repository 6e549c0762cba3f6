"""Optimizers. step(gradients) returns deltas to be added to the weights; update(...) adds them at once.

Both take lists in which None stands for a layer without weights. Moments, step count and learning rate live on the device
of the gradients, so a step needs nothing from Python.
"""

import numpy as np

from bats import ops
from bats.device import is_cupy, to_numpy
from bats.layers.base import positive


def _flat_order(array):
    """The same memory as a C-contiguous array: gradients come as transposed views."""
    return array if array.flags.c_contiguous else array.T


class Optimizer:
    """Common part. `moments` names the arrays kept per weight array."""

    moments = ()
    betas = (0.0, 0.0)

    def __init__(self, learning_rate):
        self._rate = positive("learning_rate", learning_rate, zero_allowed=True)
        self._schedule = None
        self._loaded = None
        self._arrays = {}

    @property
    def learning_rate(self):
        return self._rate

    @learning_rate.setter
    def learning_rate(self, value):
        self._rate = positive("learning_rate", value, zero_allowed=True)
        if self._schedule is not None:
            self._schedule[0] = self._rate

    def arrays(self, gradients):
        """(schedule float64 [4], {place in the list: {name of a moment: array like the gradient}}): what this optimizer keeps
        on the device, for a kernel that makes the step itself. The arrays are never replaced."""
        self._prepare(gradients, next(gradient for gradient in gradients if gradient is not None))
        return self._schedule, self._arrays

    def step(self, gradients):
        """gradients: list of arrays or None -> deltas, same list shape; they are workspaces that the next step overwrites."""
        return self._advance(gradients, [None] * len(gradients))

    def update(self, weights, gradients, pending=()):
        """Adds the deltas to `weights`, a list aligned with gradients. The same bits as weights += delta. pending: gradients that are to be
        added up first, as Network.backward_events(finish=False) leaves them."""
        if len(weights) != len(gradients):
            raise ValueError(f"update: expected as many weights as gradients, received {len(weights)} and {len(gradients)}")
        self._advance(gradients, weights, pending)

    def _advance(self, gradients, weights, pending=()):
        present = [gradient for gradient in gradients if gradient is not None]
        if not present:
            return [None] * len(gradients)
        self._prepare(gradients, present[0])
        if self._at_once(gradients, weights, pending):
            return [None] * len(gradients)
        ops.add_partial(pending)
        if self.moments:
            ops.tick(self._schedule, *self.betas, present[0].dtype)
        deltas = []
        for place, (gradient, target) in enumerate(zip(gradients, weights, strict=True)):
            if gradient is None:
                deltas.append(None)
                continue
            arrays = self._arrays[place]
            if arrays["delta"].shape != gradient.shape or arrays["delta"].strides != gradient.strides:
                gradient = self._like(gradient, arrays["delta"], place)
            flat = {name: _flat_order(array) for name, array in arrays.items()}
            self._launch(_flat_order(gradient), flat, flat["delta"] if target is None else _flat_order(target), target is not None)
            deltas.append(arrays["delta"] if target is None else None)
        return deltas

    def _at_once(self, gradients, weights, pending):
        """Whether one launch made the whole step."""
        return False

    @staticmethod
    def _like(gradient, delta, place):
        if gradient.shape != delta.shape:
            raise ValueError(f"gradient {place}: expected shape {delta.shape}, as in earlier steps, received {gradient.shape}")
        copy = delta.copy(order="K")
        copy[...] = gradient
        return copy

    def _prepare(self, gradients, example):
        """Allocates what is missing, at the first step."""
        if is_cupy(example):
            import cupy as xp
        else:
            xp = np
        if self._schedule is None:
            self._schedule = xp.asarray(np.array([self._rate, 0, 1, 1], dtype=np.float64))
        for place, gradient in enumerate(gradients):
            if gradient is None:
                continue
            if place in self._arrays:
                kept = self._arrays[place]["delta"].dtype
                if kept != gradient.dtype:
                    raise TypeError(f"gradient {place}: expected dtype {kept}, as in earlier steps, received {gradient.dtype}")
                continue
            template = gradient if gradient.flags.c_contiguous or gradient.flags.f_contiguous else xp.ascontiguousarray(gradient)
            self._arrays[place] = {name: xp.zeros_like(template) for name in ("delta", *self.moments)}
        if self._loaded is not None:
            self._take_loaded(xp)

    # ------------------------------------------------------------------------------------------------------------------
    def state(self):
        """{name: NumPy array}: learning rate, step count, and the moments as `<moment>_<place in the list>`."""
        if self._loaded is not None:
            return dict(self._loaded)
        steps = 0.0 if self._schedule is None else float(to_numpy(self._schedule)[1])
        state = {"kind": np.array(type(self).__name__), "learning_rate": np.array(self._rate), "steps": np.array(steps)}
        for place, arrays in self._arrays.items():
            for name in self.moments:
                state[f"{name}_{place}"] = np.ascontiguousarray(to_numpy(arrays[name]))
        return state

    def load_state(self, state):
        """The inverse of state(); raises ValueError naming what is missing or does not fit."""
        missing = [name for name in ("kind", "learning_rate", "steps") if name not in state]
        if missing:
            raise ValueError(f"optimizer state: expected the entries kind, learning_rate, steps; missing {', '.join(missing)}")
        if str(state["kind"]) != type(self).__name__:
            raise ValueError(f"optimizer state: expected one of {type(self).__name__}, received one of {state['kind']}")
        for place, arrays in self._arrays.items():
            for name in self.moments:
                key = f"{name}_{place}"
                if key in state and state[key].shape != arrays[name].shape:
                    raise ValueError(f"optimizer state: expected {key} of shape {arrays[name].shape}, received {state[key].shape}")
        self._loaded = {name: np.array(value) for name, value in state.items()}
        self._rate = float(state["learning_rate"])
        if self._schedule is not None:
            self._take_loaded(None)

    def _take_loaded(self, _):
        state, self._loaded = self._loaded, None
        self._schedule[0] = self._rate
        self._schedule[1] = float(state["steps"])
        for place, arrays in self._arrays.items():
            for name in self.moments:
                key = f"{name}_{place}"
                stored = state.get(key)
                if stored is None:
                    arrays[name].fill(0)
                    continue
                if stored.shape != arrays[name].shape:
                    raise ValueError(f"optimizer state: expected {key} of shape {arrays[name].shape}, received {stored.shape}")
                if is_cupy(arrays[name]):
                    import cupy

                    stored = cupy.asarray(stored)
                arrays[name][...] = stored

    def describe(self):
        return {"optimizer": type(self).__name__, "learning_rate": self._rate}


class GradientDescentOptimizer(Optimizer):
    """delta = -learning_rate g."""

    def _launch(self, gradient, arrays, out, add):
        ops.gradient_descent(gradient, self._schedule, out, add)


class AdamOptimizer(Optimizer):
    """Adam (Kingma & Ba 2015): delta = -learning_rate m^ / (sqrt(v^) + epsilon)."""

    moments = ("m", "v")
    nesterov = False

    def __init__(self, learning_rate, beta1=0.9, beta2=0.999, epsilon=1e-8):
        super().__init__(learning_rate)
        for name, beta in (("beta1", beta1), ("beta2", beta2)):
            if not 0 <= beta < 1:
                raise ValueError(f"{name}: expected a number in [0, 1), received {beta}")
        self.betas = (float(beta1), float(beta2))
        self.epsilon = positive("epsilon", epsilon)
        self._ticket = None  # of ops.adam_step

    def _at_once(self, gradients, weights, pending):
        places = [place for place, gradient in enumerate(gradients) if gradient is not None]
        if not is_cupy(gradients[places[0]]) or any(weights[place] is None for place in places) or len(places) > ops.MOST_PARAMETERS:
            return False
        own = [self._arrays[place] for place in places]
        like = [(arrays["delta"], gradients[place]) for place, arrays in zip(places, own, strict=True)]
        if any(delta.shape != gradient.shape or delta.strides != gradient.strides for delta, gradient in like):
            return False
        if self._ticket is None:
            import cupy

            self._ticket = cupy.zeros(1, dtype=np.uint32)
        parameters = [
            tuple(_flat_order(array) for array in (gradients[place], arrays["m"], arrays["v"], weights[place]))
            for place, arrays in zip(places, own, strict=True)
        ]
        ops.adam_step(parameters, self._schedule, *self.betas, self.epsilon, self.nesterov, self._ticket, pending)
        return True

    def _launch(self, gradient, arrays, out, add):
        ops.adam(gradient, arrays["m"], arrays["v"], self._schedule, *self.betas, self.epsilon, out, add, self.nesterov)

    def describe(self):
        return {**super().describe(), "beta1": self.betas[0], "beta2": self.betas[1], "epsilon": self.epsilon}


class NAdamOptimizer(AdamOptimizer):
    """Adam with Nesterov momentum (Dozat 2016): m^ becomes beta1 m^ + (1 - beta1) g / (1 - beta1^t)."""

    nesterov = True
