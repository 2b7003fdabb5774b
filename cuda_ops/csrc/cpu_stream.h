// Writing results past the caches. A tensor larger than they are is gone from them before it is read again,
// and an ordinary store first reads the line that it will overwrite: a third of the traffic of these ops.
#pragma once
#include <cstdint>
#include <cstring>

#ifdef __AVX__
#include <immintrin.h>
#endif

namespace cuda_ops {

constexpr int64_t kStreamBytes = int64_t(8) << 20;

inline void stream_copy(void* to, const void* from, int64_t bytes) {
  auto* out = static_cast<char*>(to);
  const auto* in = static_cast<const char*>(from);
#ifdef __AVX__
  const int64_t before = int64_t(-reinterpret_cast<intptr_t>(out) & 31);
  if (bytes >= 256) {
    std::memcpy(out, in, before);
    int64_t i = before;
    for (; i + 32 <= bytes; i += 32)
      _mm256_stream_si256(
          reinterpret_cast<__m256i*>(out + i), _mm256_loadu_si256(reinterpret_cast<const __m256i*>(in + i)));
    std::memcpy(out + i, in + i, bytes - i);
    return;
  }
#endif
  std::memcpy(out, in, bytes);
}

inline void stream_end() {
#ifdef __AVX__
  _mm_sfence();
#endif
}

}  // namespace cuda_ops
