// SPDX-License-Identifier: Apache-2.0
//
// The fibers of emu/cuda_runtime.h. One scheduler a thread of the host: a fiber
// runs until it waits, then the next that can run is entered directly. The last
// lane that arrives at a collective does its work for all of them and goes on.
#include <cuda_runtime.h>

#include <cstdio>
#include <cstdlib>
#include <memory>
#include <sys/mman.h>
#include <vector>

#if !defined(__x86_64__)
#error "the emulated device switches stacks in x86-64 assembly"
#endif

#ifndef __has_feature
#define __has_feature(x) 0
#endif
#if defined(__SANITIZE_ADDRESS__) || __has_feature(address_sanitizer)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#define EMU_ASAN 1
#else
#define EMU_ASAN 0
#endif

// Save the callee's registers and the stack of the caller, take those of `to`.
extern "C" void bale_emu_switch(void **save, void *to);
asm(".text\n"
    ".globl bale_emu_switch\n"
    ".hidden bale_emu_switch\n"
    ".type bale_emu_switch,@function\n"
    "bale_emu_switch:\n"
    "	endbr64\n"
    "	push %rbp\n"
    "	push %rbx\n"
    "	push %r12\n"
    "	push %r13\n"
    "	push %r14\n"
    "	push %r15\n"
    "	mov %rsp, (%rdi)\n"
    "	mov %rsi, %rsp\n"
    "	pop %r15\n"
    "	pop %r14\n"
    "	pop %r13\n"
    "	pop %r12\n"
    "	pop %rbx\n"
    "	pop %rbp\n"
    "	ret\n"
    ".size bale_emu_switch, .-bale_emu_switch\n");

thread_local bale_emu_thread *bale_emu_self;

namespace
{

constexpr size_t kStack = EMU_ASAN ? 256 << 10 : 64 << 10;
constexpr unsigned int kLanes = 32;

struct Wait {
	bale_emu_op op;
	unsigned int mask;
	uint64_t value, result;
	int arg, width;
};

struct Fiber {
	bale_emu_thread self;
	void *sp;
	unsigned char *stack;
	void *fake; // ASan's
	unsigned int warp, lane;
	Wait wait;
};

struct Warp {
	unsigned int alive, runnable;
	unsigned int waiting; // in a collective of the warp
};

struct Scheduler {
	std::vector<Fiber> fibers;
	std::vector<Warp> warps;
	std::vector<unsigned char *> stacks;
	std::vector<unsigned char> dyn;
	const std::function<void()> *body;
	void *main_sp;
	void *main_fake;
	const void *main_bottom;
	size_t main_size;
	unsigned int current, alive;
	// __syncthreads
	unsigned int arrived;
	bale_emu_op block_op;
	int block_any, block_all, block_count;
	bale_emu_order order = BALE_EMU_UP;
	uint32_t seed = 1;

