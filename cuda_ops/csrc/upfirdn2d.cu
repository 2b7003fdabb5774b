// upfirdn2d on a GPU: a tiled kernel for planes, one for channels-last images, one for everything else.
//
// Output sample o sees the zero-inserted, padded input from position o * down - p0 on; only every up-th
// tap meets a sample. The fast kernels let each thread compute a small rectangle of outputs whose first
// position is a multiple of up: then which tap meets which sample is known to the compiler, and the inner
// loops are multiply-adds on registers with no index arithmetic.
#include "api.h"
#include "portable.h"
#include "simt.h"

namespace cuda_ops {
namespace {

CUDA_OPS_FN int64_t floor_div(int64_t a, int64_t b) { return a >= 0 ? a / b : -((-a + b - 1) / b); }

// Rates, taps and the rectangle of outputs per thread, known at compile time.
template <int UX, int UY, int DX, int DY, int TX, int TY, int QX, int QY>
struct Shape {
  static constexpr int ux = UX, uy = UY, dx = DX, dy = DY, tx = TX, ty = TY, qx = QX, qy = QY;
  static constexpr int wx = ((QX - 1) * DX + TX - 1) / UX + 1;  // samples under a rectangle
  static constexpr int wy = ((QY - 1) * DY + TY - 1) / UY + 1;
  static constexpr int lanes = 32, rows = CUDA_OPS_BLOCK / 32;
  static constexpr int ox = lanes * QX, oy = rows * QY;  // outputs of a block
  static constexpr int sx = ((ox - 1) * DX + TX - 1) / UX + 1;  // samples under a block
  static constexpr int sy = ((oy - 1) * DY + TY - 1) / UY + 1;
  static_assert(QX % UX == 0 && QY % UY == 0 && (DX == 1 || UX == 1) && (DY == 1 || UY == 1));

