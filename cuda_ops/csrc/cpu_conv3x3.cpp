// 3x3 convolution of channels-last images on a CPU with 4 multiplications for every 9: Winograd's F(4x4, 3x3)
// (Lavin & Gray, CVPR 2016). Tiles of 6x6 pixels that overlap by 2 are transformed, multiplied with the transformed
// weights as 36 products of matrices [tiles, c] . [c, k], and transformed back to 4x4 pixels. A block of tiles goes
// through all three steps while it is in the cache. Every element of a product is one chain of sums over c, so a
// pixel's bits depend neither on the block, nor on the thread, nor on the rest of the batch.
#include <algorithm>
#include <memory>
#include <new>

#include "api.h"

namespace cuda_ops {
namespace {

#ifdef __AVX512F__
constexpr int kLanes = 16, kRows = 12;  // of a vector; tiles that one pass of `multiply` holds in registers
#else
constexpr int kLanes = 8, kRows = 6;
#endif
constexpr int kPanel = 2 * kLanes;  // output channels of one pass
constexpr int kBlock = 96;          // tiles, in multiples of kRows
constexpr int64_t kSpace = 16;      // floats between the 36 matrices, or all fall on the same lines of the cache

typedef float Vector __attribute__((vector_size(kLanes * 4), aligned(4), may_alias));

inline Vector load(const float* p) { return *reinterpret_cast<const Vector*>(p); }
inline void store(float* p, Vector v) { *reinterpret_cast<Vector*>(p) = v; }

// The points at which the polynomials are taken, besides 0 and infinity: +-sqrt(1/2) and +-sqrt(2), which err less
// than the usual +-1 and +-2.
constexpr float kNear = 0.70710678f, kFar = 1.41421356f;

// B^T of the input, in place
inline void to_tile(Vector& a, Vector& b, Vector& c, Vector& d, Vector& e, Vector& f) {
  const Vector p = kNear * (d - 2 * b), q = e - 2 * c, r = kNear * (2 * d - b), s = e - 0.5f * c;
  a = a - 2.5f * c + e;
  f = b - 2.5f * d + f;
  b = q + p, c = q - p, d = s + r, e = s - r;
}

// A^T of the products
inline void to_pixels(const Vector (&m)[6], Vector (&y)[4]) {
  const Vector s = m[1] + m[2], d = kNear * (m[1] - m[2]), s2 = m[3] + m[4], d2 = kFar * (m[3] - m[4]);
  y[0] = m[0] + s + s2, y[1] = d + d2, y[2] = 0.5f * s + 2 * s2, y[3] = 0.5f * d + 2 * d2 + m[5];
}

// G of the weights
inline void to_weights(const Vector (&g)[3], Vector (&u)[6]) {
  const Vector even = (g[0] + 0.5f * g[2]) / -1.5f, odd = kNear * g[1] / -1.5f;
  const Vector even2 = (g[0] + 2 * g[2]) / 6, odd2 = kFar * g[1] / 6;
  u[0] = g[0], u[1] = even + odd, u[2] = even - odd, u[3] = even2 + odd2, u[4] = even2 - odd2, u[5] = g[2];
}

// m [kRows, vectors] = v [kRows, c] . u [c, vectors]; on its own, since inlined the addresses of the rows leave the registers
template <int vectors>
[[gnu::noinline]] void multiply(const float* v, const float* u, int64_t c, float* m, int64_t k) {
  Vector sum[kRows][vectors];
#pragma GCC unroll 12
  for (int row = 0; row < kRows; ++row)
    for (int i = 0; i < vectors; ++i) sum[row][i] = Vector{};
  for (int64_t j = 0; j < c; ++j) {
    Vector weight[vectors];
    for (int i = 0; i < vectors; ++i) weight[i] = load(u + (j * vectors + i) * kLanes);
#pragma GCC unroll 12
    for (int row = 0; row < kRows; ++row)
      for (int i = 0; i < vectors; ++i) sum[row][i] += v[row * c + j] * weight[i];
  }
#pragma GCC unroll 12
  for (int row = 0; row < kRows; ++row)
    for (int i = 0; i < vectors; ++i) store(m + row * k + i * kLanes, sum[row][i]);
}

struct Job {
  const Conv3x3Args& a;
  int64_t down = (a.h + 3) / 4, across = (a.w + 3) / 4;
  int64_t tiles = a.batch * down * across;
  int64_t v_size = kBlock * a.c + kSpace, m_size = kBlock * a.k + kSpace;

  // images to v [36][kBlock, c]
  void transform(int64_t first, int64_t count, float* v) const {
    for (int64_t t = 0; t < count; ++t) {
      const int64_t tile = first + t, n = tile / (down * across);
      const int64_t top = tile / across % down * 4 - 1, left = tile % across * 4 - 1;
      const float* image = a.x + n * a.h * a.w * a.c;
      const float* mask = a.mask ? a.mask + n * a.h * a.w * a.c : nullptr;
      const float* scale = a.in_scale ? a.in_scale + n * a.c : nullptr;
      const bool inside = top >= 0 && left >= 0 && top + 6 <= a.h && left + 6 <= a.w;
      for (int64_t c = 0; c < a.c; c += kLanes) {
        Vector d[6][6];
        for (int i = 0; i < 6; ++i)
          for (int j = 0; j < 6; ++j) {
            const int64_t y = top + i, x = left + j;
            const bool there = inside || (y >= 0 && y < a.h && x >= 0 && x < a.w);
            const int64_t at = (y * a.w + x) * a.c + c;
            d[i][j] = there ? load(image + at) : Vector{};
            if (mask && there) d[i][j] = load(mask + at) > 0 ? d[i][j] : Vector{};
          }
#pragma GCC unroll 6
        for (int j = 0; j < 6; ++j) to_tile(d[0][j], d[1][j], d[2][j], d[3][j], d[4][j], d[5][j]);
        const Vector s = scale ? load(scale + c) : Vector{} + 1;
#pragma GCC unroll 6
        for (int i = 0; i < 6; ++i) {
          to_tile(d[i][0], d[i][1], d[i][2], d[i][3], d[i][4], d[i][5]);
          for (int j = 0; j < 6; ++j) store(v + (i * 6 + j) * v_size + t * a.c + c, s * d[i][j]);
        }
      }
    }
  }

