// The rule of bias_act for one element, shared by every backend. Adding an activation: docs/ops.md.
#pragma once
#include "portable.h"

namespace cuda_ops {

enum Activation : int32_t {
  kLinear = 1, kRelu, kLrelu, kTanh, kSigmoid, kElu, kSelu, kSoftplus, kSwish
};

template <class A>
struct BiasActParams {
  A alpha, gain, inverse_gain;
  A clamp;  // NaN compares false with everything: no limit
};

// act(x)
template <int act, class A>
CUDA_OPS_FN A activate(A x, A alpha) {
  constexpr A selu_scale = A(1.0507009873554804934), selu_alpha = A(1.6732632423543772848);
  if constexpr (act == kRelu) return x < 0 ? A(0) : x;
  if constexpr (act == kLrelu) return x < 0 ? x * alpha : x;
  if constexpr (act == kTanh) return tanh_of(x);
  if constexpr (act == kSigmoid) return 1 / (1 + exp_of(-x));
  if constexpr (act == kElu) return x < 0 ? expm1_of(x < 0 ? x : A(0)) : x;
  if constexpr (act == kSelu) return selu_scale * (x < 0 ? selu_alpha * expm1_of(x < 0 ? x : A(0)) : x);
  if constexpr (act == kSoftplus) return (x < 0 ? A(0) : x) + log1p_of(exp_of(x < 0 ? x : -x));
  if constexpr (act == kSwish) return x / (1 + exp_of(-x));
  return x;
}

// act'(x) from u = act(x), or from u = x for swish.
template <int act, class A>
CUDA_OPS_FN A slope(A u, A alpha) {
  constexpr A selu_scale = A(1.0507009873554804934), selu_alpha = A(1.6732632423543772848);
  if constexpr (act == kRelu) return u > 0 ? A(1) : A(0);
  if constexpr (act == kLrelu) return u > 0 ? A(1) : alpha;
  if constexpr (act == kTanh) return 1 - u * u;
  if constexpr (act == kSigmoid) return u * (1 - u);
  if constexpr (act == kElu) return u < 0 ? u + 1 : A(1);
  if constexpr (act == kSelu) return u < 0 ? u + selu_scale * selu_alpha : selu_scale;
  if constexpr (act == kSoftplus) return -expm1_of(-u);
  if constexpr (act == kSwish) {
    const A sigma = 1 / (1 + exp_of(-u));
    return sigma * (1 + u * (1 - sigma));
  }
  return A(1);
}

// Derivative of slope() in u.
template <int act, class A>
CUDA_OPS_FN A curvature(A u) {
  if constexpr (act == kTanh) return -2 * u;
  if constexpr (act == kSigmoid) return 1 - 2 * u;
  if constexpr (act == kElu || act == kSelu) return u < 0 ? A(1) : A(0);
  if constexpr (act == kSoftplus) return exp_of(-u);
  if constexpr (act == kSwish) {
    const A sigma = 1 / (1 + exp_of(-u));
    return sigma * (1 - sigma) * (2 + u * (1 - 2 * sigma));
  }
  return A(0);
}

// The limit as a clipped result has it: rounded to T. Swish saves x, and its result is computed anew, unrounded.
template <class T, int act, int order>
CUDA_OPS_FN BiasActParams<Acc<T>> as_saved(BiasActParams<Acc<T>> p) {
  if constexpr (order >= 1 && act != kSwish) {
    T limit;
    store(limit, p.clamp);
    p.clamp = load(limit);
  }
  return p;
}

// One element of BiasActArgs (api.h), with the limit of as_saved(). With y = gain u saved, d(gain slope)/dy has no gain left.
template <int act, int order, class A>
CUDA_OPS_FN A bias_act_rule(A s, A b, A dy, A ddx, const BiasActParams<A>& p) {
  if constexpr (order == 0) {
    const A y = p.gain * activate<act>(s + b, p.alpha);
    return y > p.clamp ? p.clamp : y < -p.clamp ? -p.clamp : y;
  } else {
    const A u = act == kSwish ? s + b : s * p.inverse_gain;
    const A y = act == kSwish ? p.gain * activate<act>(u, p.alpha) : s;
    const bool flat = y >= p.clamp || y <= -p.clamp;
    const A rate = order == 1 ? p.gain * slope<act>(u, p.alpha) * dy
                              : (act == kSwish ? p.gain : A(1)) * curvature<act>(u) * dy * ddx;
    return flat ? A(0) : rate;
  }
}

}  // namespace cuda_ops
