"""How the kernels of the fused step for several hidden layers are laid out: threads, shared memory, samples at a time.

Pure arithmetic. sizes: neurons per layer, input first; slots: spikes kept per neuron, of the layers after the input.
"""

from dataclasses import dataclass

from bats.ops.arguments import blocks

MAX_SHARED = 200 * 1024  # of a block, bytes; less where the device has less
SCRATCH_BYTES = 128 * 2**20  # what the spikes of all samples that are worked on together may take, at the worst
STATIC_SHARED = 6 * 1024  # upper bound of what the kernels declare themselves
N_PROCESSORS = 132
THREADS = 512  # of forward and backward
RUNS = (31, 25, 13, 7, 3, 1)  # events of a lane: odd, so that the lanes of a warp find them in different banks
MOST_OWN = 16  # neurons of a block, as in cuda/fused/deep_forward.cu
MOST_COLUMN = 4096  # weights of a column or row that is kept in shared memory
OWN = 8  # neurons of a block, as in cuda/fused/deep_weights.cu
WEIGHT_THREADS = 1024
SORT_ROOM = 48 * 1024  # of lists that every block of the next layer sorts for itself, bytes
SORT_BATCH = 32  # from here on the device is full, and a layer's spikes are sorted once
BUCKETS = 4  # of a sort, per thread, as in cuda/fused/deep.cuh
WIDE_TILE = 128  # intervals per warp, as in cuda/fused/deep_forward_wide.cu
GRAIN = 4096  # spikes sorted in shared memory by a kernel of their own
UPDATE_CAPACITY = 3072  # spikes of OWN neurons that are worked on together
ROUND_CAPACITY = 4096  # spikes of a layer that go backwards together


@dataclass(frozen=True)
class Forward:
    """n_own: neurons of a block; run: most events of a lane; scratch: values that sums and sort need; pitch: of a weight column in
    shared memory, 0: none; capacity: of the list that a block sorts for itself, 0: it does not; groups: of samples, per block of
    neurons."""

    n_own: int
    run: int
    scratch: int
    pitch: int
    capacity: int
    groups: int
    shared: int


@dataclass(frozen=True)
class Backward:
    """width: blocks per sample; capacity: spikes per round; pitch: of a weight row in shared memory, 0: none; keeps_outputs: whether
    the outputs' weights lie there too."""

    width: int
    capacity: int
    pitch: int
    keeps_outputs: bool
    groups: int
    shared: int


