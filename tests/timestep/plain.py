"""The program everybody writes, step by step, differentiated automatically (package autograd): independent of any formula for
a gradient but the surrogate itself."""

import numpy


def gradients_by_autograd(layers, waves, labels):
    """(loss summed over the batch, a dictionary per layer of gradients, dL/d(input)), for layers of bats.reference_timestep."""
    import autograd.numpy as np
    from autograd import grad
    from autograd.extend import defvjp, primitive

    from bats.reference_timestep import surrogate

    def spike_function(kind):
        heaviside = primitive(lambda x: (x > 0).astype(float))
        defvjp(heaviside, lambda _, x: lambda g: g * surrogate(kind, x))
        return heaviside

    clamp = primitive(lambda x: numpy.clip(x, 0, 1))
    defvjp(clamp, lambda _, x: lambda g: g * ((x >= 0) & (x <= 1)))

    def once(z):
        """relu(z (1 - z) + 1) z: 0 for 0, 1 for 1, 0 for larger integers."""
        return np.maximum(z * (1 - z) + 1, 0) * z

    def run(parameters, x):
        for layer, own in zip(layers, parameters, strict=True):
            n_steps, heaviside = waves.shape[1], spike_function(layer.surrogate)
            currents = [np.dot(x[:, t], own["weights"].T) + own["bias"] for t in range(n_steps)]
            membranes, spikes = [], []
            left = one_sum = two_sums = 0.0
            for t in range(n_steps):
                if layer.kind == "standard":
                    v = currents[t] + (layer.response[1] * left if t else 0.0)
                    s = heaviside(v - layer.threshold)
                    left = v - layer.threshold * s if layer.reset else v
                else:
                    v = sum(own["response"][t - s] * currents[s] for s in range(t + 1))
                    one_sum = one_sum + heaviside(v - layer.threshold)
                    two_sums = two_sums + one_sum
                    s = once(two_sums)
                membranes.append(v)
                spikes.append(clamp(s + x[:, t]) if layer.skip else s)
            x = np.stack(spikes, axis=1)
        v = np.stack(membranes, axis=1)
        samples, neurons = numpy.ogrid[: v.shape[0], : v.shape[2]]
        logits = v[samples, np.argmax(v, axis=1), neurons]  # the first maximum, also where membranes are equal
        shifted = logits - np.max(logits, axis=1, keepdims=True)
        own_logit = shifted[numpy.arange(len(labels)), labels]
        return np.sum(np.log(np.sum(np.exp(shifted), axis=1)) - own_logit)

    parameters = [{"weights": la.weights, "bias": la.bias, "response": la.response} for la in layers]
    return run(parameters, waves), *(grad(run, argument)(parameters, waves) for argument in (0, 1))
