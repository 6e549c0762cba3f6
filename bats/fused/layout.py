"""How the fused kernels are laid out: threads, shared memory, samples at a time. Pure arithmetic."""

from dataclasses import dataclass

from bats.fused.tensor_map import MOST_ROWS
from bats.ops.arguments import blocks

HIDDEN_TILE, HIDDEN_UNROLL = 256, 16  # events of a warp, and those it goes through together, as in cuda/fused/hidden_forward.cu
NEURONS = 8  # hidden neurons of a block, as in cuda/fused/batch.cuh
SORTED = 64  # samples of a batch, at most, that the first kernel sorts by number of events, as in cuda/fused/sample_order.cuh
SEGMENT = 8  # hidden spikes that a thread adds up, as in cuda/fused/output_spikes.cuh
BUCKETS = 4  # of the sort, per thread, as in cuda/fused/sorted_spikes.cuh
PAIR_BYTES, SAMPLE_BYTES = 12, 16  # of a (sample, neuron) pair and a sample in cuda/fused/weight_step.cu
TILE = 512  # samples that the third kernel works on together, at most
MAX_SHARED = 224 * 1024  # of a block, bytes; less where the device has less
SCRATCH_BYTES = 141 * 2**20  # what the spikes of all samples that are worked on together may take, at the worst
STATIC_SHARED = 8 * 1024  # upper bound of what the kernels declare themselves
N_PROCESSORS = 132
LIST_CAPACITY = 2048  # hidden spikes of a sample that are sorted in shared memory
ENTRIES_PER_PAIR = 3  # of the third kernel's list in shared memory, per sample and neuron: spikes, and one more if there are any
OUT_BUFFER = 64  # of one sample, as in cuda/fused/output_weights.cuh
OUTPUT_THREADS = 896  # of the second kernel, at most: a spike each, and fewer warps that repeat what all of them have to know
CHUNK = 1536  # hidden spikes that the outputs go through together
PADDING = 8  # SEGMENT entries at the end of the second kernel's list
RESERVED = 1024  # bytes of shared memory that a block costs beyond what it asks for


@dataclass(frozen=True)
class Layout:
    """Threads and shared memory (bytes) of the three kernels for one batch size, and what their lists hold."""

    hidden_warps: int
    hidden_shared: int
    threads: int  # of the third kernel
    output_threads: int
    output_shared: int
    list_capacity: int
    chunk: int
    scratch: int  # numbers that sorting, sums and the table of later spikes may take, one after another
    weights2_staged: bool  # the second weights are copied to shared memory
    update_shared: int
    weights1_staged: int  # rows of the copies of a block's first weights and their moments, in shared memory too; 0: not copied
    update_tile: int  # samples that the third kernel works on together
    update_capacity: int  # entries of its list
    group: int  # hidden neurons of a block that does second weights
    slices: int  # its warps that have sums of their own


def padded_slots(n_hidden, n_slots):
    """Room for the spikes of a sample: whole groups of 32 neurons, each full."""
    return 32 * blocks(n_hidden, 32) * n_slots


