// The words of the CUDA language that the kernels use, for nvcc and for the emulator of the tests.
#pragma once

#ifdef __CUDACC__
#include <cuda_runtime.h>
#define CUDA_OPS_LAUNCH(kernel, blocks, threads, stream, ...) \
  (kernel<<<unsigned(blocks), threads, 0, static_cast<cudaStream_t>(stream)>>>(__VA_ARGS__), int(cudaGetLastError()))
#else
#include "simt_emu.h"
#define CUDA_OPS_LAUNCH(kernel, blocks, threads, stream, ...) \
  simt::launch(unsigned(blocks), threads, [=] { kernel(__VA_ARGS__); })
#endif

#ifndef CUDA_OPS_BLOCK
#define CUDA_OPS_BLOCK 256  // threads in a block; a multiple of 32
#endif
#ifndef CUDA_OPS_MAX_BLOCKS
#define CUDA_OPS_MAX_BLOCKS 65535  // larger problems loop; the tests make it small to see that they do
#endif

namespace cuda_ops {

inline int64_t blocks_for(int64_t jobs) {
  return jobs < CUDA_OPS_MAX_BLOCKS ? jobs : int64_t(CUDA_OPS_MAX_BLOCKS);
}

}  // namespace cuda_ops