  static bool fits(const Upfirdn2dArgs& a) {
    return a.upx == UX && a.upy == UY && a.downx == DX && a.downy == DY && a.taps_w == TX && a.taps_h == TY;
  }
  // the first rectangle begins here, at most up - 1 before the image, so that positions are multiples of up
  static int first_x(const Upfirdn2dArgs& a) { return -((UX - a.px0 % UX) % UX) % UX; }
  static int first_y(const Upfirdn2dArgs& a) { return -((UY - a.py0 % UY) % UY) % UY; }
};

// The filter in the order in which the samples come, with the gain.
template <class S, class A>
CUDA_OPS_FN void load_filter(const Upfirdn2dArgs& a, A (&f)[S::ty][S::tx]) {
#pragma unroll
  for (int k = 0; k < S::ty * S::tx; ++k) {
    const int at = a.flip ? k : S::ty * S::tx - 1 - k;
    f[k / S::tx][k % S::tx] = static_cast<const A*>(a.f)[at] * A(a.gain);
  }
}

// All outputs of a rectangle from its window of samples, written to (oy, ox) and on.
template <class S, class T, class A>
CUDA_OPS_FN void write_rectangle(
    const Upfirdn2dArgs& a, const A (&f)[S::ty][S::tx], const A (&w)[S::wy][S::wx], T* y, int64_t oy, int64_t ox) {
#pragma unroll
  for (int qy = 0; qy < S::qy; ++qy) {
#pragma unroll
    for (int qx = 0; qx < S::qx; ++qx) {
      A sum = 0;
#pragma unroll
      for (int ky = (S::uy - qy * S::dy % S::uy) % S::uy; ky < S::ty; ky += S::uy) {
#pragma unroll
        for (int kx = (S::ux - qx * S::dx % S::ux) % S::ux; kx < S::tx; kx += S::ux) {
          sum += w[(qy * S::dy + ky) / S::uy][(qx * S::dx + kx) / S::ux] * f[ky][kx];
        }
      }
      const int64_t py = oy + qy, px = ox + qx;
      if (py >= 0 && py < a.out_h && px >= 0 && px < a.out_w) store(y[py * a.yh + px * a.yw], sum);
    }
  }
}

// One plane and one rectangle of 32 x rows threads at a time; the samples go through shared memory.
template <class T, class S>
__global__ void upfirdn2d_tile(Upfirdn2dArgs a, int first_x, int first_y, int64_t tiles_x, int64_t tiles_y) {
  using A = Acc<T>;
  __shared__ A tile[S::sy][S::sx];
  A f[S::ty][S::tx];
  load_filter<S, A>(a, f);
  const int lane = threadIdx.x % S::lanes, row = threadIdx.x / S::lanes;
  const int64_t jobs = tiles_x * tiles_y * a.batch * a.channels;
  for (int64_t job = blockIdx.x; job < jobs; job += gridDim.x) {
    const int64_t plane = job / (tiles_x * tiles_y);
    const int64_t ox = first_x + job % tiles_x * S::ox, oy = first_y + job / tiles_x % tiles_y * S::oy;
    const int64_t ix = (ox * S::dx - a.px0) / S::ux, iy = (oy * S::dy - a.py0) / S::uy;  // exact
    const T* x = static_cast<const T*>(a.x) + plane / a.channels * a.xn + plane % a.channels * a.xc;
    T* y = static_cast<T*>(a.y) + plane / a.channels * a.yn + plane % a.channels * a.yc;
    __syncthreads();  // the tile before has been used
    for (int k = threadIdx.x; k < S::sy * S::sx; k += CUDA_OPS_BLOCK) {
      const int64_t py = iy + k / S::sx, px = ix + k % S::sx;
      const bool inside = py >= 0 && py < a.in_h && px >= 0 && px < a.in_w;
      tile[k / S::sx][k % S::sx] = inside ? A(load(x[py * a.xh + px * a.xw])) : A(0);
    }
    __syncthreads();  // the tile is complete
    A window[S::wy][S::wx];
#pragma unroll
    for (int wy = 0; wy < S::wy; ++wy) {
#pragma unroll
      for (int wx = 0; wx < S::wx; ++wx) {
        window[wy][wx] = tile[row * (S::qy * S::dy / S::uy) + wy][lane * (S::qx * S::dx / S::ux) + wx];
      }
    }
    write_rectangle<S, T, A>(a, f, window, y, oy + row * S::qy, ox + lane * S::qx);
  }
}

// Channels last: neighbouring threads take neighbouring channels, so plain loads are coalesced.
template <class T, class S, class I>
__global__ void upfirdn2d_channels(Upfirdn2dArgs a, int first_x, int first_y, int64_t across, int64_t along) {
  using A = Acc<T>;
  A f[S::ty][S::tx];
  load_filter<S, A>(a, f);
  const I jobs = I(across * along * a.batch * a.channels), step = I(gridDim.x) * CUDA_OPS_BLOCK;
  for (I job = I(blockIdx.x) * CUDA_OPS_BLOCK + threadIdx.x; job < jobs; job += step) {
    const I channel = job % I(a.channels), rest = job / I(a.channels), rest_y = rest / I(across);
    const int64_t ox = first_x + int64_t(rest % I(across)) * S::qx;
    const int64_t oy = first_y + int64_t(rest_y % I(along)) * S::qy;
    const int64_t image = rest_y / I(along);
    const int64_t ix = (ox * S::dx - a.px0) / S::ux, iy = (oy * S::dy - a.py0) / S::uy;
    const T* x = static_cast<const T*>(a.x) + image * a.xn + int64_t(channel) * a.xc;
    A window[S::wy][S::wx];
#pragma unroll
    for (int wy = 0; wy < S::wy; ++wy) {
#pragma unroll
      for (int wx = 0; wx < S::wx; ++wx) {
        const int64_t py = iy + wy, px = ix + wx;
        const bool inside = py >= 0 && py < a.in_h && px >= 0 && px < a.in_w;
        window[wy][wx] = inside ? A(load(x[py * a.xh + px * a.xw])) : A(0);
      }
    }
    T* y = static_cast<T*>(a.y) + image * a.yn + int64_t(channel) * a.yc;
    write_rectangle<S, T, A>(a, f, window, y, oy, ox);
  }
}

// Any rates, filter and strides; one output per thread and step.
template <class T>
__global__ void upfirdn2d_any(Upfirdn2dArgs a) {
  using A = Acc<T>;
  const int64_t count = a.batch * a.channels * a.out_h * a.out_w, step = int64_t(gridDim.x) * CUDA_OPS_BLOCK;
  const bool channels_last = a.yc == 1;
  for (int64_t i = int64_t(blockIdx.x) * CUDA_OPS_BLOCK + threadIdx.x; i < count; i += step) {
    int64_t rest = i, c = 0;
    if (channels_last) c = rest % a.channels, rest /= a.channels;
    const int64_t ox = rest % a.out_w;
    rest /= a.out_w;
    const int64_t oy = rest % a.out_h;
    rest /= a.out_h;
    if (!channels_last) c = rest % a.channels, rest /= a.channels;
    const T* x = static_cast<const T*>(a.x) + rest * a.xn + c * a.xc;
    const int64_t from_y = oy * a.downy - a.py0, from_x = ox * a.downx - a.px0;
    // samples under the filter: ceil(from / up) <= i < ceil((from + taps) / up), inside the image
    const int64_t y0 = -floor_div(-from_y, a.upy), y1 = -floor_div(-(from_y + a.taps_h), a.upy);
    const int64_t x0 = -floor_div(-from_x, a.upx), x1 = -floor_div(-(from_x + a.taps_w), a.upx);
    A sum = 0;
    for (int64_t iy = y0 > 0 ? y0 : 0; iy < (y1 < a.in_h ? y1 : a.in_h); ++iy) {
      const int64_t ky = iy * a.upy - from_y;
      for (int64_t ix = x0 > 0 ? x0 : 0; ix < (x1 < a.in_w ? x1 : a.in_w); ++ix) {
        const int64_t kx = ix * a.upx - from_x;
        const int64_t at = a.flip ? ky * a.taps_w + kx : (a.taps_h - 1 - ky) * a.taps_w + a.taps_w - 1 - kx;
        sum += A(load(x[iy * a.xh + ix * a.xw])) * static_cast<const A*>(a.f)[at];
      }
    }
    store(static_cast<T*>(a.y)[rest * a.yn + c * a.yc + oy * a.yh + ox * a.yw], sum * A(a.gain));
  }
}

template <class T, class S>
int launch_shape(const Upfirdn2dArgs& a, void* stream) {
  const int first_x = S::first_x(a), first_y = S::first_y(a);
  if (a.xc == 1 && a.yc == 1 && a.channels > 1) {
    const int64_t across = (a.out_w - first_x + S::qx - 1) / S::qx, along = (a.out_h - first_y + S::qy - 1) / S::qy;
    const int64_t jobs = across * along * a.batch * a.channels;
    const int64_t blocks = blocks_for((jobs + CUDA_OPS_BLOCK - 1) / CUDA_OPS_BLOCK);
    if (jobs < 0x40000000)
      return CUDA_OPS_LAUNCH(
          (upfirdn2d_channels<T, S, uint32_t>), blocks, CUDA_OPS_BLOCK, stream, a, first_x, first_y, across, along);
    return CUDA_OPS_LAUNCH(
        (upfirdn2d_channels<T, S, int64_t>), blocks, CUDA_OPS_BLOCK, stream, a, first_x, first_y, across, along);
  }
  const int64_t tiles_x = (a.out_w - first_x + S::ox - 1) / S::ox, tiles_y = (a.out_h - first_y + S::oy - 1) / S::oy;
  const int64_t blocks = blocks_for(tiles_x * tiles_y * a.batch * a.channels);
  return CUDA_OPS_LAUNCH(
      (upfirdn2d_tile<T, S>), blocks, CUDA_OPS_BLOCK, stream, a, first_x, first_y, tiles_x, tiles_y);
}

template <class T>
int launch(const Upfirdn2dArgs& a, void* stream) {
  // StyleGAN2: the 4-tap filter enlarging, shrinking and blurring
  using Up = Shape<2, 2, 1, 1, 4, 4, 2, 4>;
  using Down = Shape<1, 1, 2, 2, 4, 4, 1, 2>;
  using Blur = Shape<1, 1, 1, 1, 4, 4, 1, 4>;
  // augmentation: 12-tap wavelets, one axis at a time
  using UpX = Shape<2, 1, 1, 1, 12, 1, 2, 2>;
  using UpY = Shape<1, 2, 1, 1, 1, 12, 1, 4>;
  using DownX = Shape<1, 1, 2, 1, 12, 1, 1, 2>;
  using DownY = Shape<1, 1, 1, 2, 1, 12, 1, 2>;
  if (Up::fits(a)) return launch_shape<T, Up>(a, stream);
  if (Down::fits(a)) return launch_shape<T, Down>(a, stream);
  if (Blur::fits(a)) return launch_shape<T, Blur>(a, stream);
  if (UpX::fits(a)) return launch_shape<T, UpX>(a, stream);
  if (UpY::fits(a)) return launch_shape<T, UpY>(a, stream);
  if (DownX::fits(a)) return launch_shape<T, DownX>(a, stream);
  if (DownY::fits(a)) return launch_shape<T, DownY>(a, stream);
  const int64_t count = a.batch * a.channels * a.out_h * a.out_w;
  const int64_t blocks = blocks_for((count + CUDA_OPS_BLOCK - 1) / CUDA_OPS_BLOCK);
  return CUDA_OPS_LAUNCH((upfirdn2d_any<T>), blocks, CUDA_OPS_BLOCK, stream, a);
}

}  // namespace

int upfirdn2d_cuda(const Upfirdn2dArgs& a, void* stream) {
  if (a.batch * a.channels * a.out_h * a.out_w == 0) return 0;
  return with_dtype(a.dtype, [&](auto type) { return launch<typename decltype(type)::type>(a, stream); });
}

}  // namespace cuda_ops
