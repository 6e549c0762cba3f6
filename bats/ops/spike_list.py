"""All spikes of a batch in any order: forward kernels append them, bucket_sort starts from them (CUDA)."""

from dataclasses import dataclass

import numpy as np

from bats.ops.arguments import expect

_STRUCT = np.dtype([("times", np.uint64), ("ranks", np.uint64), ("counts", np.uint64), ("room", np.int32)], align=True)


@dataclass
class SpikeList:
    """times [B, room] float, ranks [B, room] int32 (neuron * n_slots + slot) of each sample's counts [B] int32 spikes.

    filled: whether a forward pass left its spikes here and no sort has taken them yet; else counts are 0. Batches smaller than B use
    the same object, so that it knows of all of them.
    """

    times: object
    ranks: object
    counts: object
    filled: bool = False

    @classmethod
    def allocate(cls, xp, batch, room, dtype):
        """room: neurons times slots, beyond which no sample can have spikes."""
        ranks, counts = xp.zeros((batch, room), dtype=np.int32), xp.zeros(batch, dtype=np.int32)
        return cls(xp.zeros((batch, room), dtype=dtype), ranks, counts)  # zeros: the sort loads more than there is

    def clear(self):
        """Drops what no sort has taken."""
        if self.filled:
            self.counts.fill(0)
        self.filled = False

    def expect(self, trains):
        """Raises TypeError or ValueError unless the spikes of trains [batch, n_slots, n_neurons] fit in."""
        batch, n_slots, n_neurons = trains.shape
        expect("spike list: times", self.times, (None, n_slots * n_neurons), trains.dtype, trains)
        expect("spike list: ranks", self.ranks, self.times.shape, np.int32, trains)
        expect("spike list: counts", self.counts, self.times.shape[:1], np.int32, trains)
        if len(self.counts) < batch:
            raise ValueError(f"spike list: expected room for {batch} samples, received {len(self.counts)}")


def packed_list(spikes):
    """A SpikeList, or None, as the argument `SpikeList<real>` of the kernels (cuda/events/spike_list.cuh)."""
    argument = np.zeros((), dtype=_STRUCT)
    if spikes is not None:
        for name in ("times", "ranks", "counts"):
            argument[name] = getattr(spikes, name).data.ptr
        argument["room"] = spikes.times.shape[1]
    return argument


def list_to_fill(spikes, trains):
    """The same for a forward kernel that is about to append the spikes of `trains`."""
    if spikes is not None:
        spikes.expect(trains)
        spikes.clear()
        spikes.filled = True
    return packed_list(spikes)


def list_to_take(spikes, trains):
    """The same for a sort of `trains`; none if their spikes are not in the list."""
    if spikes is None or not spikes.filled:
        return packed_list(None)
    spikes.expect(trains)
    spikes.filled = False
    return packed_list(spikes)
