// upfirdn2d on a CPU, a few rows of the result at a time: mix the rows of samples under the filter into one for each,
// then filter these along x by phases (an output only meets every up-th tap, and which ones repeats).
// The filter is a sum of products column x row: one where it is separable, one for each row otherwise.
#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <vector>

#include "api.h"
#include "cpu_stream.h"
#include "portable.h"

namespace cuda_ops {
namespace {

constexpr int64_t kGrain = 16384;       // outputs worth a thread
constexpr int64_t kMixed = 4096;        // mixed samples that stay in the first cache
constexpr int64_t kLeastColumns = 16;   // columns of a piece of it, so that the overlap stays small

template <class A>
struct Term {
  std::vector<A> column, row;
};

// Numbers that begin at a cache line.
template <class A>
struct Buffer {
  explicit Buffer(int64_t count) : storage(count + 64 / sizeof(A)) {
    const auto at = reinterpret_cast<uintptr_t>(storage.data());
    start = storage.data() + (64 - at % 64) % 64 / sizeof(A);
  }
  A* data() { return start; }

 private:
  std::vector<A> storage;
  A* start;
};

// Taps in the order of the samples, gain included.
template <class A>
std::vector<Term<A>> factor(const Upfirdn2dArgs& a) {
  const int h = a.taps_h, w = a.taps_w;
  std::vector<double> f(h * w);
  for (int k = 0; k < h * w; ++k) f[k] = static_cast<const A*>(a.f)[a.flip ? k : h * w - 1 - k];
  const auto larger = [](double p, double q) { return std::abs(p) < std::abs(q); };
  const int pivot = int(std::max_element(f.begin(), f.end(), larger) - f.begin());
  bool separable = f[pivot] != 0;
  for (int k = 0; k < h * w && separable; ++k) {
    const double product = f[k / w * w + pivot % w] / f[pivot] * f[pivot / w * w + k % w];
    separable = std::abs(product - f[k]) <= 4 * std::numeric_limits<A>::epsilon() * std::abs(f[k]);
  }
  std::vector<Term<A>> terms(separable ? 1 : h, {std::vector<A>(h), std::vector<A>(w)});
  for (int t = 0; t < int(terms.size()); ++t) {
    const int source = separable ? pivot / w : t;
    for (int k = 0; k < w; ++k) terms[t].row[k] = A(f[source * w + k] * a.gain);
    for (int k = 0; k < h; ++k) terms[t].column[k] = separable ? A(f[k * w + pivot % w] / f[pivot]) : A(k == t);
  }
  return terms;
}

// Output o of an axis is the sum over t of taps[phase o % period][t] * sample[first + t],
// first = start[phase] + stride * (o / period).
struct Axis {
  int64_t period, stride, up;
  std::vector<int64_t> start, tap, count;  // tap: index of the first tap of the phase; the next is up later

