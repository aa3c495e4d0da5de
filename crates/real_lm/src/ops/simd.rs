//! Row kernels: sums, dot products and exponentials, written so that the compiler vectorises them.
//!
//! [`kernel!`] compiles a function twice, once for AVX2 with FMA, and chooses at run time; elsewhere (aarch64, older x86) the
//! portable version is all there is. Both do the same operations in the same order, fused multiply-add included, so they
//! agree to the bit.

#![expect(
    clippy::inline_always,
    reason = "the row functions must take on the target features of the kernel that calls them"
)]

/// Defines functions whose bodies are compiled for AVX2 with FMA beside the target's default, chosen at run time.
macro_rules! kernel {
    ($($(#[$meta:meta])* $vis:vis fn $name:ident($($arg:ident: $ty:ty),* $(,)?) $(-> $out:ty)? $body:block)+) => {$(
        $(#[$meta])*
        $vis fn $name($($arg: $ty),*) $(-> $out)? {
            #[inline(always)]
            fn body($($arg: $ty),*) $(-> $out)? $body

            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx2,fma")]
                fn wide($($arg: $ty),*) $(-> $out)? {
                    body($($arg),*)
                }
                if $crate::ops::simd::has_avx2() {
                    // SAFETY: `has_avx2` has just found both features on this CPU.
                    #[allow(unsafe_code)]
                    return unsafe { wide($($arg),*) };
                }
            }
            body($($arg),*)
        }
    )+};
}
pub(crate) use kernel;

/// Whether this CPU has AVX2 and FMA.
#[cfg(target_arch = "x86_64")]
pub(crate) fn has_avx2() -> bool {
    std::arch::is_x86_feature_detected!("avx2") && std::arch::is_x86_feature_detected!("fma")
}

/// Partial sums kept at once: four vectors of eight hide the latency of an addition.
const LANES: usize = 32;

/// `e^x` to within 2 units in the last place; arguments are clamped to [-87, 88], where the result is a normal number.
///
/// With n = round(x log2 e) and r = x - n ln 2 in [-0.35, 0.35], e^x = 2^n e^r: a polynomial gives e^r, the exponent bits 2^n.
#[inline(always)]
pub(crate) fn exp(x: f32) -> f32 {
    // Adding and subtracting 1.5 · 2^23 rounds to the nearest integer, which then lies in the low bits.
    const ROUND: f32 = 12_582_912.0;
    let x = x.clamp(-87.0, 88.0);
    let shifted = x.mul_add(std::f32::consts::LOG2_E, ROUND);
    let n = shifted - ROUND;
    // ln 2 in two parts, the first with few enough bits that n times it is exact.
    let r = n.mul_add(-0.693_145_75, x);
    let r = n.mul_add(-1.428_606_8e-6, r);
    let mut p = 1.0 / 5040.0f32;
    p = p.mul_add(r, 1.0 / 720.0);
    p = p.mul_add(r, 1.0 / 120.0);
    p = p.mul_add(r, 1.0 / 24.0);
    p = p.mul_add(r, 1.0 / 6.0);
    p = p.mul_add(r, 0.5);
    p = p.mul_add(r, 1.0);
    p = p.mul_add(r, 1.0);
    let exponent = shifted.to_bits().wrapping_sub(ROUND.to_bits()).wrapping_add(127) << 23;
    p * f32::from_bits(exponent)
}

/// `1 / (1 + e^-x)`
#[inline(always)]
pub(crate) fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

/// Sum of `f` over a row.
#[inline(always)]
pub(crate) fn sum_of(row: &[f32], f: impl Fn(f32) -> f32) -> f32 {
    let (chunks, rest) = row.as_chunks::<LANES>();
    let mut partial = [0.0f32; LANES];
    for chunk in chunks {
        for (p, &x) in partial.iter_mut().zip(chunk) {
            *p += f(x);
        }
    }
    let tail: f32 = rest.iter().map(|&x| f(x)).sum();
    fold(partial) + tail
}

/// Dot product.
#[inline(always)]
pub(crate) fn dot(a: &[f32], b: &[f32]) -> f32 {
    let ((a, a_rest), (b, b_rest)) = (a.as_chunks::<LANES>(), b.as_chunks::<LANES>());
    let mut partial = [0.0f32; LANES];
    for (a, b) in a.iter().zip(b) {
        for ((p, &x), &y) in partial.iter_mut().zip(a).zip(b) {
            *p = x.mul_add(y, *p);
        }
    }
    let tail: f32 = a_rest.iter().zip(b_rest).map(|(x, y)| x * y).sum();
    fold(partial) + tail
}

/// Sum of the partial sums, by halves.
#[inline(always)]
fn fold(mut partial: [f32; LANES]) -> f32 {
    let mut half = LANES / 2;
    while half > 0 {
        let (low, high) = partial.split_at_mut(half);
        for (a, b) in low.iter_mut().zip(high) {
            *a += *b;
        }
        half /= 2;
    }
    partial[0]
}

/// Largest element; minus infinity for an empty row.
#[inline(always)]
pub(crate) fn max(row: &[f32]) -> f32 {
    let (chunks, rest) = row.as_chunks::<LANES>();
    let mut partial = [f32::NEG_INFINITY; LANES];
    for chunk in chunks {
        for (p, &x) in partial.iter_mut().zip(chunk) {
            *p = if x > *p { x } else { *p };
        }
    }
    rest.iter().chain(&partial).fold(f32::NEG_INFINITY, |a, &b| a.max(b))
}

kernel! {
    /// `y += x`
    pub(crate) fn add(y: &mut [f32], x: &[f32]) {
        for (y, x) in y.iter_mut().zip(x) {
            *y += x;
        }
    }

    /// `y += a x`
    pub(crate) fn axpy(y: &mut [f32], a: f32, x: &[f32]) {
        for (y, x) in y.iter_mut().zip(x) {
            *y = a.mul_add(*x, *y);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    kernel! {
        fn exp_row(x: &mut [f32]) {
            for x in x {
                *x = exp(*x);
            }
        }

        fn reduce(a: &[f32], b: &[f32]) -> (f32, f32, f32) {
            (sum_of(a, |x| x * x), dot(a, b), max(a))
        }
    }

    #[test]
    fn exp_is_accurate_over_its_range() {
        let xs: Vec<f32> = (-86_000..88_000).map(|i| i as f32 * 1e-3 + 3e-4).collect();
        let mut ys = xs.clone();
        exp_row(&mut ys);
        for (x, y) in xs.iter().zip(&ys) {
            let exact = f64::from(*x).exp();
            assert!((f64::from(*y) / exact - 1.0).abs() < 2.5e-7, "exp({x}) = {y}, not {exact}");
        }
        assert_eq!(exp(0.0).to_bits(), 1.0f32.to_bits());
        assert!(exp(-1e30) < 2e-38 && exp(1e30).is_finite());
    }

    #[test]
    fn reductions_agree_with_f64_at_every_length() {
        for len in 0..150 {
            let a: Vec<f32> = (0..len).map(|i| ((i * 37 % 101) as f32 - 50.0) / 25.0).collect();
            let b: Vec<f32> = (0..len).map(|i| ((i * 53 % 97) as f32 - 48.0) / 31.0).collect();
            let square: f64 = a.iter().map(|&x| f64::from(x) * f64::from(x)).sum();
            let product: f64 = a.iter().zip(&b).map(|(&x, &y)| f64::from(x) * f64::from(y)).sum();
            let (s, d, m) = reduce(&a, &b);
            assert!((f64::from(s) - square).abs() < 1e-4 && (f64::from(d) - product).abs() < 1e-4, "{len}");
            assert!(a.iter().all(|&x| x <= m) && (len == 0 || a.contains(&m)));
        }
    }
}
