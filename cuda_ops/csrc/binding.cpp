// Registers the kernels with torch through its stable ABI: one build serves every torch from 2.10 on.
// The schemas, the shape functions and the gradients are in cuda_ops/_native.py.
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include <algorithm>
#include <cmath>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

#include "api.h"

#ifdef CUDA_OPS_WITH_CUDA
#include <cuda_runtime_api.h>
#include <torch/csrc/stable/accelerator.h>
#endif

#ifndef CUDA_OPS_NAMESPACE
#define CUDA_OPS_NAMESPACE cuda_ops
#endif

namespace {

using torch::headeronly::MemoryFormat;
using torch::headeronly::ScalarType;
using torch::stable::Tensor;

int32_t dtype_code(const Tensor& x) {
  switch (x.scalar_type()) {
    case ScalarType::Float: return cuda_ops::kFloat32;
    case ScalarType::Double: return cuda_ops::kFloat64;
    case ScalarType::Half: return cuda_ops::kFloat16;
    case ScalarType::BFloat16: return cuda_ops::kBFloat16;
    default: throw std::invalid_argument("cuda_ops: float16, bfloat16, float32 or float64 expected");
  }
}

bool same_layout(const Tensor& a, const Tensor& b) {
  for (int64_t d = 0; d < a.dim(); ++d)
    if (a.size(d) > 1 && a.stride(d) != b.stride(d)) return false;
  return true;
}

Tensor like(const Tensor& x, const Tensor& pattern) {
  if (same_layout(x, pattern)) return x;
  Tensor y = torch::stable::empty_like(pattern);
  torch::stable::copy_(y, x);
  return y;
}

bool is_channels_last(const Tensor& x) {
  int64_t expected = 1;
  for (int64_t d : {1, 3, 2, 0}) {
    if (x.size(d) > 1 && x.stride(d) != expected) return false;
    expected *= x.size(d);
  }
  return true;
}

[[maybe_unused]] void in_threads(int64_t count, int64_t grain, void (*body)(void*, int64_t, int64_t), void* context) {
  torch::stable::parallel_for(0, count, grain, [=](int64_t begin, int64_t end) { body(context, begin, end); });
}

#ifdef CUDA_OPS_WITH_CUDA
// Makes the tensor's device current, and gives the stream that torch is using on it.
class OnDevice {
 public:
  explicit OnDevice(const Tensor& x) : guard_(x.get_device_index()) {
    if (aoti_torch_get_current_cuda_stream(x.get_device_index(), &stream_) != 0)
      throw std::runtime_error("cuda_ops: torch has no current CUDA stream");
  }
  void* stream() const { return stream_; }

