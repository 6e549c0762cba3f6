"""Cross study: trains and evaluates on the time to the first spike (the control of train_ttfs_eval_count.py).

python experiments/mnist/train_ttfs_eval_ttfs.py [--epochs N] [--seed N] [--help]
"""

from models import TTFS, main

if __name__ == "__main__":
    main("mnist_train_ttfs_eval_ttfs", __doc__, TTFS, evaluate=TTFS)
