// Runs every CUDA kernel, and the convolution of the CPU, on small problems, for ThreadSanitizer and AddressSanitizer:
// buffers have exactly their size. Prints a checksum; a sanitizer, or the emulator, ends the program where something is wrong.
#include <cstdio>
#include <limits>
#include <thread>
#include <vector>

#include "api.h"
#include "portable.h"

namespace {

using namespace cuda_ops;

struct Geometry {
  int ux, uy, dx, dy, tx, ty, px0, px1, py0, py1, h, w;
};

constexpr Geometry kGeometries[] = {
    {2, 2, 1, 1, 4, 4, 2, 1, 2, 1, 17, 41},   {2, 2, 1, 1, 4, 4, 1, 2, 3, 0, 9, 8},
    {1, 1, 2, 2, 4, 4, 1, 1, 1, 1, 40, 70},   {1, 1, 1, 1, 4, 4, 2, 1, 2, 1, 35, 33},
    {2, 1, 1, 1, 12, 1, 6, 5, 0, 0, 9, 40},   {1, 2, 1, 1, 1, 12, 0, 0, 6, 5, 20, 33},
    {1, 1, 2, 1, 12, 1, 5, 5, 0, 0, 9, 70},   {1, 1, 1, 2, 1, 12, 0, 0, 5, 5, 40, 33},
    {3, 2, 2, 1, 5, 3, -1, 4, 2, -2, 7, 9},
};

template <class T>
std::vector<T> numbers(size_t count) {
  std::vector<T> v(count);
  for (size_t i = 0; i < count; ++i) store(v[i], Acc<T>(double(i * 7919 % 1009) / 504.5 - 1));
  return v;
}

template <class T>
double total(const std::vector<T>& v) {
  double sum = 0;
  for (const T& value : v) sum += double(load(value));
  return sum;
}

template <class T>
double run(int32_t dtype, const Geometry& g, bool channels_last) {
  const int64_t n = 2, c = 3, out_h = (g.h * g.uy + g.py0 + g.py1 - g.ty) / g.dy + 1,
                out_w = (g.w * g.ux + g.px0 + g.px1 - g.tx) / g.dx + 1;
  const auto x = numbers<T>(n * c * g.h * g.w);
  const auto f = numbers<Acc<T>>(g.tx * g.ty);
  std::vector<T> y(n * c * out_h * out_w);
  Upfirdn2dArgs a{x.data(), f.data(), y.data(), dtype, 0, n, c, g.h, g.w, out_h, out_w, c * g.h * g.w,
                  int64_t(g.h) * g.w, g.w, 1, c * out_h * out_w, out_h * out_w, out_w, 1,
                  g.ty, g.tx, g.ux, g.uy, g.dx, g.dy, g.px0, g.py0, 1.5};
  if (channels_last) a.xc = a.yc = 1, a.xh = g.w * c, a.xw = c, a.yh = out_w * c, a.yw = c;
  upfirdn2d_cuda(a, nullptr);
  return total(y);
}

template <class T>
double run(int32_t dtype, int act, int order, int64_t count, int64_t bias_stride) {
  const auto s = numbers<T>(count), b = numbers<T>(5), dy = numbers<T>(count), ddx = numbers<T>(count);
  std::vector<T> y(count);
  BiasActArgs a{s.data(), b.data(), order >= 1 ? dy.data() : nullptr, order == 2 ? ddx.data() : nullptr, y.data(),
                dtype, act, order, count, 5, bias_stride, 0.2, 1.5, order ? std::numeric_limits<double>::quiet_NaN() : 0.7};
  bias_act_cuda(a, nullptr);
  return total(y);
}

void in_two_threads(int64_t count, int64_t, void (*body)(void*, int64_t, int64_t), void* context) {
  std::thread other([=] { body(context, 0, count / 2); });
  body(context, count / 2, count);
  other.join();
}

double run_conv3x3(int64_t batch, int64_t h, int64_t w, int64_t c, int64_t k, bool all) {
  const auto weight = numbers<float>(k * c * 9), x = numbers<float>(batch * h * w * c), scale = numbers<float>(batch * c),
             out_scale = numbers<float>(batch * k), bias = numbers<float>(k);
  std::vector<float> u(36 * c * k), y(batch * h * w * k);
  conv3x3_weights_cpu({weight.data(), u.data(), c, k, 9, 9 * c, 3, 1, all});
  conv3x3_cpu({x.data(), all ? x.data() : nullptr, u.data(), all ? scale.data() : nullptr,
               all ? out_scale.data() : nullptr, all ? bias.data() : nullptr, y.data(), batch, h, w, c, k, all},
              in_two_threads);
  return total(y);
}

}  // namespace

int main() {
  double sum = 0;
  for (int64_t h : {1, 2, 5, 6, 16})
    for (int64_t w : {1, 3, 4, 11})
      for (bool all : {false, true}) sum += run_conv3x3(3, h, w, 16, 48, all) + run_conv3x3(2, h, w, 32, 16, all);
  for (const Geometry& g : kGeometries) {
    for (bool last : {false, true}) {
      sum += run<float>(kFloat32, g, last);
      sum += run<half_t>(kFloat16, g, last);
    }
  }
  for (int act = 1; act <= 9; ++act)
    for (int order = 0; order <= 2; ++order)
      for (int64_t stride : {1, 7, 8})
        sum += run<float>(kFloat32, act, order, 5 * 8 * 7, stride) + run<bfloat16_t>(kBFloat16, act, order, 5 * 7 * 3, stride);
  std::printf("%.6f\n", sum);
  return 0;
}
