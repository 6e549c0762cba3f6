"""What a trained network does on a set: which classes it confuses, how much it spikes, how soon it has decided.

`Evaluation` gathers all of it in one pass and writes tables and plots; the functions below it work on arrays.
"""

from bats.evaluation.classification import classification_figures
from bats.evaluation.latency import LatencyCurve, decision_times, decisions
from bats.evaluation.report import Evaluation
from bats.evaluation.sparsity import Sparsity

__all__ = ["Evaluation", "LatencyCurve", "Sparsity", "classification_figures", "decision_times", "decisions"]
