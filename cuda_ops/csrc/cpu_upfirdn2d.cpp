// upfirdn2d on a CPU, a row of the result at a time: mix the rows of samples under the filter into one,
// then filter that along x by phases (an output only meets every up-th tap, and which ones repeats).
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
constexpr int64_t kMixedRow = 4096;     // numbers of a mixed row of channels that stay in the first cache
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

// out[i] (+)= sum over t < n of c[t] * in[t][i]
template <int n, bool add, class T, class A>
void mix(const T* const* in, const A* c, A* out, int64_t length) {
  const T *p = in[0], *q = in[n > 1 ? 1 : 0], *r = in[n > 2 ? 2 : 0], *s = in[n > 3 ? 3 : 0];
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
void mix(const T* const* in, const A* c, A* out, int64_t length, bool add) {
  if (add) return mix<n, true>(in, c, out, length);
  mix<n, false>(in, c, out, length);
}

template <class T, class A>
void mix(const T* const* in, const A* c, int64_t n, A* out, int64_t length, bool add) {
  if (n == 0 && !add) std::fill(out, out + length, A(0));
  for (; n > 0; n -= 4, in += 4, c += 4, add = true) {
    if (n == 1) mix<1>(in, c, out, length, add);
    if (n == 2) mix<2>(in, c, out, length, add);
    if (n == 3) mix<3>(in, c, out, length, add);
    if (n >= 4) mix<4>(in, c, out, length, add);
  }
}

// out[step * j] (+)= sum over t < n of c[t] * in[t + stride * j]
template <int n, int step, int stride, class A>
void along(const A* in, const A* c, A* out, int64_t count, int64_t any_step, int64_t any_stride, bool add) {
  const int64_t to = step ? step : any_step, from = stride ? stride : any_stride;
#pragma omp simd
  for (int64_t j = 0; j < count; ++j) {
    A sum = add ? out[to * j] : A(0);
    for (int t = 0; t < n; ++t) sum += c[t] * in[t + from * j];
    out[to * j] = sum;
  }
}

template <int n, class A>
void along(const A* in, const A* c, A* out, int64_t count, int64_t step, int64_t stride, bool add) {
  if (step == 1 && stride == 1) return along<n, 1, 1>(in, c, out, count, step, stride, add);
  if (step == 1 && stride == 2) return along<n, 1, 2>(in, c, out, count, step, stride, add);
  if (step == 2 && stride == 1) return along<n, 2, 1>(in, c, out, count, step, stride, add);
  return along<n, 0, 0>(in, c, out, count, step, stride, add);
}

// Both phases of up = 2 with two taps each, in one pass over the result.
template <class A>
void along_pairs(const A* even, const A* odd, const A* c, const A* d, A* out, int64_t pairs) {
#pragma omp simd
  for (int64_t j = 0; j < pairs; ++j) {
    out[2 * j] = c[0] * even[j] + c[1] * even[j + 1];
    out[2 * j + 1] = d[0] * odd[j] + d[1] * odd[j + 1];
  }
}

// Samples of one row of the result: the rows of x under the filter and their coefficients.
template <class T, class A>
struct Under {
  std::vector<const T*> rows;
  std::vector<A> c;

  void collect(const Upfirdn2dArgs& a, const Axis& axis, const Term<A>& term, const T* image, int64_t oy) {
    rows.clear(), c.clear();
    const int64_t phase = oy % axis.period, first = axis.first(oy);
    for (int64_t t = 0; t < axis.count[phase]; ++t) {
      if (first + t < 0 || first + t >= a.in_h) continue;
      const A value = term.column[axis.tap[phase] + t * axis.up];
      if (value == 0) continue;
      rows.push_back(image + (first + t) * a.xh);
      c.push_back(value);
    }
  }
};

template <class T>
struct Job {
  using A = Acc<T>;
  const Upfirdn2dArgs& a;
  std::vector<Term<A>> terms = factor<A>(a);
  Axis x_axis{a.upx, a.downx, a.px0, a.taps_w}, y_axis{a.upy, a.downy, a.py0, a.taps_h};
  bool streams = a.batch * a.channels * a.out_h * a.out_w * int64_t(sizeof(T)) >= kStreamBytes;

  // coefficients of every phase along x, one after the other, `stride` apart
  std::vector<A> phases(const Term<A>& term, int64_t stride) const {
    std::vector<A> c(x_axis.period * stride);
    for (int64_t p = 0; p < x_axis.period; ++p)
      for (int64_t t = 0; t < x_axis.count[p]; ++t) c[p * stride + t] = term.row[x_axis.tap[p] + t * a.upx];
    return c;
  }

  // Rows [begin, end) of all planes, samples of a row adjacent.
  void planes(int64_t begin, int64_t end) const {
    const Axis& axis = x_axis;
    const int64_t most = *std::max_element(axis.count.begin(), axis.count.end());
    const int64_t low = *std::min_element(axis.start.begin(), axis.start.end());
    const int64_t high = *std::max_element(axis.start.begin(), axis.start.end()) + most +
                         axis.stride * ((a.out_w - 1) / axis.period);
    const int64_t lead = std::max<int64_t>(-low, 0);
    std::vector<A> samples(lead + std::max(high, a.in_w), A(0)), row(a.out_w);
    std::vector<T> converted(a.out_w);
    std::vector<std::vector<A>> coefficients;
    for (const auto& term : terms) coefficients.push_back(phases(term, most));
    Under<T, A> under;
    for (int64_t item = begin; item < end; ++item) {
      const int64_t plane = item / a.out_h, oy = item % a.out_h;
      const T* image = static_cast<const T*>(a.x) + plane / a.channels * a.xn + plane % a.channels * a.xc;
      T* y = static_cast<T*>(a.y) + plane / a.channels * a.yn + plane % a.channels * a.yc + oy * a.yh;
      A* out = row.data();
      if constexpr (std::is_same_v<T, A>) out = streams ? out : y;
      for (size_t k = 0; k < terms.size(); ++k) {
        under.collect(a, y_axis, terms[k], image, oy);
        mix(under.rows.data(), under.c.data(), int64_t(under.c.size()), samples.data() + lead, a.in_w, false);
        filter_row(samples.data() + lead, coefficients[k].data(), most, out, k > 0);
      }
      finish_row(out, converted.data(), y, a.out_w);
    }
    stream_end();
  }

  // Bring a finished row of sums to where it belongs.
  void finish_row(const A* sums, T* converted, T* y, int64_t count) const {
    if constexpr (!std::is_same_v<T, A>) {
      for (int64_t i = 0; i < count; ++i) store(converted[i], sums[i]);
      stream_copy(y, converted, count * int64_t(sizeof(T)));
    } else if (streams) {
      stream_copy(y, sums, count * int64_t(sizeof(T)));
    }
  }

  void filter_row(const A* samples, const A* c, int64_t most, A* out, bool add) const {
    const Axis& axis = x_axis;
    const auto &start = axis.start, &count = axis.count;
    int64_t done = 0;
    if (!add && axis.period == 2 && axis.stride == 1 && count[0] == 2 && count[1] == 2) {
      along_pairs(samples + start[0], samples + start[1], c, c + most, out, a.out_w / 2);
      done = a.out_w / 2;
    }
    for (int64_t p = 0; p < axis.period; ++p) {
      const int64_t outputs = (a.out_w - p + axis.period - 1) / axis.period - done;
      if (outputs <= 0) continue;
      A* to = out + p + axis.period * done;
      const A *from = samples + start[p] + axis.stride * done, *taps = c + p * most;
      bool more = add;
      if (count[p] == 0 && !more)
        for (int64_t j = 0; j < outputs; ++j) to[axis.period * j] = 0;
      for (int64_t n = count[p]; n > 0; n -= 4, from += 4, taps += 4, more = true) {
        if (n == 1) along<1>(from, taps, to, outputs, axis.period, axis.stride, more);
        if (n == 2) along<2>(from, taps, to, outputs, axis.period, axis.stride, more);
        if (n == 3) along<3>(from, taps, to, outputs, axis.period, axis.stride, more);
        if (n >= 4) along<4>(from, taps, to, outputs, axis.period, axis.stride, more);
      }
    }
  }

  // Rows [begin, end) of all images, channels adjacent; a piece of a row at a time.
  void channels_last(int64_t begin, int64_t end) const {
    const Axis& axis = x_axis;
    const int64_t most = *std::max_element(axis.count.begin(), axis.count.end()), channels = a.channels;
    const auto [least, last] = std::minmax_element(axis.start.begin(), axis.start.end());
    const int64_t periods = std::max<int64_t>(std::max(kMixedRow / channels, kLeastColumns) / axis.stride, 1);
    const int64_t all = (a.out_w + axis.period - 1) / axis.period;
    Buffer<A> samples((axis.stride * (periods - 1) + *last - *least + most) * channels), row(row_size(periods));
    Buffer<T> converted(std::is_same_v<T, A> ? 0 : row_size(periods));
    std::vector<std::vector<A>> coefficients;
    for (const auto& term : terms) coefficients.push_back(phases(term, most));
    Under<T, A> under;
    for (int64_t item = begin; item < end; ++item) {
      const int64_t oy = item % a.out_h;
      const T* image = static_cast<const T*>(a.x) + item / a.out_h * a.xn;
      T* y = static_cast<T*>(a.y) + item / a.out_h * a.yn + oy * a.yh;
      for (int64_t j = 0; j < all; j += periods) {
        const int64_t count = std::min(periods, all - j), from = j * axis.period * channels;
        const int64_t low = *least + axis.stride * j, high = *last + axis.stride * (j + count - 1) + most;
        const int64_t inside = std::clamp<int64_t>(low, 0, a.in_w), after = std::clamp<int64_t>(high, inside, a.in_w);
        A* out = row.data();
        if constexpr (std::is_same_v<T, A>) out = streams ? out : y + from;
        for (size_t k = 0; k < terms.size(); ++k) {
          under.collect(a, y_axis, terms[k], image + inside * channels, oy);
          A* middle = samples.data() + (inside - low) * channels;
          std::fill(samples.data(), middle, A(0));
          mix(under.rows.data(), under.c.data(), int64_t(under.c.size()), middle, (after - inside) * channels, false);
          std::fill(middle + (after - inside) * channels, samples.data() + (high - low) * channels, A(0));
          filter_channels(samples.data(), low - axis.stride * j, coefficients[k].data(), most, out, j, count, k > 0);
        }
        finish_row(out, converted.data(), y + from, std::min(row_size(count), a.out_w * channels - from));
      }
    }
    stream_end();
  }

  int64_t row_size(int64_t periods) const { return periods * x_axis.period * a.channels; }

  // Outputs of `count` periods from the j-th on; `samples` begins at column `low` + stride * j.
  void filter_channels(
      const A* samples, int64_t low, const A* c, int64_t most, A* out, int64_t j, int64_t count, bool add) const {
    const Axis& axis = x_axis;
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
    const int64_t length = one_run ? pixels * channels : channels;
    for (int64_t i = 0; i < (one_run ? 1 : pixels); ++i) {
      const A* const rows[4] = {in, in + channels, in + 2 * channels, in + 3 * channels};
      mix<n>(rows, c, out, length, add);
      in += from_step, out += to_step;
    }
  }
};

template <class T>
void run(const Upfirdn2dArgs& a, ParallelFor parallel_for) {
  Job<T> job{a};
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
  if (a.batch * a.channels == 0) return;
  with_dtype(a.dtype, [&](auto type) { run<typename decltype(type)::type>(a, parallel_for); });
}

}  // namespace cuda_ops
