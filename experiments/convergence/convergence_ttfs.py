"""The single-spike map of the convergence study: time to first spike, softmax cross entropy with tau = 0.1 s.

python experiments/convergence/convergence_ttfs.py [--repeats N] [--epochs N] [--device cpu] [--help]
"""

from commands import one_map

if __name__ == "__main__":
    one_map("ttfs", __doc__)
