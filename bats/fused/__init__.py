"""The whole training step of a dense network in few CUDA kernels: three with one hidden layer, 2 n + 1 with n > 1 of them; with one
hidden layer also on the CPU.

bats.step.Step uses it on request (`fused=`); the step made of single operations stays beside it, for every other network and as
the oracle of the tests.
"""

from bats.cpu.warm_up import warm_up_fused
from bats.fused import eligibility
from bats.fused.cpu_step import CpuFusedStep
from bats.fused.deep_step import DeepFusedStep
from bats.fused.eligibility import reason_against, reason_for_plain
from bats.fused.step import FusedStep


def fused_step(network, *arguments, **options):
    """The fused step made for the network's device and number of hidden layers."""
    if not eligibility.takes_kernels(network):
        warm_up_fused(network.dtype)
        return CpuFusedStep(network, *arguments, **options)
    return (FusedStep if len(network.layers) == 3 else DeepFusedStep)(network, *arguments, **options)


__all__ = ["CpuFusedStep", "DeepFusedStep", "FusedStep", "fused_step", "reason_against", "reason_for_plain"]
