// One vocabulary for nvcc and for a C++ compiler: number types, conversions, elementary functions.
#pragma once
#include <cmath>
#include <cstdint>
#include <cstring>

#ifdef __CUDACC__
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>
#define CUDA_OPS_FN __device__ __forceinline__
#else
#define CUDA_OPS_FN inline
#endif

// With libmvec the loops over exp, log1p, ... become SIMD; the names and the least glibc are its own.
#if !defined(__CUDACC__) && defined(__x86_64__) && defined(__GLIBC__) && defined(__GNUC__) && !defined(__clang__)
#if __GLIBC_PREREQ(2, 35)
#define CUDA_OPS_LIBMVEC 1
extern "C" {
#define CUDA_OPS_SIMD(name)                                                              \
  _Pragma("omp declare simd notinbranch") extern float name##f(float) noexcept; \
  _Pragma("omp declare simd notinbranch") extern double name(double) noexcept;
CUDA_OPS_SIMD(exp)
CUDA_OPS_SIMD(expm1)
CUDA_OPS_SIMD(log1p)
CUDA_OPS_SIMD(tanh)
#undef CUDA_OPS_SIMD
}
#endif
#endif

namespace cuda_ops {

#ifdef __CUDACC__
using half_t = __half;
using bfloat16_t = __nv_bfloat16;
CUDA_OPS_FN float load(half_t v) { return __half2float(v); }
CUDA_OPS_FN float load(bfloat16_t v) { return __bfloat162float(v); }
CUDA_OPS_FN void store(half_t& to, float v) { to = __float2half_rn(v); }
CUDA_OPS_FN void store(bfloat16_t& to, float v) { to = __float2bfloat16_rn(v); }
#else
struct half_t {
  uint16_t bits;
};
struct bfloat16_t {
  uint16_t bits;
};

inline uint32_t bits_of(float v) {
  uint32_t u;
  std::memcpy(&u, &v, sizeof u);
  return u;
}
inline float float_of(uint32_t u) {
  float v;
  std::memcpy(&v, &u, sizeof v);
  return v;
}

inline float load(bfloat16_t v) { return float_of(uint32_t(v.bits) << 16); }
inline void store(bfloat16_t& to, float v) {
  const uint32_t u = bits_of(v), even = u + 0x7fff + ((u >> 16) & 1);
  to.bits = uint16_t((v != v ? u | 0x400000 : even) >> 16);
}

// IEEE binary16 by moving exponent and mantissa; multiplying by a power of two renormalises subnormals.
inline float load(half_t v) {
  const uint32_t magnitude = uint32_t(v.bits & 0x7fff) << 13, sign = uint32_t(v.bits & 0x8000) << 16;
  const float finite = float_of(magnitude) * 0x1p112f;
  return float_of((magnitude >= 0x0f800000 ? magnitude | 0x7f800000 : bits_of(finite)) | sign);
}
inline void store(half_t& to, float v) {
  const uint32_t u = bits_of(v), magnitude = u & 0x7fffffff;
  const uint32_t tiny = bits_of(float_of(magnitude) + 0.5f) - 0x3f000000;  // the sum rounds at 2^-24
  const uint32_t normal = (magnitude - 0x38000000 + 0xfff + ((magnitude >> 13) & 1)) >> 13;
  const uint32_t large = magnitude > 0x7f800000 ? 0x7e00 : 0x7c00;
  to.bits = uint16_t((magnitude >= 0x47800000 ? large : magnitude < 0x38800000 ? tiny : normal) | (u >> 16 & 0x8000));
}
#endif

CUDA_OPS_FN float load(float v) { return v; }
CUDA_OPS_FN double load(double v) { return v; }
CUDA_OPS_FN void store(float& to, float v) { to = v; }
CUDA_OPS_FN void store(double& to, double v) { to = v; }

// Sums are kept in float32, in float64 for float64 images.
template <class T>
struct Accumulator {
  using type = float;
};
template <>
struct Accumulator<double> {
  using type = double;
};
template <class T>
using Acc = typename Accumulator<T>::type;

CUDA_OPS_FN float exp_of(float v) { return expf(v); }
CUDA_OPS_FN double exp_of(double v) { return exp(v); }
CUDA_OPS_FN float expm1_of(float v) { return expm1f(v); }
CUDA_OPS_FN double expm1_of(double v) { return expm1(v); }
CUDA_OPS_FN float log1p_of(float v) { return log1pf(v); }
CUDA_OPS_FN double log1p_of(double v) { return log1p(v); }
CUDA_OPS_FN float tanh_of(float v) { return tanhf(v); }
CUDA_OPS_FN double tanh_of(double v) { return tanh(v); }

template <class T>
struct Type {
  using type = T;
};

// Calls body(Type<T>) with the element type of a dtype code of api.h.
template <class Body>
auto with_dtype(int32_t dtype, Body body) {
  switch (dtype) {
    case 1: return body(Type<double>{});
    case 2: return body(Type<half_t>{});
    case 3: return body(Type<bfloat16_t>{});
    default: return body(Type<float>{});
  }
}

}  // namespace cuda_ops
