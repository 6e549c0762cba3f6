// What a CUDA kernel needs, for a C++ compiler: the threads of a block are fibers of one thread of the CPU, blocks run one after another.
//
// A fiber runs until it meets a barrier of its block or its warp; which one goes on is drawn at random, so a missing barrier shows. Shared
// memory is filled with NaN before every block. Warp functions need all lanes of the warp that have not returned.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <random>
#include <set>
#include <utility>
#include <vector>

#define __global__
#define __device__
#define __shared__ static
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __grid_constant__
#define __align__(n) alignas(n)

struct dim { unsigned x, y, z; };
struct int2 { int x, y; };
struct int4 { int x, y, z, w; };
struct float2 { float x, y; };
struct float4 { float x, y, z, w; };
struct double2 { double x, y; };
struct uint4 { unsigned x, y, z, w; };

namespace emulated {

enum State { RUNNABLE, AT_BLOCK, AT_WARP, ENDED };

struct Fiber {
    void* stack_pointer;
    std::vector<char> stack;
    dim thread;
    unsigned place;  // in the block
    State state;
    uint64_t deposit;  // what the lane brings to a warp function
    int round;         // warp functions so far
};

inline std::vector<Fiber> fibers;
inline Fiber* current;
inline void* scheduler_stack;
inline dim block_index, block_size, grid_size;
inline std::vector<char> shared_memory;
inline std::set<void*> met;  // shared variables that this block has come across
inline std::mt19937 order;
inline void (*entry)(void*);
inline void* entry_arguments;

// Fills a shared variable with NaN when the block meets it first.
inline void fresh(void* variable, size_t size) {
    if (met.insert(variable).second) std::memset(variable, 0xff, size);
}

extern "C" void emulated_switch(void** from, void* to);
asm(".text\n.globl emulated_switch\nemulated_switch:\n"
    "push %rbp\npush %rbx\npush %r12\npush %r13\npush %r14\npush %r15\n"
    "mov %rsp,(%rdi)\nmov %rsi,%rsp\n"
    "pop %r15\npop %r14\npop %r13\npop %r12\npop %rbx\npop %rbp\nret\n");

inline void wait(State state) {
    current->state = state;
    emulated_switch(&current->stack_pointer, scheduler_stack);
}

inline void fiber_main() {
    entry(entry_arguments);
    wait(ENDED);
    std::abort();
}

inline void prepare(Fiber& fiber, unsigned t) {
    constexpr size_t SIZE = 96 * 1024;
    fiber.stack.resize(SIZE);
    fiber.thread = {t % block_size.x, t / block_size.x % block_size.y, t / block_size.x / block_size.y};
    fiber.place = t;
    fiber.state = RUNNABLE;
    fiber.round = 0;
    auto top = reinterpret_cast<uintptr_t>(fiber.stack.data() + SIZE) & ~uintptr_t(15);
    void** stack = reinterpret_cast<void**>(top);
    *--stack = nullptr;  // where a caller's return address would be
    *--stack = reinterpret_cast<void*>(&fiber_main);
    for (int i = 0; i < 6; ++i) *--stack = nullptr;
    fiber.stack_pointer = stack;
}

// Lets the lanes of a warp go on if all that have not ended wait, and so the block.
inline void release(unsigned warp) {
    const unsigned first = warp * 32, last = std::min<unsigned>(first + 32, fibers.size());
    for (unsigned t = first; t < last; ++t) {
        if (fibers[t].state != AT_WARP && fibers[t].state != ENDED) return;
    }
    for (unsigned t = first; t < last; ++t) {
        if (fibers[t].state == AT_WARP) fibers[t].state = RUNNABLE;
    }
}

inline bool release_block() {
    bool any = false;
    for (auto& fiber : fibers) {
        if (fiber.state == RUNNABLE || fiber.state == AT_WARP) return false;
        any |= fiber.state == AT_BLOCK;
    }
    for (auto& fiber : fibers) {
        if (fiber.state == AT_BLOCK) fiber.state = RUNNABLE;
    }
    return any;
}

// Runs one block; false if its threads wait for each other.
inline bool run_block() {
    for (unsigned t = 0; t < fibers.size(); ++t) prepare(fibers[t], t);
    std::fill(shared_memory.begin(), shared_memory.end(), char(0xff));
    met.clear();
    const unsigned n_warps = (fibers.size() + 31) / 32;
    std::vector<unsigned> warps(n_warps);
    for (unsigned w = 0; w < n_warps; ++w) warps[w] = w;
    while (true) {
        bool ran = false;
        std::shuffle(warps.begin(), warps.end(), order);
        for (unsigned w : warps) {
            for (unsigned t = w * 32; t < std::min<unsigned>(w * 32 + 32, fibers.size()); ++t) {
                if (fibers[t].state != RUNNABLE) continue;
                current = &fibers[t];
                emulated_switch(&scheduler_stack, current->stack_pointer);
                ran = true;
            }
            release(w);
        }
        if (ran) continue;
        if (!release_block()) break;
    }
    return std::all_of(fibers.begin(), fibers.end(), [](const Fiber& fiber) { return fiber.state == ENDED; });
}

template <typename... Arguments, size_t... I>
int launch(void (*kernel)(Arguments...), const unsigned* sizes, void** arguments, std::index_sequence<I...>) {
    struct Call {
        void (*kernel)(Arguments...);
        void** arguments;
    } call = {kernel, arguments};
    entry_arguments = &call;
    entry = [](void* given) {
        auto& call = *static_cast<Call*>(given);
        call.kernel(*static_cast<std::remove_reference_t<Arguments>*>(call.arguments[I])...);
    };
    grid_size = {sizes[0], sizes[1], sizes[2]};
    block_size = {sizes[3], sizes[4], sizes[5]};
    fibers.resize(sizes[3] * sizes[4] * sizes[5]);
    shared_memory.resize(sizes[6] + 64);
    order.seed(sizes[7]);
    std::vector<unsigned> blocks(grid_size.x * grid_size.y * grid_size.z);
    for (unsigned b = 0; b < blocks.size(); ++b) blocks[b] = b;
    std::shuffle(blocks.begin(), blocks.end(), order);
    for (unsigned b : blocks) {
        block_index = {b % grid_size.x, b / grid_size.x % grid_size.y, b / grid_size.x / grid_size.y};
        if (!run_block()) return 1;
    }
    return 0;
}

template <typename... Arguments>
int launch(void (*kernel)(Arguments...), const unsigned* sizes, void** arguments) {
    return launch(kernel, sizes, arguments, std::index_sequence_for<Arguments...>());
}

inline double* aligned_shared() {
    return reinterpret_cast<double*>((reinterpret_cast<uintptr_t>(shared_memory.data()) + 63) & ~uintptr_t(63));
}

// A warp function: every lane deposits a value; of(lane) is what a lane deposited (its own for lanes that have returned).
template <typename value_t>
struct Exchange {
    static_assert(sizeof(value_t) <= 8, "one register pair");
    unsigned first;
    value_t own;

