// bias_act on a GPU: bound by memory, so each thread moves 16 bytes at a time.
#include <limits>

#include "api.h"
#include "bias_act_core.h"
#include "simt.h"

namespace cuda_ops {
namespace {

template <class T, int n>
struct alignas(sizeof(T) * n) Pack {
  T at[n];
};

template <class T, int act, int order, int n>
__global__ void bias_act_kernel(BiasActArgs a, BiasActParams<Acc<T>> p) {
  using A = Acc<T>;
  using P = Pack<T, n>;
  const BiasActParams<A> q = as_saved<T, act, order>(p);
  const bool one_bias = a.bias_stride % n == 0;
  const int64_t step = int64_t(gridDim.x) * blockDim.x;
  for (int64_t i = int64_t(blockIdx.x) * blockDim.x + threadIdx.x; i < a.count / n; i += step) {
    const P s = static_cast<const P*>(a.s)[i];
    P dy{}, ddx{}, y;
    if constexpr (order >= 1) dy = static_cast<const P*>(a.dy)[i];
    if constexpr (order == 2) ddx = static_cast<const P*>(a.ddx)[i];
    A b = 0;
#pragma unroll
    for (int k = 0; k < n; ++k) {
      if (a.b && (k == 0 || !one_bias)) {
        const int64_t e = i * n + k;
        const int64_t channel = a.count <= 0x7fffffff  // 64-bit division is slow on a GPU
                                    ? int64_t(uint32_t(e) / uint32_t(a.bias_stride) % uint32_t(a.bias_size))
                                    : e / a.bias_stride % a.bias_size;
        b = load(static_cast<const T*>(a.b)[channel]);
      }
      store(y.at[k], bias_act_rule<act, order, A>(load(s.at[k]), b, load(dy.at[k]), load(ddx.at[k]), q));
    }
    static_cast<P*>(a.y)[i] = y;
  }
}

bool aligned(const BiasActArgs& a) {
  const auto all = reinterpret_cast<uintptr_t>(a.s) | reinterpret_cast<uintptr_t>(a.y) |
                   reinterpret_cast<uintptr_t>(a.dy) | reinterpret_cast<uintptr_t>(a.ddx);
  return all % 16 == 0;
}

template <class T, int act, int order>
int launch(const BiasActArgs& a, void* stream) {
  using A = Acc<T>;
  constexpr int n = 16 / sizeof(T);
  const BiasActParams<A> p{A(a.alpha), A(a.gain), A(1 / a.gain), A(a.clamp)};
  const bool wide = aligned(a) && a.count % n == 0;
  const int64_t packs = wide ? a.count / n : a.count;
  const int64_t blocks = blocks_for((packs + CUDA_OPS_BLOCK - 1) / CUDA_OPS_BLOCK);
  if (wide) return CUDA_OPS_LAUNCH((bias_act_kernel<T, act, order, n>), blocks, CUDA_OPS_BLOCK, stream, a, p);
  return CUDA_OPS_LAUNCH((bias_act_kernel<T, act, order, 1>), blocks, CUDA_OPS_BLOCK, stream, a, p);
}

template <class T, int act>
int with_order(const BiasActArgs& a, void* stream) {
  if (a.order == 0) return launch<T, act, 0>(a, stream);
  if (a.order == 1) return launch<T, act, 1>(a, stream);
  return launch<T, act, 2>(a, stream);
}

template <class T>
int with_act(const BiasActArgs& a, void* stream) {
  switch (a.act) {
    case kRelu: return with_order<T, kRelu>(a, stream);
    case kLrelu: return with_order<T, kLrelu>(a, stream);
    case kTanh: return with_order<T, kTanh>(a, stream);
    case kSigmoid: return with_order<T, kSigmoid>(a, stream);
    case kElu: return with_order<T, kElu>(a, stream);
    case kSelu: return with_order<T, kSelu>(a, stream);
    case kSoftplus: return with_order<T, kSoftplus>(a, stream);
    case kSwish: return with_order<T, kSwish>(a, stream);
    default: return with_order<T, kLinear>(a, stream);
  }
}

}  // namespace

int bias_act_cuda(const BiasActArgs& a, void* stream) {
  if (a.count == 0) return 0;
  return with_dtype(a.dtype, [&](auto type) { return with_act<typename decltype(type)::type>(a, stream); });
}

}  // namespace cuda_ops
