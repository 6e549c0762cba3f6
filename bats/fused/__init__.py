"""The whole training step of a network with one hidden layer in three CUDA kernels (docs/performance.md).

bats.step.Step uses it on request (`fused=`); the step made of single operations stays beside it, for every other network and as
the oracle of the tests.
"""

from bats.fused.eligibility import reason_against
from bats.fused.step import FusedStep

__all__ = ["FusedStep", "reason_against"]