	~Scheduler()
	{
		for (unsigned char *s : stacks)
			munmap(s, kStack);
	}
};

thread_local Scheduler sched;

[[noreturn]] void die(const char *what)
{
	const Fiber &f = sched.fibers[sched.current];

	fprintf(stderr, "emulated device: %s (block %u, warp %u, lane %u)\n",
		what, f.self.block_idx.x, f.warp, f.lane);
	for (size_t w = 0; w < sched.warps.size(); w++)
		fprintf(stderr,
			"  warp %zu: alive %08x runnable %08x "
			"in a collective %08x\n",
			w, sched.warps[w].alive, sched.warps[w].runnable,
			sched.warps[w].waiting);
	abort();
}

unsigned int pick_lane(unsigned int set)
{
	if (sched.order == BALE_EMU_DOWN)
		return 31 - (unsigned int)__builtin_clz(set);
	if (sched.order == BALE_EMU_RANDOM) {
		sched.seed = sched.seed * 1664525u + 1013904223u;
		unsigned int skip = (sched.seed >> 16) %
				    (unsigned int)__builtin_popcount(set);
		while (skip--)
			set &= set - 1;
	}
	return (unsigned int)__builtin_ctz(set);
}

// The next that can run, its own warp's lanes first.
unsigned int next_fiber()
{
	size_t nr = sched.warps.size();
	unsigned int w = sched.fibers[sched.current].warp;

	for (size_t i = 0; i < nr; i++, w = w + 1 == nr ? 0 : w + 1)
		if (sched.warps[w].runnable)
			return w * kLanes + pick_lane(sched.warps[w].runnable);
	die("deadlock: nobody can run");
}

void enter(Fiber *from, bool ends)
{
	unsigned int next = next_fiber();
	Fiber *to = &sched.fibers[next];

	if (to == from)
		return;
	sched.current = next;
	bale_emu_self = &to->self;
#if EMU_ASAN
	__sanitizer_start_switch_fiber(ends ? nullptr : &from->fake, to->stack,
				       kStack);
#else
	(void)ends;
#endif
	bale_emu_switch(&from->sp, to->sp);
#if EMU_ASAN
	__sanitizer_finish_switch_fiber(from->fake, nullptr, nullptr);
#endif
}

void release_block();

[[noreturn]] void fiber_main()
{
	Fiber *f = &sched.fibers[sched.current];

#if EMU_ASAN
	const void *bottom;
	size_t size;
	__sanitizer_finish_switch_fiber(nullptr, &bottom, &size);
	if (!sched.main_bottom) {
		sched.main_bottom = bottom;
		sched.main_size = size;
	}
#endif
	(*sched.body)();
	f = &sched.fibers[sched.current];
	Warp &w = sched.warps[f->warp];
	w.alive &= ~(1u << f->lane);
	w.runnable &= ~(1u << f->lane);
	if (--sched.alive) {
		if (sched.arrived == sched.alive)
			release_block();
		enter(f, true);
	} else {
#if EMU_ASAN
		__sanitizer_start_switch_fiber(nullptr, sched.main_bottom,
					       sched.main_size);
#endif
		bale_emu_switch(&f->sp, sched.main_sp);
	}
	abort();
}

void prepare(Fiber *f)
{
	void **sp = (void **)(f->stack + kStack);

#if EMU_ASAN
	// What the last fiber here left on it.
	__asan_unpoison_memory_region(f->stack, kStack);
#endif
	// As if called: the address of the caller's return above the entry's.
	*--sp = nullptr;
	*--sp = (void *)fiber_main;
	for (int i = 0; i < 6; i++)
		*--sp = nullptr;
	f->sp = sp;
	f->fake = nullptr;
}

void run_block(dim3 grid, dim3 block, uint3 idx, unsigned int nr)
{
	sched.alive = nr;
	sched.arrived = 0;
	for (size_t w = 0; w < sched.warps.size(); w++) {
		unsigned int left = nr - (unsigned int)w * kLanes;

		sched.warps[w].alive = left >= kLanes ? ~0u : (1u << left) - 1;
		sched.warps[w].runnable = sched.warps[w].alive;
		sched.warps[w].waiting = 0;
	}
	for (unsigned int i = 0; i < nr; i++) {
		Fiber *f = &sched.fibers[i];

		f->self.thread_idx = { i % block.x, i / block.x % block.y,
				       i / block.x / block.y };
		f->self.block_idx = idx;
		f->self.block_dim = block;
		f->self.grid_dim = grid;
		f->warp = i / kLanes;
		f->lane = i % kLanes;
		f->stack = sched.stacks[i];
		prepare(f);
	}
	memset(sched.dyn.data(), 0xa5, sched.dyn.size());
	sched.current = 0;
	sched.current = next_fiber();
	Fiber *first = &sched.fibers[sched.current];
	bale_emu_self = &first->self;
	sched.main_bottom = nullptr;
#if EMU_ASAN
	__sanitizer_start_switch_fiber(&sched.main_fake, first->stack, kStack);
#endif
	bale_emu_switch(&sched.main_sp, first->sp);
#if EMU_ASAN
	__sanitizer_finish_switch_fiber(sched.main_fake, nullptr, nullptr);
#endif
	bale_emu_self = nullptr;
}

// Lane `f` reads from lane src, as CUDA's shuffles do.
uint64_t shuffled(const Fiber *lanes, const Fiber *f)
{
	const Wait &w = f->wait;
	unsigned int width = (unsigned int)w.width;
	unsigned int base = f->lane & ~(width - 1);
	unsigned int in = f->lane & (width - 1);
	unsigned int src = f->lane;
	unsigned int arg = (unsigned int)w.arg;

	switch (w.op) {
	case BALE_EMU_SHFL:
		src = base + (arg & (width - 1));
		break;
	case BALE_EMU_SHFL_UP:
		src = arg <= in ? f->lane - arg : f->lane;
		break;
	case BALE_EMU_SHFL_DOWN:
		src = in + arg < width ? f->lane + arg : f->lane;
		break;
	default:
		src = (in ^ arg) < width ? base + (in ^ arg) : f->lane;
	}
	if (!(w.mask >> src & 1))
		die("a shuffle reads a lane that is not in its mask");
	return lanes[src].wait.value;
}

uint64_t reduced(const Fiber *lanes, const Wait &w)
{
	bool first = true;
	uint32_t acc = 0;

	for (unsigned int i = 0; i < kLanes; i++) {
		uint32_t v = (uint32_t)lanes[i].wait.value;

		if (!(w.mask >> i & 1))
			continue;
		if (first) {
			acc = v;
			first = false;
			continue;
		}
		switch (w.op) {
		case BALE_EMU_ADD:
			acc += v;
			break;
		case BALE_EMU_MIN:
			acc = v < acc ? v : acc;
			break;
		case BALE_EMU_MAX:
			acc = v > acc ? v : acc;
			break;
		case BALE_EMU_AND:
			acc &= v;
			break;
		case BALE_EMU_OR:
			acc |= v;
			break;
		case BALE_EMU_XOR:
			acc ^= v;
			break;
		case BALE_EMU_MIN_S:
			acc = (int32_t)v < (int32_t)acc ? v : acc;
			break;
		default:
			acc = (int32_t)v > (int32_t)acc ? v : acc;
		}
	}
	return acc;
}

uint64_t result_of(const Fiber *lanes, const Fiber *f)
{
	const Wait &w = f->wait;
	uint64_t bits = 0;

	switch (w.op) {
	case BALE_EMU_SYNCWARP:
		return 0;
	case BALE_EMU_SHFL:
	case BALE_EMU_SHFL_UP:
	case BALE_EMU_SHFL_DOWN:
	case BALE_EMU_SHFL_XOR:
		return shuffled(lanes, f);
	case BALE_EMU_BALLOT:
		for (unsigned int i = 0; i < kLanes; i++)
			if (w.mask >> i & 1)
				bits |= lanes[i].wait.value << i;
		return bits;
	case BALE_EMU_MATCH_ANY:
		for (unsigned int i = 0; i < kLanes; i++)
			if (w.mask >> i & 1 && lanes[i].wait.value == w.value)
				bits |= (uint64_t)1 << i;
		return bits;
	default:
		return reduced(lanes, w);
	}
}

void release_block()
{
	for (Fiber &f : sched.fibers) {
		if (!(sched.warps[f.warp].alive >> f.lane & 1))
			continue;
		f.wait.result = sched.block_op == BALE_EMU_SYNC_OR ?
					(uint64_t)sched.block_any :
				sched.block_op == BALE_EMU_SYNC_AND ?
					(uint64_t)sched.block_all :
					(uint64_t)sched.block_count;
	}
	for (Warp &w : sched.warps)
		w.runnable = w.alive & ~w.waiting;
	sched.arrived = 0;
}

} // namespace