def samples_at_once(batch, sizes, slots, itemsize):
    """How many samples go through the kernels together: room for the worst case of every list must not exceed SCRATCH_BYTES."""
    per_sample = sum(n * k for n, k in zip(sizes[1:], slots, strict=True)) * (5 * itemsize + 8)
    most = max(1, SCRATCH_BYTES // per_sample)
    return blocks(batch, blocks(batch, most)) if batch else 0


def sorts_itself(n_pre, pre_slots, batch, itemsize, limit):
    """Whether every block of a layer sorts the spikes of the layer before."""
    return batch < SORT_BATCH and n_pre * pre_slots * (2 * itemsize + 8) <= min(SORT_ROOM, limit // 4)


def forward(batch, n_pre, n_post, pre_slots, itemsize, limit):
    """pre_slots: spikes per neuron of the layer before, None for the input layer. None if nothing fits."""
    alone = pre_slots is None or not sorts_itself(n_pre, pre_slots, batch, itemsize, limit)
    capacity = 0 if alone else n_pre * pre_slots
    n_own = min(MOST_OWN, n_post)
    while n_own > 4 and 2 * blocks(n_post, n_own) * batch <= N_PROCESSORS:
        n_own = (n_own + 1) // 2
    sorting = (capacity * (itemsize + 4) + 4 * BUCKETS * THREADS) if capacity else 0
    pitch = 32 * blocks(n_pre, 32) + 2  # columns begin two banks apart
    choices = [(own, run, pitch) for own in {n_own, min(n_own, 8), min(n_own, 4)} for run in RUNS[:4] if n_pre <= MOST_COLUMN]
    choices += [(own, run, 0) for own in {n_own, min(n_own, 4), 1} for run in RUNS]
    choices.sort(key=lambda choice: (choice[2] == 0, -choice[0], -choice[1]))
    for own, run, columns in choices:
        scratch = 4 * blocks(max(2 * own * 32 * run * itemsize, sorting), 4 * itemsize)
        shared = scratch * itemsize + own * columns * itemsize + 32 * run * (4 * itemsize + 4) + capacity * (itemsize + 4)
        if shared + STATIC_SHARED <= limit:
            return Forward(own, run, scratch, columns, capacity, _groups(batch, blocks(n_post, own)), shared)
    return None


def wide(batch, n_post, itemsize, limit):
    """(warps of a block, bytes) of deep_forward_wide for a layer of many neurons and samples, None where deep_forward is better."""
    if batch < SORT_BATCH or n_post < 32:
        return None
    warps = blocks(batch * blocks(n_post, 32), N_PROCESSORS)
    warps = max(4, warps) if warps <= 16 else 4
    shared = 4 * itemsize * WIDE_TILE
    warps = min(warps, (limit - STATIC_SHARED) // shared)
    return (warps, warps * shared) if warps else None


def sort_capacity(n, slots, itemsize, limit):
    """Spikes that deep_sort keeps in shared memory, and its bytes; (0, bytes) if it keeps none."""
    fixed = 4 * BUCKETS * WEIGHT_THREADS
    capacity = max(0, min(n * slots, GRAIN, (limit - STATIC_SHARED - fixed) // (2 * itemsize + 8)))
    return capacity, fixed + capacity * (2 * itemsize + 8)


def backward(batch, n_lower, n_upper, upper_slots, out, itemsize, limit):
    """out: (n_out, slots) if the pass starts at the outputs, else (0, 0). None if it does not fit."""
    warps = THREADS // 32
    n_out, out_slots = out
    fixed = (4 * n_out * out_slots + n_out + 1) * itemsize + 4 * (n_out * out_slots + 2 * n_out + 1) + upper_slots * (3 * itemsize + 4)
    left = limit - STATIC_SHARED - fixed
    per_entry = 3 * itemsize + 4
    worst = min(n_upper * upper_slots, ROUND_CAPACITY)
    wanted = min(worst, 1024) * per_entry  # the list goes before the weights
    width = blocks(n_lower, warps)
    if batch * width > 2 * N_PROCESSORS:  # what all blocks of a sample do alike counts more than the number of blocks
        width = max(1, min(width, 2 * N_PROCESSORS // batch))
    keeps_outputs = 0 < n_out * n_upper <= 2 * MOST_COLUMN and n_out * n_upper * itemsize + wanted <= left
    left -= n_out * n_upper * itemsize if keeps_outputs else 0
    pitch = blocks(n_upper, 4) * 4  # rows begin at multiples of 16 bytes
    if width * warps < n_lower or n_upper > MOST_COLUMN or warps * pitch * itemsize + wanted > left:
        pitch = 0
    left -= warps * pitch * itemsize
    if left < per_entry:
        return None
    capacity = min(worst, left // per_entry)
    return Backward(width, capacity, pitch, keeps_outputs, _groups(batch, width), limit - STATIC_SHARED - left + capacity * per_entry)


def weights(batch, sizes, slots, itemsize, limit):
    """(capacity, bytes) of deep_weights for all layers. None if the sums of OWN neurons do not fit."""
    left = limit - STATIC_SHARED - 2 * 4 * WEIGHT_THREADS
    fixed = max((OWN * (n | 1) + 3 + 5 * k) * itemsize for n, k in zip(sizes[:-1], slots, strict=True))
    most = max(OWN * k * batch for k in slots)
    capacity = min(UPDATE_CAPACITY, most, (left - fixed) // (5 * itemsize)) // 2 * 2
    if capacity < 2:
        return None
    return capacity, fixed + 5 * capacity * itemsize + 2 * 4 * WEIGHT_THREADS


def fits(sizes, slots, itemsize, limit=MAX_SHARED):
    """Whether all that has to lie in shared memory does."""
    return all(layout is not None for layout in layouts(1, sizes, slots, itemsize, limit))


def layouts(batch, sizes, slots, itemsize, limit):
    """All layouts of a step: forward passes, backward passes (outputs first), weights."""
    n = len(slots)
    found = [forward(batch, sizes[k], sizes[k + 1], slots[k - 1] if k else None, itemsize, limit) for k in range(n)]
    for k in range(n - 2, 0, -1):
        out = (sizes[-1], slots[-1]) if k == n - 2 else (0, 0)
        found.append(backward(batch, sizes[k], sizes[k + 1], slots[k], out, itemsize, limit))
    return [*found, weights(batch, sizes, slots, itemsize, limit)]


def _groups(batch, per_sample):
    """Groups of samples per block of neurons: enough blocks to fill the device a few times, no more."""
    return max(1, min(batch, blocks(4 * N_PROCESSORS, per_sample)))
