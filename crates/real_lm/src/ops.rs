//! The operations a decoder is made of, on slices: matrix products, normalisation, activation, and the row kernels under them.
//!
//! Every operation cuts its work into pieces whose size does not depend on the number of threads, and each sum is taken by one
//! thread in a fixed order: the bits of a result are the same on one core and on sixty-four.

pub(crate) mod blocks;
pub(crate) mod few_rows;
pub(crate) mod matmul;
pub(crate) mod norm;
pub(crate) mod rope;
pub(crate) mod simd;
pub(crate) mod swiglu;
