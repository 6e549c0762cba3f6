"""Operations: each checks its arguments, then runs its CPU twin (bats/cpu) or its CUDA kernel (cuda/), by where the arrays are."""

from bats.ops.conv_presynaptic_errors import conv_presynaptic_errors
from bats.ops.conv_spike_times import conv_spike_times
from bats.ops.conv_spike_times import scratch_for as conv_forward_scratch
from bats.ops.conv_weight_gradient import conv_weight_gradient
from bats.ops.conv_weight_gradient import scratch_for as conv_gradient_scratch
from bats.ops.elastic_deformation import elastic_deformation
from bats.ops.encode_latency import encode_latency, gather_spike_trains, next_batch
from bats.ops.ensemble_gradient import ensemble_gradient
from bats.ops.later_sums import later_sums
from bats.ops.losses import (
    accumulate_metrics,
    predict,
    spike_count_class_loss,
    spike_count_loss,
    spike_time_loss,
    ttfs_softmax_cross_entropy,
)
from bats.ops.optimizers import adam, gradient_descent, tick
from bats.ops.pool_events import pool_events
from bats.ops.presynaptic_errors import presynaptic_errors, wants_later_sums
from bats.ops.recurrent_errors import recurrent_errors
from bats.ops.sort_events import scratch_for as sort_scratch
from bats.ops.sort_events import sort_events
from bats.ops.spike_rates import raise_silent, spike_rate_errors, spike_rates
from bats.ops.spike_times import scratch_for as forward_scratch
from bats.ops.spike_times import spike_times
from bats.ops.weight_gradient import event_factors, weight_gradient
from bats.ops.weight_gradient import scratch_for as gradient_scratch

__all__ = [
    "accumulate_metrics",
    "adam",
    "conv_forward_scratch",
    "conv_gradient_scratch",
    "conv_presynaptic_errors",
    "conv_spike_times",
    "conv_weight_gradient",
    "elastic_deformation",
    "encode_latency",
    "ensemble_gradient",
    "event_factors",
    "forward_scratch",
    "gather_spike_trains",
    "gradient_descent",
    "gradient_scratch",
    "later_sums",
    "next_batch",
    "pool_events",
    "predict",
    "presynaptic_errors",
    "raise_silent",
    "recurrent_errors",
    "sort_events",
    "sort_scratch",
    "spike_count_class_loss",
    "spike_count_loss",
    "spike_rate_errors",
    "spike_rates",
    "spike_time_loss",
    "spike_times",
    "tick",
    "ttfs_softmax_cross_entropy",
    "wants_later_sums",
    "weight_gradient",
]
