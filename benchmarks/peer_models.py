"""The network of the MNIST count job in three libraries of surrogate gradients over time steps (PyTorch).

784-800-10 without biases, T = 200 steps of 1 ms, soft reset, a membrane time constant of 20 ms, each written as its library's
own examples are; the loss is the cross-entropy of the output spike counts. A pixel p > 0 spikes once, at 0.1 s (1 - p / 255).
"""

import math

import torch
from torch import nn

N_STEPS, TAU = 200, 20.0  # of 1 ms each; in steps
SIZES = (784, 800, 10)
GAIN = 6.0  # of PyTorch's initial weights: with one spike per pixel its own leave every neuron silent


def linear(place, gain=GAIN):
    layer = nn.Linear(*SIZES[place : place + 2], bias=False)
    with torch.no_grad():
        layer.weight.mul_(gain)
    return layer


class SpikingJelly(nn.Module):
    """Multi-step modules: the library fuses the time loop of a layer into one kernel where it can."""

    def __init__(self):
        super().__init__()
        from spikingjelly.activation_based import functional, neuron, surrogate

        self.reset = functional.reset_net
        lif = [
            neuron.LIFNode(tau=TAU, decay_input=False, v_reset=None, surrogate_function=surrogate.ATan(), step_mode="m") for _ in range(2)
        ]
        self.layers = nn.Sequential(linear(0), lif[0], linear(1), lif[1])

    def forward(self, waves):
        self.reset(self.layers)
        return self.layers(waves).sum(dim=0)


class SnnTorch(nn.Module):
    """The loop over time steps of the library's tutorials."""

    def __init__(self):
        super().__init__()
        import snntorch
        from snntorch import surrogate

        beta = math.exp(-1 / TAU)
        self.linear = nn.ModuleList(linear(place) for place in range(2))
        self.lif = nn.ModuleList(snntorch.Leaky(beta=beta, spike_grad=surrogate.atan()) for _ in range(2))

    def forward(self, waves):
        membranes = [lif.init_leaky() for lif in self.lif]
        counts = 0
        for spikes in waves:
            for place in range(2):
                spikes, membranes[place] = self.lif[place](self.linear[place](spikes), membranes[place])
            counts = counts + spikes
        return counts


class Norse(nn.Module):
    """LIF layers over a sequence; current-based synapses, of half the membrane time constant, as in bats, which reach a quarter of
    the weight: hence the larger gain. Its reset is hard."""

    def __init__(self):
        super().__init__()
        import norse.torch as norse

        parameters = norse.LIFParameters(
            tau_mem_inv=torch.as_tensor(1e3 / TAU), tau_syn_inv=torch.as_tensor(2e3 / TAU), v_th=torch.as_tensor(1.0)
        )
        self.linear = nn.ModuleList(linear(place, 4 * GAIN) for place in range(2))
        self.lif = nn.ModuleList(norse.LIF(parameters, dt=1e-3) for _ in range(2))

    def forward(self, waves):
        for place in range(2):
            waves, _ = self.lif[place](self.linear[place](waves))
        return waves.sum(dim=0)


# What is compared by time only, and why.
NO_ACCURACY = {"norse": "its default surrogate did not learn with these settings (gradients of 1e8 at once); its time only is compared"}
PEERS = {"spikingjelly": ("SpikingJelly", SpikingJelly), "snntorch": ("snnTorch", SnnTorch), "norse": ("Norse", Norse)}


class PeerTraining:
    """A peer with its data on a torch device. images uint8 [n, 28, 28], labels [n]."""

    def __init__(self, kind, data, batch, device, learning_rate, seed=0):
        torch.manual_seed(seed)
        self.device, self.batch = torch.device(device), batch
        self.model = PEERS[kind][1]().to(self.device)
        self.optimizer = torch.optim.Adam(self.model.parameters(), learning_rate)
        self.train, self.test = (self._resident(*part) for part in ((data.x_train, data.y_train), (data.x_test, data.y_test)))
        self.seed, self._order, self._at = seed, None, len(self.train[1])
        self._times = torch.arange(N_STEPS, device=self.device, dtype=torch.uint8)[:, None, None]

    def _resident(self, images, labels):
        images = torch.as_tensor(images.reshape(len(images), -1), device=self.device)
        steps = torch.where(images > 0, torch.floor(100 * (1 - images.float() / 255)), 255.0).to(torch.uint8)
        return steps, torch.as_tensor(labels, dtype=torch.long, device=self.device)

    def waves(self, indices, part):
        """[T, batch, 784] of zeros and ones, and the labels."""
        steps, labels = part
        return (steps[indices][None] == self._times).float(), labels[indices]

    def step(self):
        """One step of training on the next batch of the epoch's order."""
        if self._order is None or self._at + self.batch > len(self._order):
            generator = torch.Generator().manual_seed(self.seed)
            self._order, self._at = torch.randperm(len(self.train[1]), generator=generator).to(self.device), 0
            self.seed += 1
        waves, labels = self.waves(self._order[self._at : self._at + self.batch], self.train)
        self._at += self.batch
        self.optimizer.zero_grad(set_to_none=True)
        loss = nn.functional.cross_entropy(self.model(waves), labels)
        loss.backward()
        self.optimizer.step()
        return loss

    @torch.no_grad()
    def accuracy(self, batch=500):
        """Percent of the test set."""
        right = torch.zeros((), device=self.device)
        for first in range(0, len(self.test[1]), batch):
            part = torch.arange(first, min(first + batch, len(self.test[1])), device=self.device)
            waves, labels = self.waves(part, self.test)
            right += (self.model(waves).argmax(dim=1) == labels).sum()
        return 100 * float(right) / len(self.test[1])
