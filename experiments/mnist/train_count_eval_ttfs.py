"""Cross study: trains on spike counts, evaluates the same weights on the time to the first spike.

    python experiments/mnist/train_count_eval_ttfs.py [--epochs N] [--seed N] [--help]

The weights and thresholds stay; the network that is evaluated has the limits of the TTFS model: max_n_spike = 1 in both
layers and t_max = 1.0 s. Hidden neurons that used to fire many times now fire once, so the output sees less input.
"""

from models import COUNT, TTFS, main

if __name__ == "__main__":
    main("mnist_train_count_eval_ttfs", __doc__, COUNT, evaluate=TTFS)
