"""The step-by-step loop that everybody writes: a layer of LIF neurons with soft reset, an array operation at a time.

A baseline for the layers of bats.timestep, with NumPy on the CPU and CuPy on the GPU. Forward and backward pass are written out
by hand, as an automatic differentiation would run them (8 and 14 operations per step), without its bookkeeping; the input of a
step is contiguous. Both spare the loop some of what it costs in a framework.
"""


class StepLoop:
    """V[t] = beta U[t-1] + S_in[t] W + b,  S[t] = [V[t] > 1],  U[t] = V[t] - S[t]; surrogate 1 / (100 |V - 1| + 1)^2.

    weights [n_in, n], bias [n]: arrays of the module xp (numpy or cupy).
    """

    def __init__(self, xp, weights, bias, beta):
        self.xp, self.weights, self.bias, self.beta = xp, weights, bias, beta

    def forward(self, inputs):
        """inputs [n_steps, batch, n_in] -> spikes, a list of [batch, n] per step; keeps what backward needs."""
        xp, real = self.xp, self.weights.dtype
        self.inputs, self.membranes, spikes = inputs, [], []
        after = xp.zeros((inputs.shape[1], self.weights.shape[1]), dtype=real)
        for step_input in inputs:
            current = step_input @ self.weights
            current = current + self.bias
            membrane = self.beta * after
            membrane = membrane + current
            crossed = membrane > 1
            spike = crossed.astype(real)
            after = membrane - spike
            self.membranes.append(membrane)
            spikes.append(spike)
        return spikes

    def backward(self, errors):
        """errors [n_steps, batch, n] = dL/dS -> (dL/dW [n_in, n], dL/db [n]), summed over batch and steps."""
        xp = self.xp
        weight_gradient, bias_gradient = xp.zeros_like(self.weights), xp.zeros_like(self.bias)
        after = xp.zeros_like(errors[0])  # dL/dU[t], through step t + 1
        for t in range(len(self.membranes) - 1, -1, -1):
            through_spike = errors[t] - after
            distance = self.membranes[t] - 1
            distance = xp.abs(distance)
            distance = 100 * distance
            distance = distance + 1
            square = distance * distance
            through_spike = through_spike / square
            current = after + through_spike
            weight_part = self.inputs[t].T @ current
            weight_gradient = weight_gradient + weight_part
            bias_part = current.sum(axis=0)
            bias_gradient = bias_gradient + bias_part
            after = self.beta * current
        return weight_gradient, bias_gradient