void bale_emu_set_order(enum bale_emu_order order, uint32_t seed)
{
	sched.order = order;
	sched.seed = seed;
}

void *bale_emu_dyn_shared()
{
	return (void *)(((uintptr_t)sched.dyn.data() + 15) & ~(uintptr_t)15);
}

void bale_emu_launch(dim3 grid, dim3 block, size_t dyn_shared,
		     const std::function<void()> &body)
{
	unsigned int nr = block.x * block.y * block.z;

	sched.fibers.resize(nr);
	sched.warps.resize((nr + kLanes - 1) / kLanes);
	sched.dyn.resize(dyn_shared + 16);
	while (sched.stacks.size() < nr) {
		void *p = mmap(nullptr, kStack, PROT_READ | PROT_WRITE,
			       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1,
			       0);
		if (p == MAP_FAILED)
			abort();
		sched.stacks.push_back((unsigned char *)p);
	}
	sched.body = &body;
	for (unsigned int z = 0; z < grid.z; z++)
		for (unsigned int y = 0; y < grid.y; y++)
			for (unsigned int x = 0; x < grid.x; x++)
				run_block(grid, block, { x, y, z }, nr);
}

uint64_t bale_emu_warp(enum bale_emu_op op, unsigned int mask, uint64_t value,
		       int arg, int width)
{
	Fiber *f = &sched.fibers[sched.current];
	Fiber *lanes = &sched.fibers[(size_t)f->warp * kLanes];
	Warp &w = sched.warps[f->warp];

	if (!(mask >> f->lane & 1))
		die("a lane is not in its own mask");
	if (mask & ~w.alive)
		die("a mask names lanes that have ended");
	f->wait = { op, mask, value, 0, arg, width };
	w.waiting |= 1u << f->lane;
	if ((w.waiting & mask) != mask) {
		w.runnable &= ~(1u << f->lane);
		enter(f, false);
		return f->wait.result;
	}
	for (unsigned int i = 0; i < kLanes; i++)
		if (mask >> i & 1 &&
		    (lanes[i].wait.op != op || lanes[i].wait.mask != mask))
			die("lanes meet in different collectives");
	for (unsigned int i = 0; i < kLanes; i++)
		if (mask >> i & 1)
			lanes[i].wait.result = result_of(lanes, &lanes[i]);
	w.waiting &= ~mask;
	w.runnable |= mask;
	return f->wait.result;
}

int bale_emu_block(enum bale_emu_op op, int value)
{
	Fiber *f = &sched.fibers[sched.current];
	Warp &w = sched.warps[f->warp];

	if (!sched.arrived++) {
		sched.block_op = op;
		sched.block_any = 0;
		sched.block_all = 1;
		sched.block_count = 0;
	}
	if (sched.block_op != op)
		die("threads meet in different barriers");
	sched.block_any |= value != 0;
	sched.block_all &= value != 0;
	sched.block_count += value != 0;
	w.runnable &= ~(1u << f->lane);
	if (sched.arrived == sched.alive)
		release_block();
	enter(f, false);
	return (int)f->wait.result;
}
