"""Trains 784-800-10 on MNIST to fire first with the label's neuron (time to first spike, one spike per neuron).

python experiments/mnist/train_ttfs.py [--epochs N] [--seed N] [--help]
"""

from models import TTFS, main

if __name__ == "__main__":
    main("mnist_ttfs", __doc__, TTFS)