  Axis(int64_t up_, int64_t down, int64_t p0, int64_t taps) : up(up_) {
    period = up / std::gcd(up, down);
    stride = period * down / up;
    for (int64_t phase = 0; phase < period; ++phase) {
      const int64_t from = phase * down - p0, skip = ((-from) % up + up) % up;
      tap.push_back(skip);
      start.push_back((from + skip) / up);
      count.push_back(skip < taps ? (taps - skip + up - 1) / up : 0);
    }
  }
  int64_t first(int64_t o) const { return start[o % period] + stride * (o / period); }
};

// out[i] (+)= sum over t < n of c[t] * x[at[t] + i]
template <int n, bool add, class T, class A>
void mix(const T* x, const int64_t* at, const A* c, A* out, int64_t length) {
  const T *p = x + at[0], *q = x + at[n > 1 ? 1 : 0], *r = x + at[n > 2 ? 2 : 0], *s = x + at[n > 3 ? 3 : 0];
  const A a = c[0], b = c[n > 1 ? 1 : 0], d = c[n > 2 ? 2 : 0], e = c[n > 3 ? 3 : 0];
#pragma omp simd
  for (int64_t i = 0; i < length; ++i) {
    A sum = a * A(load(p[i]));
    if (n > 1) sum += b * A(load(q[i]));
    if (n > 2) sum += d * A(load(r[i]));
    if (n > 3) sum += e * A(load(s[i]));
    out[i] = add ? out[i] + sum : sum;
  }
}

template <int n, class T, class A>
void mix(const T* x, const int64_t* at, const A* c, A* out, int64_t length, bool add) {
  if (add) return mix<n, true>(x, at, c, out, length);
  mix<n, false>(x, at, c, out, length);
}

template <class T, class A>
void mix(const T* x, const int64_t* at, const A* c, int64_t n, A* out, int64_t length, bool add) {
  if (n == 0 && !add) std::fill(out, out + length, A(0));
  for (; n > 0; n -= 4, at += 4, c += 4, add = true) {
    if (n == 1) mix<1>(x, at, c, out, length, add);
    if (n == 2) mix<2>(x, at, c, out, length, add);
    if (n == 3) mix<3>(x, at, c, out, length, add);
    if (n >= 4) mix<4>(x, at, c, out, length, add);
  }
}

// Rows of samples and rows of results, each `pitch` after the one before.
template <class A>
struct Rows {
  const A* in;
  A* out;
  int64_t count, in_pitch, out_pitch;
};

// along<4, 1, 2> of a row, eight results at a time; returns how many it made. Compilers shuffle every load across the
// halves of a register; here the sum is brought in order once.
template <class A>
int64_t along_every_second(const A* in, const A* c, A* out, int64_t count) {
#ifdef __AVX2__
  if constexpr (std::is_same_v<A, float>) {
    const __m256 a = _mm256_set1_ps(c[0]), b = _mm256_set1_ps(c[1]), d = _mm256_set1_ps(c[2]), e = _mm256_set1_ps(c[3]);
    int64_t j = 0;
    for (; j + 8 <= count; j += 8, in += 16) {
      const __m256 p = _mm256_loadu_ps(in), q = _mm256_loadu_ps(in + 8);
      const __m256 r = _mm256_loadu_ps(in + 2), s = _mm256_loadu_ps(in + 10);
      const __m256 even = a * _mm256_shuffle_ps(p, q, 0x88) + d * _mm256_shuffle_ps(r, s, 0x88);
      const __m256 sum = even + b * _mm256_shuffle_ps(p, q, 0xdd) + e * _mm256_shuffle_ps(r, s, 0xdd);
      _mm256_storeu_ps(out + j, _mm256_castpd_ps(_mm256_permute4x64_pd(_mm256_castps_pd(sum), 0xd8)));
    }
    return j;
  }
#endif
  return 0;
}

// out[step * j] (+)= sum over t < n of c[t] * in[t + stride * j] in every row
template <int n, int step, int stride, class A>
void along(Rows<A> rows, const A* c, int64_t count, int64_t any_step, int64_t any_stride, bool add) {
  const int64_t to = step ? step : any_step, from = stride ? stride : any_stride;
  A k[n];
  std::copy(c, c + n, k);  // into registers: the compiler cannot know that `out` does not overwrite c
  for (int64_t r = 0; r < rows.count; ++r) {
    const A* in = rows.in + r * rows.in_pitch;
    A* out = rows.out + r * rows.out_pitch;
    int64_t first = 0;
    if constexpr (n == 4 && step == 1 && stride == 2)
      if (!add) first = along_every_second(in, k, out, count);
#pragma omp simd
    for (int64_t j = first; j < count; ++j) {
      A sum = add ? out[to * j] : A(0);
      for (int t = 0; t < n; ++t) sum += k[t] * in[t + from * j];
      out[to * j] = sum;
    }
  }
}

template <int n, class A>
void along(const Rows<A>& rows, const A* c, int64_t count, int64_t step, int64_t stride, bool add) {
  if (step == 1 && stride == 1) return along<n, 1, 1>(rows, c, count, step, stride, add);
  if (step == 1 && stride == 2) return along<n, 1, 2>(rows, c, count, step, stride, add);
  if (step == 2 && stride == 1) return along<n, 2, 1>(rows, c, count, step, stride, add);
  return along<n, 0, 0>(rows, c, count, step, stride, add);
}

// Both phases of up = 2 with two taps each, in one pass over the result; they begin at the same sample or the next.
template <class A>
void along_pairs(const Rows<A>& rows, int64_t odd, const A* c, const A* d, int64_t pairs) {
  const A c0 = c[0], c1 = c[1], d0 = d[0], d1 = d[1];
  for (int64_t r = 0; r < rows.count; ++r) {
    const A* in = rows.in + r * rows.in_pitch;
    A* out = rows.out + r * rows.out_pitch;
#pragma omp simd
    for (int64_t j = 0; j < pairs; ++j) {
      out[2 * j] = c0 * in[j] + c1 * in[j + 1];
      out[2 * j + 1] = d0 * in[j + odd] + d1 * in[j + odd + 1];
    }
  }
}

// For every row of the result the rows of x under the filter, as distances from the image, and their coefficients.
template <class A>
struct Under {
  std::vector<int64_t> begin, at;  // row oy has the entries from begin[oy] to begin[oy + 1]
  std::vector<A> c;

