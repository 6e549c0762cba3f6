"""Both maps of the convergence study from the same initial weights, and multi-spike minus single spike.

python experiments/convergence/convergence_maps.py [--repeats N] [--epochs N] [--device cpu] [--help]

Writes, under the results root: convergence/{count,ttfs,difference}.csv, figures/convergence_{count,ttfs,difference}.png and .pdf,
and convergence.json with the averages.
"""

from commands import both_maps

if __name__ == "__main__":
    both_maps(__doc__)