def samples_at_once(batch, n_hidden, n_slots, itemsize, training=True):
    """How many samples go through the kernels together: room for the worst case of every list must not exceed SCRATCH_BYTES, or
    twice as much without a training, where more samples fill the device better."""
    most = max(1, SCRATCH_BYTES * (1 if training else 2) // (padded_slots(n_hidden, n_slots) * (5 * itemsize + 4)))
    return blocks(batch, blocks(batch, most)) if batch else 0


def fits(sizes, n_out_slots, n_hidden_slots, itemsize, limit=MAX_SHARED):
    """Whether the lists that have to lie in shared memory do."""
    layout = choose(1, sizes, n_out_slots, n_hidden_slots, itemsize, limit)
    return layout is not None


def choose(batch, sizes, n_out_slots, n_hidden_slots, itemsize, limit=MAX_SHARED):
    """Layout for `batch` samples at once; sizes = (n_pre, n_hidden, n_out). None if something does not fit."""
    n_pre, n_hidden, n_out = sizes
    room = limit - STATIC_SHARED
    threads = 1024 if limit >= 64 * 1024 else 256
    warps = blocks(batch * blocks(n_hidden, 32), N_PROCESSORS)
    warps = max(4, warps) if warps <= 16 else 4
    per_warp = (HIDDEN_TILE + HIDDEN_UNROLL) * (4 * itemsize + 4) + 2 * HIDDEN_UNROLL * itemsize
    warps = min(warps, max(1, room // per_warp))
    output = _choose_output(batch, room, threads, n_hidden, n_out, n_out_slots, padded_slots(n_hidden, n_hidden_slots), itemsize)
    pitch = update_pitch(n_pre)
    update = NEURONS * pitch * itemsize
    per_sample, per_spike = NEURONS * PAIR_BYTES + SAMPLE_BYTES, 2 * itemsize
    update_tile = max(1, min(batch, TILE, (room - update) // per_sample))
    update += update_tile * per_sample
    wanted = max(64, NEURONS * update_tile * min(n_hidden_slots + 1, ENTRIES_PER_PAIR)) if update_tile >= batch else 0
    copies = 3 * boxes_of(n_pre)[1] * NEURONS * itemsize
    staged = n_hidden * itemsize % 16 == 0 and update + copies + per_spike * min(wanted, 512) <= room
    weights1_staged = boxes_of(n_pre)[1] if staged else 0
    update += copies if staged else 0
    update_capacity = max(0, min(wanted, (room - update) // per_spike)) // 8 * 8
    update += update_capacity * per_spike
    hidden_shared = warps * per_warp
    if output is None or max(update, hidden_shared) > room:
        return None
    free = N_PROCESSORS - blocks(n_hidden, NEURONS)  # processors without a block that does first weights
    group = min(32, blocks(n_hidden, free)) if free > 0 else 32
    per_slice = lambda group: (group * n_out + 2 * OUT_BUFFER) * itemsize  # noqa: E731
    update = max(update, min(room, 8 * per_slice(group)))
    while group > 1 and update // per_slice(group) < 8:
        group //= 2
    slices = min(threads // 32, update // per_slice(group))
    if slices < 1:
        return None
    return Layout(warps, hidden_shared, threads, *output, update, weights1_staged, update_tile, update_capacity, group, slices)


def boxes_of(n_pre):
    """(boxes, rows in all) of the copies of n_pre rows: boxes of equal size that begin at multiples of 128 bytes."""
    n_boxes = blocks(n_pre, MOST_ROWS)
    return n_boxes, n_boxes * _up(blocks(n_pre, n_boxes), 8)


def update_pitch(n_pre):
    """Numbers from one neuron's sums to the next one's: 4 times an odd number, so that 8 neurons' sums of 4 rows lie in different banks."""
    return (n_pre + 3) // 8 * 8 + 4


def output_bytes(threads, list_capacity, chunk, staged, n_hidden, n_out, n_slots, itemsize):
    """(shared memory of the second kernel, numbers in its scratch), array by array as lay_out() of cuda/fused/output_step.cu does it."""
    even = _up(n_out, 2)
    sort = blocks(4 * (BUCKETS * threads + 4) + list_capacity * (itemsize + 4), itemsize)
    scratch = _up(max(sort, 2 * even * (chunk + chunk // SEGMENT)), 4)
    reals = [(n_hidden + 1) * even if staged else 0, list_capacity, even * blocks(chunk, 32), 2 * even * blocks(chunk, 32 * SEGMENT)]
    reals += [2 * even, n_out, *[n_out * n_slots] * 2, scratch]
    integers = list_capacity + 2 * n_out + blocks(n_hidden, 32) + n_hidden + n_out + 1 + 32
    return sum(_up(n, 4) for n in reals) * itemsize + 4 * integers, scratch


def _choose_output(batch, room, threads, n_hidden, n_out, n_slots, worst, itemsize):
    """(threads, bytes, list_capacity, chunk, scratch, staged). Two blocks per processor if there are more samples than processors: one
    works while the other waits."""
    sizes = (n_hidden, n_out, n_slots, itemsize)
    if batch > N_PROCESSORS and threads == 1024:
        half = (room + STATIC_SHARED + RESERVED) // 2 - RESERVED  # this kernel declares none itself
        found = _fill_output(half, threads // 2, worst, sizes)
        if found is not None and found[-1] and found[1] >= min(LIST_CAPACITY // 2, worst) and found[2] >= min(CHUNK // 3, worst):
            return threads // 2, *found
    threads = min(threads, OUTPUT_THREADS)
    found = _fill_output(room, threads, worst, sizes)
    return None if found is None else (threads, *found)


def _fill_output(room, threads, worst, sizes):
    """(bytes, list_capacity, chunk, scratch, staged): the second weights in shared memory if possible, long lists, then a large chunk."""
    longest = _up(min(LIST_CAPACITY, worst), PADDING)
    capacities = (longest, *(n for n in (1536, 1024, 512, 256, 128, 64, 32, 16, 8) if n < longest))
    for staged in (True, False):
        for capacity in capacities:
            chunks = [chunk for chunk in (*range(CHUNK, 63, -32), 32, 16, 8) if chunk <= capacity]
            for chunk in chunks:
                needed, scratch = output_bytes(threads, capacity + PADDING, chunk, staged, *sizes)
                if needed <= room and (chunk >= 64 or chunk == chunks[0] or not staged):
                    return needed, capacity + PADDING, chunk, scratch, staged
    return None


def _up(n, multiple):
    return blocks(int(n), multiple) * multiple
