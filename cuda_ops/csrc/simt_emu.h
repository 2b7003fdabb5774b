// The CUDA execution model on a CPU, for tests: the kernels' very source runs, one block after another.
//
// Default: the threads of a block are fibers that run to the next barrier in forward, reverse or random
// order (CUDA_OPS_EMU_ORDER). A block in which some threads wait at a barrier that others never reach, or
// at two different barriers, aborts. With -DCUDA_OPS_EMU_THREADS each CUDA thread is a real one, so that
// ThreadSanitizer sees what the barriers do and do not order.
// Not modelled: warps and their intrinsics, the memory model of a GPU, fast-math units, speed.
#pragma once
#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <memory>
#include <numeric>
#include <random>
#include <vector>

#ifdef CUDA_OPS_EMU_THREADS
#include <pthread.h>

#include <thread>
#else
#include <ucontext.h>
#endif

#define __global__

namespace simt {

struct Dim {
  unsigned x = 0;
};
inline thread_local Dim thread_index, block_index, block_size, grid_size;

#ifdef CUDA_OPS_EMU_THREADS

#define __shared__ static
inline pthread_barrier_t block_barrier;

inline void barrier(int) { pthread_barrier_wait(&block_barrier); }

inline int launch(unsigned blocks, unsigned threads, const std::function<void()>& kernel) {
  pthread_barrier_init(&block_barrier, nullptr, threads);
  std::vector<std::thread> pool;
  for (unsigned t = 0; t < threads; ++t) {
    pool.emplace_back([=, &kernel] {
      thread_index.x = t, block_size.x = threads, grid_size.x = blocks;
      for (block_index.x = 0; block_index.x < blocks; ++block_index.x) {
        kernel();
        pthread_barrier_wait(&block_barrier);  // shared memory belongs to one block at a time
      }
    });
  }
  for (auto& thread : pool) thread.join();
  pthread_barrier_destroy(&block_barrier);
  return 0;
}

#else

#define __shared__ static thread_local

constexpr size_t kStack = 64 * 1024;
constexpr int kRunning = 0, kFinished = -1;  // otherwise: the line of the barrier that it waits at

struct Fiber {
  ucontext_t context;
  std::unique_ptr<char[]> stack{new char[kStack]};
  int state = kRunning;
};

struct Block {
  std::vector<Fiber> fibers;
  ucontext_t scheduler;
  Fiber* current = nullptr;
  const std::function<void()>* kernel = nullptr;
};
inline thread_local Block block;

inline void barrier(int line) {
  block.current->state = line;
  swapcontext(&block.current->context, &block.scheduler);
}

inline void enter() {
  (*block.kernel)();
  block.current->state = kFinished;
  swapcontext(&block.current->context, &block.scheduler);
}

inline void run_block(unsigned threads, std::mt19937& random, const char* order) {
  std::vector<unsigned> turn(threads);
  std::iota(turn.begin(), turn.end(), 0u);
  if (!std::strcmp(order, "reverse")) std::reverse(turn.begin(), turn.end());
  for (unsigned t = 0; t < threads; ++t) {
    Fiber& fiber = block.fibers[t];
    fiber.state = kRunning;
    getcontext(&fiber.context);
    fiber.context.uc_stack.ss_sp = fiber.stack.get();
    fiber.context.uc_stack.ss_size = kStack;
    makecontext(&fiber.context, enter, 0);
  }
  while (block.fibers[0].state != kFinished) {
    if (!std::strcmp(order, "random")) std::shuffle(turn.begin(), turn.end(), random);
    for (unsigned t : turn) {
      block.current = &block.fibers[t];
      thread_index.x = t;
      swapcontext(&block.scheduler, &block.current->context);
    }
    for (unsigned t = 1; t < threads; ++t) {
      if (block.fibers[t].state == block.fibers[0].state) continue;
      std::fprintf(stderr, "divergent barrier: thread 0 is at line %d, thread %u at line %d (-1: finished)\n",
                   block.fibers[0].state, t, block.fibers[t].state);
      std::abort();
    }
  }
}

inline int launch(unsigned blocks, unsigned threads, const std::function<void()>& kernel) {
  const char* order = std::getenv("CUDA_OPS_EMU_ORDER");
  if (!order) order = "forward";
  if (block.fibers.size() < threads) block.fibers = std::vector<Fiber>(threads);
  block.kernel = &kernel;
  block_size.x = threads, grid_size.x = blocks;
  std::mt19937 random(blocks * 977 + threads);
  for (block_index.x = 0; block_index.x < blocks; ++block_index.x) run_block(threads, random, order);
  return 0;
}

#endif

}  // namespace simt

#define threadIdx simt::thread_index
#define blockIdx simt::block_index
#define blockDim simt::block_size
#define gridDim simt::grid_size
#define __syncthreads() simt::barrier(__LINE__)