 private:
  torch::stable::accelerator::DeviceGuard guard_;
  void* stream_ = nullptr;
};

void check(int error) {
  if (error) throw std::runtime_error(std::string("cuda_ops: ") + cudaGetErrorString(cudaError_t(error)));
}
#endif

void run([[maybe_unused]] const Tensor& x, const cuda_ops::Upfirdn2dArgs& args) {
#ifdef CUDA_OPS_WITH_CUDA
  check(cuda_ops::upfirdn2d_cuda(args, OnDevice(x).stream()));
#elif defined(CUDA_OPS_EMULATED)
  cuda_ops::upfirdn2d_cuda(args, nullptr);
#else
  cuda_ops::upfirdn2d_cpu(args, in_threads);
#endif
}

void run([[maybe_unused]] const Tensor& x, const cuda_ops::BiasActArgs& args) {
#ifdef CUDA_OPS_WITH_CUDA
  check(cuda_ops::bias_act_cuda(args, OnDevice(x).stream()));
#elif defined(CUDA_OPS_EMULATED)
  cuda_ops::bias_act_cuda(args, nullptr);
#else
  cuda_ops::bias_act_cpu(args, in_threads);
#endif
}

Tensor upfirdn2d(
    const Tensor& images, const Tensor& f, int64_t upx, int64_t upy, int64_t downx, int64_t downy, int64_t px0,
    int64_t px1, int64_t py0, int64_t py1, bool flip, double gain) {
  const bool last = !images.is_contiguous() && is_channels_last(images);
  const Tensor x = last || images.stride(3) == 1 ? images : torch::stable::contiguous(images);
  const Tensor filter = torch::stable::contiguous(f);
  const int64_t n = x.size(0), c = x.size(1), h = x.size(2), w = x.size(3);
  const int64_t taps_h = filter.size(0), taps_w = filter.size(1);
  const int64_t out_h = (h * upy + py0 + py1 - taps_h) / downy + 1;
  const int64_t out_w = (w * upx + px0 + px1 - taps_w) / downx + 1;
  const auto format = last ? MemoryFormat::ChannelsLast : MemoryFormat::Contiguous;
  const std::vector<int64_t> shape{n, c, out_h, out_w};
  Tensor y = torch::stable::empty(shape, x.scalar_type(), std::nullopt, x.device(), std::nullopt, format);
  cuda_ops::Upfirdn2dArgs args{
      x.const_data_ptr(), filter.const_data_ptr(), y.mutable_data_ptr(), dtype_code(x), flip, n, c, h, w, out_h, out_w,
      x.stride(0), x.stride(1), x.stride(2), x.stride(3), c * out_h * out_w, out_h * out_w, out_w, 1,
      int32_t(taps_h), int32_t(taps_w), int32_t(upx), int32_t(upy), int32_t(downx), int32_t(downy),
      int32_t(px0), int32_t(py0), gain};
  if (last) {  // written out, since torch leaves the stride of a dimension of one entry open
    args.xn = h * w * c, args.xc = 1, args.xh = w * c, args.xw = c;
    args.yc = 1, args.yh = out_w * c, args.yw = c;
  }
  run(x, args);
  return y;
}

Tensor bias_act_order(
    int order, const Tensor& saved, const std::optional<Tensor>& b, const Tensor* dy, const Tensor* ddx, int64_t dim,
    int64_t act, double alpha, double gain, double clamp) {
  Tensor y = torch::stable::empty_like(saved);
  const Tensor s = like(saved, y);
  const Tensor first = dy ? like(*dy, y) : s, second = ddx ? like(*ddx, y) : s;
  const Tensor bias = b ? torch::stable::contiguous(*b) : s;
  // torch leaves the stride of a dimension of one entry open: it may be 0
  const int64_t bias_stride = s.size(dim) == 1 ? std::max<int64_t>(s.numel(), 1) : y.stride(dim);
  run(s, cuda_ops::BiasActArgs{
      s.const_data_ptr(), b ? bias.const_data_ptr() : nullptr, dy ? first.const_data_ptr() : nullptr,
      ddx ? second.const_data_ptr() : nullptr, y.mutable_data_ptr(), dtype_code(s), int32_t(act), order,
      s.numel(), s.size(dim), bias_stride, alpha, gain, clamp});
  return y;
}

Tensor bias_act(
    const Tensor& x, const std::optional<Tensor>& b, int64_t dim, int64_t act, double alpha, double gain,
    double clamp) {
  return bias_act_order(0, x, b, nullptr, nullptr, dim, act, alpha, gain, clamp);
}

Tensor bias_act_grad(
    const Tensor& dy, const Tensor& saved, const std::optional<Tensor>& b, int64_t dim, int64_t act, double alpha,
    double gain, double clamp) {
  return bias_act_order(1, saved, b, &dy, nullptr, dim, act, alpha, gain, clamp);
}

Tensor bias_act_grad2(
    const Tensor& ddx, const Tensor& dy, const Tensor& saved, const std::optional<Tensor>& b, int64_t dim,
    int64_t act, double alpha, double gain, double clamp) {
  return bias_act_order(2, saved, b, &dy, &ddx, dim, act, alpha, gain, clamp);
}

#if !defined(CUDA_OPS_WITH_CUDA) && !defined(CUDA_OPS_EMULATED)
const float* data_of(const std::optional<Tensor>& x) {
  return x ? static_cast<const float*>(x->const_data_ptr()) : nullptr;
}

Tensor conv3x3_weights(const Tensor& w, bool adjoint) {
  const int64_t out = adjoint ? 1 : 0, k = w.size(out), c = w.size(1 - out);
  const std::vector<int64_t> shape{36, c, k};
  Tensor u = torch::stable::empty(shape, w.scalar_type(), std::nullopt, w.device());
  cuda_ops::conv3x3_weights_cpu(cuda_ops::Conv3x3Weights{
      static_cast<const float*>(w.const_data_ptr()), static_cast<float*>(u.mutable_data_ptr()), c, k,
      w.stride(1 - out), w.stride(out), w.stride(2), w.stride(3), adjoint});
  return u;
}

Tensor channels_last(const Tensor& x) {
  if (is_channels_last(x)) return x;
  const std::vector<int64_t> shape{x.size(0), x.size(1), x.size(2), x.size(3)};
  Tensor y = torch::stable::empty(
      shape, x.scalar_type(), std::nullopt, x.device(), std::nullopt, MemoryFormat::ChannelsLast);
  torch::stable::copy_(y, x);
  return y;
}

Tensor conv3x3(
    const Tensor& images, const Tensor& u, const std::optional<Tensor>& in_scale,
    const std::optional<Tensor>& out_scale, const std::optional<Tensor>& bias, bool relu,
    const std::optional<Tensor>& mask) {
  const Tensor x = channels_last(images), seen = mask ? channels_last(*mask) : x;
  const int64_t n = x.size(0), c = u.size(1), k = u.size(2), h = x.size(2), w = x.size(3);
  const std::vector<int64_t> shape{n, k, h, w};
  Tensor y = torch::stable::empty(
      shape, x.scalar_type(), std::nullopt, x.device(), std::nullopt, MemoryFormat::ChannelsLast);
  cuda_ops::conv3x3_cpu(
      cuda_ops::Conv3x3Args{
          static_cast<const float*>(x.const_data_ptr()),
          mask ? static_cast<const float*>(seen.const_data_ptr()) : nullptr,
          static_cast<const float*>(u.const_data_ptr()), data_of(in_scale), data_of(out_scale), data_of(bias),
          static_cast<float*>(y.mutable_data_ptr()), n, h, w, c, k, relu},
      in_threads);
  return y;
}
#endif

}  // namespace

#define REGISTER(space, device)                         \
  STABLE_TORCH_LIBRARY_IMPL(space, device, m) {         \
    m.impl("upfirdn2d", TORCH_BOX(&upfirdn2d));         \
    m.impl("bias_act", TORCH_BOX(&bias_act));           \
    m.impl("bias_act_grad", TORCH_BOX(&bias_act_grad)); \
    m.impl("bias_act_grad2", TORCH_BOX(&bias_act_grad2)); \
  }
#define REGISTER_EXPANDED(space, device) REGISTER(space, device)

// One library per device, so that a missing CUDA toolkit does not cost the CPU kernels.
#ifdef CUDA_OPS_WITH_CUDA
REGISTER_EXPANDED(CUDA_OPS_NAMESPACE, CUDA)
#else
REGISTER_EXPANDED(CUDA_OPS_NAMESPACE, CPU)
#ifndef CUDA_OPS_EMULATED
STABLE_TORCH_LIBRARY_IMPL(cuda_ops, CPU, m) {
  m.impl("conv3x3_weights", TORCH_BOX(&conv3x3_weights));
  m.impl("conv3x3", TORCH_BOX(&conv3x3));
}
#endif
#endif