    explicit Exchange(value_t value) : first(current->place & ~31u), own(value) {
        std::memcpy(&current->deposit, &value, sizeof value);
        wait(AT_WARP);
    }
    value_t of(unsigned lane) const {
        if (first + lane >= fibers.size() || fibers[first + lane].state == ENDED) return own;
        value_t value;
        std::memcpy(&value, &fibers[first + lane].deposit, sizeof value);
        return value;
    }
    bool there(unsigned lane) const { return first + lane < fibers.size() && fibers[first + lane].state != ENDED; }
    // The deposits must stay until all lanes have read them.
    ~Exchange() { wait(AT_WARP); }
};

}  // namespace emulated

#define threadIdx emulated::current->thread
#define blockIdx emulated::block_index
#define blockDim emulated::block_size
#define gridDim emulated::grid_size

inline void __syncthreads() { emulated::wait(emulated::AT_BLOCK); }
inline void __syncwarp(unsigned = 0) { emulated::wait(emulated::AT_WARP); }

template <typename value_t>
value_t __shfl_sync(unsigned, value_t value, int lane) { return emulated::Exchange<value_t>(value).of(lane & 31); }
template <typename value_t>
value_t __shfl_up_sync(unsigned, value_t value, unsigned distance) {
    const int lane = emulated::current->place & 31;
    return emulated::Exchange<value_t>(value).of(lane >= (int)distance ? lane - distance : lane);
}
template <typename value_t>
value_t __shfl_down_sync(unsigned, value_t value, unsigned distance) {
    const int lane = emulated::current->place & 31;
    return emulated::Exchange<value_t>(value).of(lane + distance < 32 ? lane + distance : lane);
}
template <typename value_t>
value_t __shfl_xor_sync(unsigned, value_t value, int mask) { return emulated::Exchange<value_t>(value).of((emulated::current->place & 31) ^ mask); }

inline unsigned __ballot_sync(unsigned, int predicate) {
    const emulated::Exchange<int> votes(predicate);
    unsigned bits = 0;
    for (unsigned lane = 0; lane < 32; ++lane) bits |= votes.there(lane) && votes.of(lane) ? 1u << lane : 0u;
    return bits;
}
inline int __any_sync(unsigned mask, int predicate) { return __ballot_sync(mask, predicate) != 0; }
template <typename value_t>
unsigned __match_any_sync(unsigned, value_t value) {
    const emulated::Exchange<value_t> values(value);
    unsigned bits = 0;
    for (unsigned lane = 0; lane < 32; ++lane) bits |= values.there(lane) && values.of(lane) == value ? 1u << lane : 0u;
    return bits;
}
inline int __reduce_max_sync(unsigned, int value) {
    const emulated::Exchange<int> values(value);
    int most = value;
    for (unsigned lane = 0; lane < 32; ++lane) most = std::max(most, values.of(lane));
    return most;
}

