"""Operations: each checks its arguments, then runs its CPU twin (bats/cpu) or its CUDA kernel (cuda/), by where the arrays are."""

from bats.ops.encode_latency import encode_latency, gather_spike_trains, next_batch
from bats.ops.ensemble_gradient import ensemble_gradient
from bats.ops.losses import (
    accumulate_metrics,
    predict,
    spike_count_class_loss,
    spike_count_loss,
    spike_time_loss,
    ttfs_softmax_cross_entropy,
)
from bats.ops.optimizers import adam, gradient_descent, tick
from bats.ops.presynaptic_errors import presynaptic_errors
from bats.ops.recurrent_errors import recurrent_errors
from bats.ops.sort_events import scratch_for as sort_scratch
from bats.ops.sort_events import sort_events
from bats.ops.spike_times import scratch_for as forward_scratch
from bats.ops.spike_times import spike_times
from bats.ops.weight_gradient import event_factors, weight_gradient
from bats.ops.weight_gradient import scratch_for as gradient_scratch

__all__ = [
    "accumulate_metrics",
    "adam",
    "encode_latency",
    "ensemble_gradient",
    "event_factors",
    "forward_scratch",
    "gather_spike_trains",
    "gradient_descent",
    "gradient_scratch",
    "next_batch",
    "predict",
    "presynaptic_errors",
    "recurrent_errors",
    "sort_events",
    "sort_scratch",
    "spike_count_class_loss",
    "spike_count_loss",
    "spike_time_loss",
    "spike_times",
    "tick",
    "ttfs_softmax_cross_entropy",
    "weight_gradient",
]
