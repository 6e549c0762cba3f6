"""CPU twin of cuda/lif/spike_rates.cu: spike-rate regularization (docs/silent_neurons.md)."""

from numba import njit


@njit(cache=True)
def spike_rates(counts, rates):
    """counts [B, N] -> rates [n_units]: mean count over the batch and the neurons of each unit."""
    batch, n_neurons = counts.shape
    n_units = len(rates)
    share = n_neurons // n_units
    for unit in range(n_units):
        total = 0
        for b in range(batch):
            for i in range(unit, n_neurons, n_units):
                total += counts[b, i]
        rates[unit] = total / max(batch * share, 1)


@njit(cache=True)
def spike_rate_errors(errors, counts, rates, minimum, maximum, strength, total):
    """errors [B, K, N] -> total [B, K, N] for the spikes that counts [B, N] has; strength as per neuron."""
    n_units = len(rates)
    for b in range(errors.shape[0]):
        for i in range(errors.shape[2]):
            rate = rates[i % n_units]
            extra = strength * (max(minimum - rate, minimum - minimum) - max(rate - maximum, minimum - minimum))
            for k in range(counts[b, i]):
                total[b, k, i] = errors[b, k, i] + extra


@njit(cache=True)
def raise_silent(rates, amount, gradient):
    """gradient [n, n_units] -= amount for units whose rate is 0."""
    for row in range(gradient.shape[0]):
        for unit in range(len(rates)):
            if rates[unit] == 0:
                gradient[row, unit] -= amount