  Under(const Upfirdn2dArgs& a, const Axis& axis, const Term<A>& term) {
    for (int64_t oy = 0; oy < a.out_h; ++oy) {
      begin.push_back(int64_t(at.size()));
      const int64_t phase = oy % axis.period, first = axis.first(oy);
      for (int64_t t = 0; t < axis.count[phase]; ++t) {
        const A value = term.column[axis.tap[phase] + t * axis.up];
        if (first + t < 0 || first + t >= a.in_h || value == 0) continue;
        at.push_back((first + t) * a.xh);
        c.push_back(value);
      }
    }
    begin.push_back(int64_t(at.size()));
  }

  template <class T>
  void mix_into(A* out, const T* image, int64_t oy, int64_t length) const {
    mix(image, at.data() + begin[oy], c.data() + begin[oy], begin[oy + 1] - begin[oy], out, length, false);
  }
};

template <class T>
struct Job {
  using A = Acc<T>;
  const Upfirdn2dArgs& a;
  Axis axis{a.upx, a.downx, a.px0, a.taps_w};
  int64_t most = *std::max_element(axis.count.begin(), axis.count.end());  // taps of a phase
  std::vector<Under<A>> under;                                             // for each term of the filter
  std::vector<std::vector<A>> taps;  // for each term the taps of every phase along x, `most` apart
  bool streams = a.batch * a.channels * a.out_h * a.out_w * int64_t(sizeof(T)) >= kStreamBytes;

  explicit Job(const Upfirdn2dArgs& args) : a(args) {
    const Axis y_axis{a.upy, a.downy, a.py0, a.taps_h};
    for (const Term<A>& term : factor<A>(a)) {
      under.emplace_back(a, y_axis, term);
      taps.emplace_back(axis.period * most);
      for (int64_t p = 0; p < axis.period; ++p)
        for (int64_t t = 0; t < axis.count[p]; ++t) taps.back()[p * most + t] = term.row[axis.tap[p] + t * a.upx];
    }
  }

  // Rows [begin, end) of all planes, samples of a row adjacent; a few at a time, so that the mixed rows stay in the
  // first cache, but are in it and not still on their way when they are filtered.
  void planes(int64_t begin, int64_t end) const {
    const auto [least, last] = std::minmax_element(axis.start.begin(), axis.start.end());
    const int64_t lead = std::max<int64_t>(-*least, 0);
    const int64_t high = *last + most + axis.stride * ((a.out_w - 1) / axis.period);
    const int64_t pitch = (lead + std::max(high, a.in_w) + 15) / 16 * 16;
    const int64_t at_once = std::max<int64_t>(kMixed / std::max(pitch, a.out_w), 1);
    std::vector<A> samples(at_once * pitch, A(0)), sums(at_once * a.out_w);
    std::vector<T> converted(std::is_same_v<T, A> ? 0 : sums.size());
    for (int64_t item = begin; item < end; item += at_once) {
      const int64_t rows = std::min(at_once, end - item);
      T* y = static_cast<T*>(a.y) + item * a.out_w;
      A* out = sums.data();
      if constexpr (std::is_same_v<T, A>) out = streams ? out : y;
      for (size_t k = 0; k < under.size(); ++k) {
        int64_t plane = item / a.out_h, oy = item % a.out_h;
        for (int64_t r = 0; r < rows; ++r) {
          const T* image = static_cast<const T*>(a.x) + plane / a.channels * a.xn + plane % a.channels * a.xc;
          under[k].mix_into(samples.data() + r * pitch + lead, image, oy, a.in_w);
          if (++oy == a.out_h) oy = 0, ++plane;
        }
        filter_rows({samples.data() + lead, out, rows, pitch, a.out_w}, taps[k].data(), k > 0);
      }
      finish(out, converted.data(), y, rows * a.out_w);
    }
    stream_end();
  }