inline int __reduce_min_sync(unsigned, int value) {
    const emulated::Exchange<int> values(value);
    int least = value;
    for (unsigned lane = 0; lane < 32; ++lane) least = std::min(least, values.of(lane));
    return least;
}
inline int __reduce_add_sync(unsigned, int value) {
    const emulated::Exchange<int> values(value);
    int sum = 0;
    for (unsigned lane = 0; lane < 32; ++lane) sum += values.there(lane) ? values.of(lane) : 0;
    return sum;
}

template <typename value_t, typename other_t>
value_t atomicAdd(value_t* at, other_t value) {
    const value_t before = *at;
    *at = before + value_t(value);
    return before;
}

using std::abs;
using std::exp;
using std::fma;
using std::isfinite;
using std::log;
using std::pow;
using std::sqrt;
// As in CUDA: the other one if one is NaN.
inline float min(float a, float b) { return std::fmin(a, b); }
inline float max(float a, float b) { return std::fmax(a, b); }
inline double min(double a, double b) { return std::fmin(a, b); }
inline double max(double a, double b) { return std::fmax(a, b); }
inline long long min(long long a, long long b) { return a < b ? a : b; }
inline long long max(long long a, long long b) { return a > b ? a : b; }
inline unsigned min(unsigned a, unsigned b) { return a < b ? a : b; }
inline unsigned max(unsigned a, unsigned b) { return a > b ? a : b; }
inline int min(int a, int b) { return a < b ? a : b; }
inline int max(int a, int b) { return a > b ? a : b; }

template <typename value_t>
value_t __ldg(const value_t* at) { return *at; }
template <typename value_t>
value_t atomicOr(value_t* at, value_t value) { const value_t before = *at; *at |= value; return before; }
template <typename value_t>
value_t atomicMax(value_t* at, value_t value) { const value_t before = *at; *at = std::max(before, value); return before; }
template <typename value_t>
value_t atomicMin(value_t* at, value_t value) { const value_t before = *at; *at = std::min(before, value); return before; }
inline unsigned atomicInc(unsigned* at, unsigned limit) {
    const unsigned before = *at;
    *at = before >= limit ? 0 : before + 1;
    return before;
}
template <typename value_t>
value_t atomicCAS(value_t* at, value_t expected, value_t value) {
    const value_t before = *at;
    if (before == expected) *at = value;
    return before;
}
template <typename value_t>
value_t atomicExch(value_t* at, value_t value) { const value_t before = *at; *at = value; return before; }
inline unsigned __vcmpeq4(unsigned a, unsigned b) {  // 0xff for every byte that is the same
    unsigned result = 0;
    for (int byte = 0; byte < 32; byte += 8) result |= (a >> byte & 0xff) == (b >> byte & 0xff) ? 0xffu << byte : 0u;
    return result;
}
inline unsigned __reduce_or_sync(unsigned, unsigned value) {
    const emulated::Exchange<unsigned> values(value);
    for (unsigned lane = 0; lane < 32; ++lane) value |= values.of(lane);
    return value;
}
inline int __all_sync(unsigned mask, int predicate) { return !__any_sync(mask, !predicate); }
inline int __popcll(unsigned long long bits) { return __builtin_popcountll(bits); }
inline int __clz(int bits) { return bits ? __builtin_clz(bits) : 32; }
inline int __ffsll(long long bits) { return __builtin_ffsll(bits); }
inline int __float_as_int(float x) { int bits; std::memcpy(&bits, &x, 4); return bits; }
inline unsigned __float_as_uint(float x) { unsigned bits; std::memcpy(&bits, &x, 4); return bits; }
inline float __uint_as_float(unsigned bits) { float x; std::memcpy(&x, &bits, 4); return x; }
inline long long __double_as_longlong(double x) { long long bits; std::memcpy(&bits, &x, 8); return bits; }
inline long long __float2ll_rn(float x) { return (long long)std::nearbyint(x); }
inline unsigned __umulhi(unsigned a, unsigned b) { return (unsigned)((unsigned long long)a * b >> 32); }
inline void sincospi(double x, double* sine, double* cosine) {
    *sine = std::sin(M_PI * x);
    *cosine = std::cos(M_PI * x);
}
inline float __fadd_rn(float a, float b) { return a + b; }
inline float __fmul_rn(float a, float b) { return a * b; }
inline double __dadd_rn(double a, double b) { return a + b; }
inline double __dmul_rn(double a, double b) { return a * b; }
inline void __threadfence() {}
inline int __popc(unsigned bits) { return __builtin_popcount(bits); }
inline int __ffs(unsigned bits) { return __builtin_ffs(bits); }
inline int __float2int_rn(float x) { return (int)std::nearbyint(x); }
inline long long __double2ll_rn(double x) { return (long long)std::nearbyint(x); }
inline float __int_as_float(int bits) { float x; std::memcpy(&x, &bits, 4); return x; }
inline double __longlong_as_double(long long bits) { double x; std::memcpy(&x, &bits, 8); return x; }
