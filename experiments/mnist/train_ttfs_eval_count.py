"""Cross study: trains on the time to the first spike, evaluates the same weights on spike counts.

    python experiments/mnist/train_ttfs_eval_count.py [--epochs N] [--seed N] [--help]

A network limited to one spike per neuron has no counts to compare. The weights and thresholds stay; the network that is
evaluated has the limits of the count model: max_n_spike = 30 in both layers and t_max = 0.2 s.
"""

from models import COUNT, TTFS, main

if __name__ == "__main__":
    main("mnist_train_ttfs_eval_count", __doc__, TTFS, evaluate=COUNT)