  // Bring finished sums to where they belong.
  void finish(const A* sums, T* converted, T* y, int64_t count) const {
    if constexpr (!std::is_same_v<T, A>) {
      for (int64_t i = 0; i < count; ++i) store(converted[i], sums[i]);
      stream_copy(y, converted, count * int64_t(sizeof(T)));
    } else if (streams) {
      stream_copy(y, sums, count * int64_t(sizeof(T)));
    }
  }

  void filter_rows(const Rows<A>& rows, const A* c, bool add) const {
    const auto &start = axis.start, &count = axis.count;
    int64_t done = 0;
    if (!add && axis.period == 2 && axis.stride == 1 && count[0] == 2 && count[1] == 2) {
      done = a.out_w / 2;
      Rows<A> pairs = rows;
      pairs.in += start[0];
      along_pairs(pairs, start[1] - start[0], c, c + most, done);
    }
    for (int64_t p = 0; p < axis.period; ++p) {
      const int64_t outputs = (a.out_w - p + axis.period - 1) / axis.period - done;
      if (outputs <= 0) continue;
      Rows<A> part = rows;
      part.in += start[p] + axis.stride * done, part.out += p + axis.period * done;
      const A* from = c + p * most;
      bool more = add;
      if (count[p] == 0 && !more)
        for (int64_t r = 0; r < rows.count; ++r)
          for (int64_t j = 0; j < outputs; ++j) part.out[r * rows.out_pitch + axis.period * j] = 0;
      for (int64_t n = count[p]; n > 0; n -= 4, part.in += 4, from += 4, more = true) {
        if (n == 1) along<1>(part, from, outputs, axis.period, axis.stride, more);
        if (n == 2) along<2>(part, from, outputs, axis.period, axis.stride, more);
        if (n == 3) along<3>(part, from, outputs, axis.period, axis.stride, more);
        if (n >= 4) along<4>(part, from, outputs, axis.period, axis.stride, more);
      }
    }
  }

  // Rows [begin, end) of all images, channels adjacent; a piece of a row at a time.
  void channels_last(int64_t begin, int64_t end) const {
    const int64_t channels = a.channels;
    const auto [least, last] = std::minmax_element(axis.start.begin(), axis.start.end());
    const int64_t periods = std::max<int64_t>(std::max(kMixed / channels, kLeastColumns) / std::max(axis.stride, axis.period), 1);
    const int64_t all = (a.out_w + axis.period - 1) / axis.period;
    Buffer<A> samples((axis.stride * (periods - 1) + *last - *least + most) * channels), row(row_size(periods));
    Buffer<T> converted(std::is_same_v<T, A> ? 0 : row_size(periods));
    for (int64_t item = begin; item < end; ++item) {
      const int64_t oy = item % a.out_h;
      const T* image = static_cast<const T*>(a.x) + item / a.out_h * a.xn;
      T* y = static_cast<T*>(a.y) + item * a.out_w * channels;
      for (int64_t j = 0; j < all; j += periods) {
        const int64_t count = std::min(periods, all - j), from = j * axis.period * channels;
        const int64_t low = *least + axis.stride * j, high = *last + axis.stride * (j + count - 1) + most;
        const int64_t inside = std::clamp<int64_t>(0, low, high), after = std::clamp<int64_t>(a.in_w, inside, high);
        A* out = row.data();
        if constexpr (std::is_same_v<T, A>) out = streams ? out : y + from;
        for (size_t k = 0; k < under.size(); ++k) {
          A* middle = samples.data() + (inside - low) * channels;
          std::fill(samples.data(), middle, A(0));
          under[k].mix_into(middle, image + inside * channels, oy, (after - inside) * channels);
          std::fill(middle + (after - inside) * channels, samples.data() + (high - low) * channels, A(0));
          filter_channels(samples.data(), low - axis.stride * j, taps[k].data(), out, j, count, k > 0);
        }
        finish(out, converted.data(), y + from, std::min(row_size(count), a.out_w * channels - from));
      }
    }
    stream_end();
  }

