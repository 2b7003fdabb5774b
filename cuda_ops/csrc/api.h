// The plain C interface of the kernels: what the binding, the tests and nobody else call.
#pragma once
#include <cstdint>

namespace cuda_ops {

enum Dtype : int32_t { kFloat32 = 0, kFloat64 = 1, kFloat16 = 2, kBFloat16 = 3 };

// Strides count elements. On a CPU y is dense, planes one after another or channels last. The filter is dense, float64 for float64 images and float32 otherwise.
struct Upfirdn2dArgs {
  const void* x;
  const void* f;
  void* y;
  int32_t dtype;
  int32_t flip;  // nonzero: correlate with f as stored; zero: convolve
  int64_t batch, channels, in_h, in_w, out_h, out_w;
  int64_t xn, xc, xh, xw;  // strides of x
  int64_t yn, yc, yh, yw;  // strides of y
  int32_t taps_h, taps_w, upx, upy, downx, downy, px0, py0;
  double gain;
};

// order 0: y = clip(gain act(s + b))   with s = x
// order 1: y = dy * d/dx               with s = what the activation saves (its result, or x for swish)
// order 2: y = ddx * dy * d/ds of that
// All tensors are dense with equal strides; element i has bias (i / bias_stride) % bias_size.
struct BiasActArgs {
  const void* s;
  const void* b;  // may be null
  const void* dy;
  const void* ddx;
  void* y;
  int32_t dtype, act, order;
  int64_t count, bias_size, bias_stride;
  double alpha, gain, clamp;  // clamp NaN: no limit
};

// Transformed weights u of a 3x3 convolution, from w with strides of elements; flip turns the kernel around.
struct Conv3x3Weights {
  const float* w;
  float* u;  // [36, c, k] in panels of k
  int64_t c, k, wc, wk, wh, ww;
  int32_t flip;
};

// y[n] = out_scale[n] * conv(x[n] * in_scale[n]) + bias, then with relu at least 0: channels-last images, a border of
// zeros, c and k multiples of 16. With a mask, x counts where that is above 0.
struct Conv3x3Args {
  const float* x;          // [batch, h, w, c]
  const float* mask;       // [batch, h, w, c] or null
  const float* u;          // of conv3x3_weights_cpu
  const float* in_scale;   // [batch, c] or null
  const float* out_scale;  // [batch, k] or null
  const float* bias;       // [k] or null
  float* y;                // [batch, h, w, k]
  int64_t batch, h, w, c, k;
  int32_t relu;
};

// Runs body(context, begin, end) over pieces of [0, count), perhaps in threads.
using ParallelFor = void (*)(int64_t count, int64_t grain, void (*body)(void*, int64_t, int64_t), void* context);

// CUDA: launch on the stream; the result is a cudaError_t, 0 for success.
int upfirdn2d_cuda(const Upfirdn2dArgs& args, void* stream);
int bias_act_cuda(const BiasActArgs& args, void* stream);

void upfirdn2d_cpu(const Upfirdn2dArgs& args, ParallelFor parallel_for);
void bias_act_cpu(const BiasActArgs& args, ParallelFor parallel_for);
void conv3x3_weights_cpu(const Conv3x3Weights& args);
void conv3x3_cpu(const Conv3x3Args& args, ParallelFor parallel_for);

}  // namespace cuda_ops
