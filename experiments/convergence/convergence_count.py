"""The multi-spike map of the convergence study: up to 10 spikes per output, spike-count loss with targets 10 and 0.

python experiments/convergence/convergence_count.py [--repeats N] [--epochs N] [--device cpu] [--help]
"""

from commands import one_map

if __name__ == "__main__":
    one_map("count", __doc__)
