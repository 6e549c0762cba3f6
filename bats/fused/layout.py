"""How the fused kernels are laid out: threads, shared memory, samples at a time. Pure arithmetic."""

from dataclasses import dataclass

from bats.ops.arguments import blocks

HIDDEN_TILE = 256  # intervals per warp, as in cuda/fused/hidden_forward.cu
NEURONS = 8  # hidden neurons of a block, as in cuda/fused/weight_step.cu
MAX_SHARED = 200 * 1024  # of a block, bytes; less where the device has less
SCRATCH_BYTES = 128 * 2**20  # what the spikes of all samples that are worked on together may take, at the worst
STATIC_SHARED = 4 * 1024  # upper bound of what the kernels declare themselves
N_PROCESSORS = 132
LIST_CAPACITY = 2048  # hidden spikes of a sample that are sorted in shared memory
UPDATE_CAPACITY = 3072  # hidden spikes of 8 neurons that are worked on together
SMALL_BATCH = 128  # from here on the device is full, and two blocks per processor beat one large one


@dataclass(frozen=True)
class Layout:
    """Threads and shared memory (bytes) of the three kernels for one batch size, and what their lists hold."""

    hidden_warps: int
    hidden_shared: int
    output_threads: int
    output_shared: int
    list_capacity: int
    state_capacity: int
    update_threads: int
    update_shared: int
    update_capacity: int


def samples_at_once(batch, n_hidden, n_slots, itemsize):
    """How many samples go through the kernels together: room for the worst case of every list must not exceed SCRATCH_BYTES."""
    per_sample = n_hidden * n_slots * (5 * itemsize + 8)
    most = max(1, SCRATCH_BYTES // per_sample)
    return blocks(batch, blocks(batch, most)) if batch else 0


def fits(sizes, n_out_slots, n_hidden_slots, itemsize, limit=MAX_SHARED):
    """Whether the lists that have to lie in shared memory do."""
    layout = choose(1, sizes, n_out_slots, n_hidden_slots, itemsize, limit)
    return max(layout.output_shared, layout.update_shared, layout.hidden_shared) + STATIC_SHARED <= limit


def choose(batch, sizes, n_out_slots, n_hidden_slots, itemsize, limit=MAX_SHARED):
    """Layout for `batch` samples at once; sizes = (n_pre, n_hidden, n_out)."""
    n_pre, n_hidden, n_out = sizes
    limit -= STATIC_SHARED
    warps = blocks(batch * blocks(n_hidden, 32), N_PROCESSORS)
    warps = max(4, warps) if warps <= 16 else 4
    warps = min(warps, max(1, limit // (HIDDEN_TILE * 4 * itemsize)))
    small = batch <= SMALL_BATCH
    threads = 1024 if small else 512
    room = limit if small else limit // 2
    worst = n_hidden * n_hidden_slots
    fixed = (4 * n_out * n_out_slots + n_out + 64) * itemsize + 4 * (threads + 2 * n_out + 1 + n_out * n_out_slots)
    per_entry = 2 * itemsize + 8
    list_capacity = _even(min(LIST_CAPACITY, worst, max(0, room - fixed) // per_entry))
    left = max(0, room - fixed - list_capacity * per_entry)
    state_capacity = _even(min(left // (2 * itemsize), 32 * blocks(list_capacity, 32) * n_out))
    update_fixed = NEURONS * ((n_pre | 1) + n_out) * itemsize + 2 * n_hidden_slots * itemsize + 3 * 4 * 1024
    update_capacity = _even(min(UPDATE_CAPACITY, NEURONS * n_hidden_slots * batch, max(0, limit - update_fixed) // (2 * itemsize)))
    return Layout(
        warps, warps * HIDDEN_TILE * 4 * itemsize,
        threads, fixed + list_capacity * per_entry + 2 * state_capacity * itemsize, list_capacity, state_capacity,
        1024, update_fixed + 2 * max(2, update_capacity) * itemsize, max(2, update_capacity),
    )  # fmt: skip


def _even(n):
    return int(n) // 2 * 2