  int64_t row_size(int64_t periods) const { return periods * axis.period * a.channels; }

  // Outputs of `count` periods from the j-th on; `samples` begins at column `low` + stride * j.
  void filter_channels(
      const A* samples, int64_t low, const A* c, A* out, int64_t j, int64_t count, bool add) const {
    const int64_t channels = a.channels, from_step = axis.stride * channels, to_step = axis.period * channels;
    for (int64_t p = 0; p < axis.period; ++p) {
      const int64_t pixels = std::min(count, (a.out_w - p + axis.period - 1) / axis.period - j);
      const A *from = samples + (axis.start[p] - low) * channels, *taps = c + p * most;
      A* to = out + p * channels;
      if (axis.count[p] == 0 && !add)
        for (int64_t i = 0; i < pixels; ++i) std::fill_n(to + i * to_step, channels, A(0));
      bool more = add;
      for (int64_t n = axis.count[p]; n > 0; n -= 4, from += 4 * channels, taps += 4, more = true) {
        if (n == 1) pixels_of<1>(from, taps, to, pixels, channels, from_step, to_step, more);
        if (n == 2) pixels_of<2>(from, taps, to, pixels, channels, from_step, to_step, more);
        if (n == 3) pixels_of<3>(from, taps, to, pixels, channels, from_step, to_step, more);
        if (n >= 4) pixels_of<4>(from, taps, to, pixels, channels, from_step, to_step, more);
      }
    }
  }

  // out[i * to_step + k] (+)= sum over t < n of c[t] * in[i * from_step + t * channels + k], k a channel
  template <int n>
  static void pixels_of(
      const A* in, const A* c, A* out, int64_t pixels, int64_t channels, int64_t from_step, int64_t to_step, bool add) {
    const bool one_run = from_step == channels && to_step == channels;
    if (!one_run && !add) {
      if (channels == 3) return few<n, 3>(in, c, out, pixels, from_step, to_step);
      if (channels == 16) return few<n, 16>(in, c, out, pixels, from_step, to_step);
      if (channels == 32) return few<n, 32>(in, c, out, pixels, from_step, to_step);
      if (channels == 64) return few<n, 64>(in, c, out, pixels, from_step, to_step);
    }
    const int64_t length = one_run ? pixels * channels : channels;
    const int64_t at[4] = {0, channels, 2 * channels, 3 * channels};
    for (int64_t i = 0; i < (one_run ? 1 : pixels); ++i) {
      mix<n>(in, at, c, out, length, add);
      in += from_step, out += to_step;
    }
  }

  // The same where a pixel is so short that a loop over an unknown number of channels costs more than the sums.
  template <int n, int channels>
  static void few(const A* in, const A* c, A* out, int64_t pixels, int64_t from_step, int64_t to_step) {
    A taps[n];
    std::copy(c, c + n, taps);
    for (int64_t i = 0; i < pixels; ++i, in += from_step, out += to_step) {
#pragma omp simd
      for (int k = 0; k < channels; ++k) {
        A sum = taps[0] * in[k];
        for (int t = 1; t < n; ++t) sum += taps[t] * in[t * channels + k];
        out[k] = sum;
      }
    }
  }
};

template <class T>
void run(const Upfirdn2dArgs& a, ParallelFor parallel_for) {
  Job<T> job(a);
  if (a.xc == 1 && a.yc == 1 && a.xw == a.channels && a.channels > 1) {
    const int64_t grain = std::max<int64_t>(kGrain / (a.out_w * a.channels), 1);
    return parallel_for(
        a.batch * a.out_h, grain,
        [](void* job, int64_t begin, int64_t end) { static_cast<Job<T>*>(job)->channels_last(begin, end); }, &job);
  }
  parallel_for(
      a.batch * a.channels * a.out_h, std::max<int64_t>(kGrain / a.out_w, 1),
      [](void* job, int64_t begin, int64_t end) { static_cast<Job<T>*>(job)->planes(begin, end); }, &job);
}

}  // namespace

void upfirdn2d_cpu(const Upfirdn2dArgs& a, ParallelFor parallel_for) {
  if (a.batch * a.channels * a.out_h * a.out_w == 0) return;
  with_dtype(a.dtype, [&](auto type) { run<typename decltype(type)::type>(a, parallel_for); });
}

}  // namespace cuda_ops
