"""Cross study: trains on spike counts, evaluates on spike counts (the control of train_count_eval_ttfs.py).

python experiments/mnist/train_count_eval_count.py [--epochs N] [--seed N] [--help]
"""

from models import COUNT, main

if __name__ == "__main__":
    main("mnist_train_count_eval_count", __doc__, COUNT, evaluate=COUNT)
