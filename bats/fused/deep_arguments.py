"""The structures that the kernels of cuda/fused/deep_*.cu take by value, as NumPy records of the same layout."""

import numpy as np

from bats.fused.deep_layout import OWN
from bats.ops.arguments import blocks

MOST_LAYERS = 8  # of one launch, as in cuda/fused/deep_weights.cu


def _address(array):
    return array.data.ptr


class Structures:
    """Makes the records for one floating-point type. Arrays are given as CuPy arrays and stored as addresses."""

    def __init__(self, dtype):
        real, pointer, i32 = np.dtype(dtype), np.uint64, np.int32
        pointers = lambda *names: [(name, pointer) for name in names]  # noqa: E731
        self.spikes_type = np.dtype([*pointers("factors", "slopes", "errors", "counts"), ("n", i32), ("n_slots", i32)], align=True)
        rule = np.dtype([("kind", i32), ("parameter1", np.float64), ("parameter2", np.float64)], align=True)
        self.top_type = np.dtype(
            [
                ("samples", pointer), ("rule", rule), ("spikes", self.spikes_type), ("weights", pointer),
                ("tau", real), ("reset", real), ("slope_floor", real),
                *pointers("loss", "predictions", "out_counts", "labels", "cursor", "schedule"),
                ("beta1", np.float64), ("beta2", np.float64), ("count_step", i32),
            ],
            align=True,
        )  # fmt: skip
        layer = np.dtype(
            [
                *pointers("in_factors", "in_rows", "in_counts", "factors", "slopes", "errors", "counts"),
                *pointers("weights", "m", "v", "gradient", "bounded"),
                ("list_pitch", np.int64), ("n_pre", i32), ("n_post", i32), ("n_slots", i32), ("in_slots", i32), ("first_block", i32),
                ("tau", real), ("reset", real), ("slope_floor", real),
            ],
            align=True,
        )  # fmt: skip
        self.layers_type = np.dtype([("layer", layer, MOST_LAYERS), ("n", i32)], align=True)
        self.rule_type = np.dtype(
            [
                ("schedule", pointer), ("beta1", np.float64), ("beta2", np.float64), ("epsilon", np.float64),
                ("has_moments", i32), ("nesterov", i32), ("mode", i32),
            ],
            align=True,
        )  # fmt: skip

    def spikes(self, train, layer):
        record = np.zeros((), self.spikes_type)
        for name in ("factors", "slopes", "errors", "counts"):
            record[name] = _address(getattr(train, name))
        record["n"], record["n_slots"] = layer.n_neurons, layer.max_n_spike
        return record

    def top(self, **fields):
        """struct Top; all zero without fields."""
        record = np.zeros((), self.top_type)
        for name, value in fields.items():
            place = record["rule"] if name in ("kind", "parameter1", "parameter2") else record
            place[name] = value if np.isscalar(value) or isinstance(value, np.generic) or place.dtype[name].names else _address(value)
        return record

    def layers(self, step, places):
        """struct Layers for some layers of a DeepFusedStep, and how many blocks they take."""
        record = np.zeros((), self.layers_type)
        n_blocks = 0
        for slot, place in enumerate(places):
            own, layer, train, neuron = record["layer"][slot], step.layers[place], step.trains[place], step.layers[place].neuron
            m, v = step.moments[place]
            arrays = {
                "factors": train.factors, "slopes": train.slopes, "errors": train.errors, "counts": train.counts,
                "weights": layer.matrix, "m": m, "v": v, "gradient": layer.gradient, "bounded": layer.tally()[1],
            }  # fmt: skip
            if place == 0:
                arrays |= {"in_factors": step.table.factors, "in_rows": step.table.rows}
            else:
                before = step.trains[place - 1]
                arrays |= {"in_factors": before.list_q, "in_rows": before.list_places, "in_counts": before.list_counts}
                own["list_pitch"] = before.list_q.shape[1]
            for name, array in arrays.items():
                own[name] = _address(array)
            own["n_pre"], own["n_post"], own["n_slots"] = step.sizes[place], step.sizes[place + 1], step.slots[place]
            own["in_slots"] = step.slots[place - 1] if place else step.in_slots
            own["first_block"] = n_blocks
            own["tau"], own["reset"], own["slope_floor"] = neuron.tau, neuron.reset, neuron.slope_floor
            n_blocks += blocks(step.sizes[place + 1], OWN)
        record["n"] = len(places)
        return record, n_blocks

    def rule(self, optimizer, schedule, mode):
        record = np.zeros((), self.rule_type)
        record["schedule"] = _address(schedule)
        record["beta1"], record["beta2"] = optimizer.betas
        record["epsilon"] = getattr(optimizer, "epsilon", 0)
        record["has_moments"], record["nesterov"], record["mode"] = bool(optimizer.moments), getattr(optimizer, "nesterov", False), mode
        return record