  // m [36][kBlock, k] = v . u; rows beyond the last tile are computed and not used
  void product(int64_t count, const float* v, float* m) const {
    for (int p = 0; p < 36; ++p) {
      const float* u = a.u + p * a.c * a.k;
      for (int64_t k = 0; k < a.k; k += kPanel)
        for (int64_t t = 0; t < count; t += kRows) {
          const float* rows = v + p * v_size + t * a.c;
          float* to = m + p * m_size + t * a.k + k;
          a.k - k >= kPanel ? multiply<2>(rows, u + k * a.c, a.c, to, a.k) : multiply<1>(rows, u + k * a.c, a.c, to, a.k);
        }
    }
  }

  // m to images
  void restore(int64_t first, int64_t count, const float* m) const {
    for (int64_t t = 0; t < count; ++t) {
      const int64_t tile = first + t, n = tile / (down * across);
      const int64_t top = tile / across % down * 4, left = tile % across * 4;
      const int64_t height = std::min<int64_t>(4, a.h - top), width = std::min<int64_t>(4, a.w - left);
      float* image = a.y + n * a.h * a.w * a.k;
      for (int64_t k = 0; k < a.k; k += kLanes) {
        Vector half[6][4];  // [column of the tile][row of pixels]
#pragma GCC unroll 6
        for (int j = 0; j < 6; ++j) {
          Vector column[6];
          for (int i = 0; i < 6; ++i) column[i] = load(m + (i * 6 + j) * m_size + t * a.k + k);
          to_pixels(column, half[j]);
        }
        const Vector scale = a.out_scale ? load(a.out_scale + n * a.k + k) : Vector{} + 1;
        const Vector bias = a.bias ? load(a.bias + k) : Vector{};
#pragma GCC unroll 4
        for (int i = 0; i < 4; ++i) {
          const Vector row[6] = {half[0][i], half[1][i], half[2][i], half[3][i], half[4][i], half[5][i]};
          Vector y[4];
          to_pixels(row, y);
          if (i < height)
            for (int j = 0; j < 4; ++j)
              if (j < width) {
                const Vector v = scale * y[j] + bias;
                store(image + ((top + i) * a.w + left + j) * a.k + k, a.relu ? (v < 0 ? Vector{} : v) : v);
              }
        }
      }
    }
  }

  void blocks(int64_t begin, int64_t end) const {
    const auto free = [](float* p) { ::operator delete[](p, std::align_val_t(64)); };
    const size_t bytes = size_t(36 * (v_size + m_size)) * sizeof(float);
    std::unique_ptr<float, decltype(free)> v(static_cast<float*>(::operator new[](bytes, std::align_val_t(64))), free);
    std::fill_n(v.get(), 36 * v_size, 0.0f);  // rows that no tile ever fills are multiplied too
    float* m = v.get() + 36 * v_size;
    for (int64_t i = begin; i < end; ++i) {
      const int64_t first = i * kBlock, count = std::min<int64_t>(kBlock, tiles - first);
      transform(first, count, v.get());
      product(count, v.get(), m);
      restore(first, count, m);
    }
  }
};

}  // namespace

void conv3x3_weights_cpu(const Conv3x3Weights& a) {
  for (int64_t k = 0; k < a.k; k += kLanes) {
    const int64_t panel = k / kPanel * kPanel, width = std::min<int64_t>(kPanel, a.k - panel);
    for (int64_t c = 0; c < a.c; ++c) {
      Vector g[3][3], rows[3][6];
      for (int y = 0; y < 3; ++y)
        for (int x = 0; x < 3; ++x) {
          const float* from = a.w + k * a.wk + c * a.wc + (a.flip ? 2 - y : y) * a.wh + (a.flip ? 2 - x : x) * a.ww;
          for (int lane = 0; lane < kLanes; ++lane) g[y][x][lane] = from[lane * a.wk];
        }
      for (int y = 0; y < 3; ++y) to_weights(g[y], rows[y]);
      for (int j = 0; j < 6; ++j) {
        const Vector column[3] = {rows[0][j], rows[1][j], rows[2][j]};
        Vector u[6];
        to_weights(column, u);
        for (int i = 0; i < 6; ++i)
          store(a.u + (i * 6 + j) * a.c * a.k + panel * a.c + c * width + (k - panel), u[i]);
      }
    }
  }
}

void conv3x3_cpu(const Conv3x3Args& a, ParallelFor parallel_for) {
  if (a.batch * a.h * a.w * a.c * a.k == 0) return;
  Job job{a};
  parallel_for(
      (job.tiles + kBlock - 1) / kBlock, 1,
      [](void* context, int64_t begin, int64_t end) { static_cast<const Job*>(context)->blocks(begin, end); }, &job);
}

}  // namespace cuda_ops
