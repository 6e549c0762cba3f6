"""Trains 784-800-10 on MNIST with the spike-count read-out: 15 spikes from the label's neuron, 3 from the others.

python experiments/mnist/train_spike_count.py [--epochs N] [--seed N] [--help]
"""

from models import COUNT, main

if __name__ == "__main__":
    main("mnist_spike_count", __doc__, COUNT)
