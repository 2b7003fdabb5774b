// bias_act on a CPU: the shared rule in loops that the compiler turns into SIMD, libmvec for exp and co.
#include <vector>

#include "api.h"
#include "bias_act_core.h"
#include "cpu_stream.h"

namespace cuda_ops {
namespace {

constexpr int64_t kGrain = 16384;  // elements worth a thread
constexpr int64_t kChunk = 1024;   // elements computed in the first cache before they are streamed out

template <class T, int act, int order>
struct Loop {
  using A = Acc<T>;
  const BiasActArgs& a;
  BiasActParams<A> p{A(a.alpha), A(a.gain), A(1 / a.gain), A(a.clamp)};
  std::vector<A> bias{};  // a whole period, repeated to a useful length where the bias changes fastest
  bool streams = a.count * int64_t(sizeof(T)) >= kStreamBytes;

  // y[i] for i in [begin, end) with one bias, or with bias[i - begin]
  template <bool vector_bias>
  void run(int64_t begin, int64_t end, const A* b) const {
    if (!streams) return compute<vector_bias>(begin, end, b, static_cast<T*>(a.y) + begin);
    T chunk[kChunk];
    for (int64_t i = begin; i < end; i += kChunk) {
      const int64_t stop = i + kChunk < end ? i + kChunk : end;
      compute<vector_bias>(i, stop, vector_bias ? b + (i - begin) : b, chunk);
      stream_copy(static_cast<T*>(a.y) + i, chunk, (stop - i) * int64_t(sizeof(T)));
    }
  }

  template <bool vector_bias>
  void compute(int64_t begin, int64_t end, const A* b, T* y) const {
    const T *s = static_cast<const T*>(a.s), *dy = static_cast<const T*>(a.dy), *ddx = static_cast<const T*>(a.ddx);
    const BiasActParams<A> q = as_saved<T, act, order>(p);
    const A one = *b;
#pragma omp simd
    for (int64_t i = begin; i < end; ++i) {
      const A first = order >= 1 ? A(load(dy[i])) : A(0), second = order == 2 ? A(load(ddx[i])) : A(0);
      store(y[i - begin], bias_act_rule<act, order, A>(load(s[i]), vector_bias ? b[i - begin] : one, first, second, q));
    }
  }

  void range(int64_t begin, int64_t end) const {
    const int64_t width = a.bias_stride == 1 ? int64_t(bias.size()) : a.bias_stride;
    for (int64_t i = begin; i < end;) {
      const int64_t stop = i - i % width + width < end ? i - i % width + width : end;
      if (a.bias_stride == 1) {
        run<true>(i, stop, bias.data() + i % width);
      } else {
        run<false>(i, stop, bias.data() + i / width % a.bias_size);
      }
      i = stop;
    }
    stream_end();
  }
};

template <class T, int act, int order>
void run(const BiasActArgs& a, ParallelFor parallel_for) {
  using A = Acc<T>;
  BiasActArgs plain = a;
  if (!a.b) plain.bias_size = 1, plain.bias_stride = a.count;
  Loop<T, act, order> loop{plain};
  const int64_t repeats = plain.bias_stride == 1 ? (1023 + plain.bias_size) / plain.bias_size : 1;
  for (int64_t i = 0; i < repeats * plain.bias_size; ++i)
    loop.bias.push_back(a.b ? A(load(static_cast<const T*>(a.b)[i % plain.bias_size])) : A(0));
  parallel_for(
      a.count, kGrain,
      [](void* context, int64_t begin, int64_t end) {
        static_cast<const Loop<T, act, order>*>(context)->range(begin, end);
      },
      &loop);
}

template <class T, int act>
void with_order(const BiasActArgs& a, ParallelFor parallel_for) {
  if (a.order == 0) return run<T, act, 0>(a, parallel_for);
  if (a.order == 1) return run<T, act, 1>(a, parallel_for);
  return run<T, act, 2>(a, parallel_for);
}

template <class T>
void with_act(const BiasActArgs& a, ParallelFor parallel_for) {
  switch (a.act) {
    case kRelu: return with_order<T, kRelu>(a, parallel_for);
    case kLrelu: return with_order<T, kLrelu>(a, parallel_for);
    case kTanh: return with_order<T, kTanh>(a, parallel_for);
    case kSigmoid: return with_order<T, kSigmoid>(a, parallel_for);
    case kElu: return with_order<T, kElu>(a, parallel_for);
    case kSelu: return with_order<T, kSelu>(a, parallel_for);
    case kSoftplus: return with_order<T, kSoftplus>(a, parallel_for);
    case kSwish: return with_order<T, kSwish>(a, parallel_for);
    default: return with_order<T, kLinear>(a, parallel_for);
  }
}

}  // namespace

void bias_act_cpu(const BiasActArgs& a, ParallelFor parallel_for) {
  if (a.count == 0) return;
  with_dtype(a.dtype, [&](auto type) { with_act<typename decltype(type)::type>(a, parallel_for); });
}

}  // namespace cuda_ops
