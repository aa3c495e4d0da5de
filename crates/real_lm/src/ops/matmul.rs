//! Matrix products `C = A B` and `C += A B` on row-major slices; all of the model's heavy work goes through here.
//!
//! The products themselves are those of the `gemm-f32` crate, which chooses its kernels at run time (AVX2, NEON, portable).
//! It splits the rows and columns of C among threads and never the sum over the inner dimension, so the bits of a product do
//! not depend on the number of threads; a test holds it to that.

use gemm_f32::gemm::f32::get_gemm_fn;

/// A borrowed matrix: element `(i, j)` is `data[i * row_stride + j * column_stride]`.
#[derive(Clone, Copy)]
pub(crate) struct Matrix<'a> {
    data: &'a [f32],
    rows: usize,
    columns: usize,
    row_stride: usize,
    column_stride: usize,
}

impl<'a> Matrix<'a> {
    /// The row-major matrix `[rows, columns]` that fills `data`.
    pub(crate) fn new(data: &'a [f32], rows: usize, columns: usize) -> Self {
        assert_eq!(data.len(), rows * columns, "a matrix fills its slice");
        Self { data, rows, columns, row_stride: columns, column_stride: 1 }
    }

    /// The transpose, without moving anything.
    pub(crate) fn t(self) -> Self {
        Self {
            rows: self.columns,
            columns: self.rows,
            row_stride: self.column_stride,
            column_stride: self.row_stride,
            ..self
        }
    }
}

/// What happens to the old content of C.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Into {
    /// `C = A B`
    Replace,
    /// `C += A B`
    Add,
}

/// How a product runs.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Threads {
    /// On the calling thread: the caller is already one task of many.
    One,
    /// On all threads of the pool.
    All,
}

/// `C = scale A B` or `C += scale A B`, with C row-major `[a.rows, b.columns]`.
pub(crate) fn matmul(c: &mut [f32], into: Into, scale: f32, a: Matrix, b: Matrix, threads: Threads) {
    assert_eq!(a.columns, b.rows, "inner dimensions agree");
    assert_eq!(c.len(), a.rows * b.columns, "C has the shape of the product");
    if c.is_empty() {
        return;
    }
    let parallelism = match threads {
        Threads::One => gemm_common::Parallelism::None,
        Threads::All => gemm_common::Parallelism::Rayon(0),
    };
    // The library wants C column-major, so it computes C' = B' A'.
    // SAFETY: a `Matrix` addresses only elements of its slice (its constructor checks the length, and the transpose keeps the
    // set of addresses); C was checked above, is contiguous and borrowed mutably, so it overlaps neither input.
    #[expect(unsafe_code, reason = "the library takes raw pointers")]
    unsafe {
        get_gemm_fn()(
            b.columns,
            a.rows,
            a.columns,
            c.as_mut_ptr(),
            b.columns as isize,
            1,
            into == Into::Add,
            b.data.as_ptr(),
            b.row_stride as isize,
            b.column_stride as isize,
            a.data.as_ptr(),
            a.row_stride as isize,
            a.column_stride as isize,
            1.0,
            scale,
            false,
            false,
            false,
            parallelism,
        );
    }
}
