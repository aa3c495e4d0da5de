//! What the engine asks of a device: memory, copies, launches of our kernels, matrix products.
//!
//! There are two: [`Gpu`](super::gpu::Gpu), and in the tests an emulation that compiles the same kernels for the CPU. All
//! the rest of the engine, every line of host code and of the kernels, is the same for both.
//!
//! Everything goes through one stream: operations happen in the order in which they were asked for, and only
//! [`Device::download`] and [`Device::synchronize`] wait.

#![expect(
    unsafe_code,
    reason = "device memory is filled from and read into slices of plain numbers as bytes"
)]

use std::ffi::c_void;
use std::fmt::Debug;
use std::marker::PhantomData;
use std::ops::Range;
use std::sync::Arc;

use half::bf16;

use super::Error;

/// A device and its one stream.
pub(crate) trait Device: Debug + Send + Sync {
    /// Memory of at least this many bytes, its start a multiple of 16.
    fn allocate(&self, bytes: usize) -> Result<u64, Error>;
    /// Gives back what [`Device::allocate`] gave for as many bytes.
    fn free(&self, address: u64, bytes: usize);
    /// Copies to the device. The source may change as soon as this returns.
    fn upload(&self, target: u64, source: &[u8]) -> Result<(), Error>;
    /// Waits for all that was asked for, and copies from the device.
    fn download(&self, source: u64, target: &mut [u8]) -> Result<(), Error>;
    /// Fills with zero bytes.
    fn zero(&self, address: u64, bytes: usize) -> Result<(), Error>;
    /// Starts a kernel.
    fn launch(&self, launch: &Launch) -> Result<(), Error>;
    /// Starts a matrix product.
    fn gemm(&self, gemm: &Gemm) -> Result<(), Error>;
    /// Waits for all that was asked for, and reports what failed meanwhile.
    fn synchronize(&self) -> Result<(), Error>;
    /// Notes the launches and products that `body` asks for instead of doing them.
    fn record(&self, body: &mut dyn FnMut() -> Result<(), Error>) -> Result<Recording, Error>;
    /// Does what was recorded.
    fn replay(&self, recording: Recording) -> Result<(), Error>;
    /// Gives back what a recording holds. It is not replayed again.
    fn forget(&self, recording: Recording);
    /// Bytes that can be allocated, and all there are.
    fn memory(&self) -> Result<(usize, usize), Error>;
    /// Name and kind, for people.
    fn description(&self) -> String;
}

/// A list of launches that a device keeps: a CUDA graph, by its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Recording(pub(crate) usize);

/// A kernel with its grid and arguments.
#[derive(Debug)]
pub(crate) struct Launch<'a> {
    /// One of [`KERNELS`](super::kernels::KERNELS).
    pub(crate) kernel: &'static str,
    /// Blocks.
    pub(crate) grid: [usize; 3],
    /// Threads a block, a multiple of 32.
    pub(crate) threads: usize,
    /// Bytes of dynamic shared memory.
    pub(crate) shared: usize,
    /// In the order of the kernel's parameters, and of their types.
    pub(crate) arguments: &'a [Argument],
}

/// An argument of a kernel.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Argument {
    /// Any pointer.
    Address(u64),
    /// `int`
    Int(i32),
    /// `long long`
    Long(i64),
    /// `float`
    Float(f32),
}

impl Argument {
    /// Where the value lies.
    pub(crate) fn pointer(&self) -> *mut c_void {
        let pointer: *const c_void = match self {
            Self::Address(value) => std::ptr::from_ref(value).cast(),
            Self::Int(value) => std::ptr::from_ref(value).cast(),
            Self::Long(value) => std::ptr::from_ref(value).cast(),
            Self::Float(value) => std::ptr::from_ref(value).cast(),
        };
        pointer.cast_mut()
    }
}

impl<T> From<Slice<T>> for Argument {
    fn from(slice: Slice<T>) -> Self {
        Self::Address(slice.address)
    }
}

impl<T> From<Option<Slice<T>>> for Argument {
    fn from(slice: Option<Slice<T>>) -> Self {
        Self::Address(slice.map_or(0, |slice| slice.address))
    }
}

impl From<usize> for Argument {
    fn from(value: usize) -> Self {
        Self::Int(i32::try_from(value).expect("sizes and counts of a batch fit 31 bits"))
    }
}

impl From<f32> for Argument {
    fn from(value: f32) -> Self {
        Self::Float(value)
    }
}

/// `C [m, n] = scale op(A) [m, k] op(B) [k, n]`, or added to C, in row-major order with f32 sums.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Gemm {
    pub(crate) a: Operand,
    pub(crate) b: Operand,
    /// Address of C.
    pub(crate) c: u64,
    /// What C is made of.
    pub(crate) c_type: Number,
    /// Elements from one row of C to the next.
    pub(crate) c_stride: usize,
    pub(crate) m: usize,
    pub(crate) n: usize,
    pub(crate) k: usize,
    pub(crate) scale: f32,
    /// Added to C instead of replacing it.
    pub(crate) add: bool,
}

/// A bf16 matrix in memory, and whether its transpose is meant.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Operand {
    pub(crate) address: u64,
    /// Elements from one row in memory to the next.
    pub(crate) stride: usize,
    pub(crate) transposed: bool,
}

/// What the elements of a matrix are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Number {
    Bf16,
    F32,
}

/// Plain numbers that host and device store alike.
///
/// # Safety
/// Every bit pattern is a value, and there is no padding.
pub(crate) unsafe trait Element: Copy + Default + Debug {}
// SAFETY: all of these are integers or floats of 2 or 4 bytes, or arrays of them.
unsafe impl Element for f32 {}
// SAFETY: as above.
unsafe impl Element for u32 {}
// SAFETY: as above.
unsafe impl Element for bf16 {}
// SAFETY: as above.
unsafe impl Element for [u32; 4] {}
// SAFETY: as above.
unsafe impl Element for [i32; 4] {}

/// Elements that a matrix product can write.
pub(crate) trait Product: Element {
    const NUMBER: Number;
}
impl Product for f32 {
    const NUMBER: Number = Number::F32;
}
impl Product for bf16 {
    const NUMBER: Number = Number::Bf16;
}

/// A part of a [`Buffer`]: an address and a length. Like the device's own pointers it says nothing of who else holds it; the
/// stream's order is what keeps readers behind writers.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Slice<T> {
    pub(crate) address: u64,
    pub(crate) len: usize,
    element: PhantomData<T>,
}

impl<T> Clone for Slice<T> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<T> Copy for Slice<T> {}

impl Slice<f32> {
    /// The same memory as twice as many numbers of half the size.
    pub(crate) fn as_bf16(self) -> Slice<bf16> {
        Slice { address: self.address, len: 2 * self.len, element: PhantomData }
    }
}

impl<T> Slice<T> {
    /// A part of it.
    pub(crate) fn part(self, range: Range<usize>) -> Self {
        assert!(range.start <= range.end && range.end <= self.len, "{range:?} of {} elements", self.len);
        let address = self.address + (range.start * size_of::<T>()) as u64;
        Self { address, len: range.len(), element: PhantomData }
    }
}

/// Memory of a device, given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Buffer<T: Element> {
    device: Arc<dyn Device>,
    address: u64,
    len: usize,
    element: PhantomData<T>,
}

impl<T: Element> Buffer<T> {
    /// A buffer of nothing.
    pub(crate) fn empty(device: &Arc<dyn Device>) -> Self {
        Self { device: device.clone(), address: 0, len: 0, element: PhantomData }
    }

    /// A buffer whose content is whatever was there.
    pub(crate) fn new(device: &Arc<dyn Device>, len: usize) -> Result<Self, Error> {
        let mut buffer = Self::empty(device);
        buffer.grow(len)?;
        Ok(buffer)
    }

    /// A buffer of zeros.
    pub(crate) fn zeros(device: &Arc<dyn Device>, len: usize) -> Result<Self, Error> {
        let buffer = Self::new(device, len)?;
        buffer.zero()?;
        Ok(buffer)
    }

    /// A copy of host memory.
    pub(crate) fn from_host(device: &Arc<dyn Device>, values: &[T]) -> Result<Self, Error> {
        let mut buffer = Self::empty(device);
        buffer.set(values)?;
        Ok(buffer)
    }

    /// Makes room for at least `len` elements; the content is lost if it has to move.
    pub(crate) fn grow(&mut self, len: usize) -> Result<(), Error> {
        if len > self.len {
            self.release();
            self.address = self.device.allocate(len * size_of::<T>())?;
            self.len = len;
        }
        Ok(())
    }

    fn release(&mut self) {
        if self.len > 0 {
            self.device.free(self.address, self.len * size_of::<T>());
            self.len = 0;
        }
    }

    /// Makes room for and copies host memory to the start.
    pub(crate) fn set(&mut self, values: &[T]) -> Result<(), Error> {
        self.grow(values.len())?;
        self.upload(0, values)
    }

    /// Copies host memory to some place of it.
    pub(crate) fn upload(&self, start: usize, values: &[T]) -> Result<(), Error> {
        let target = self.slice(start..start + values.len());
        if values.is_empty() { Ok(()) } else { self.device.upload(target.address, bytes_of(values)) }
    }

    /// The first `len` elements.
    pub(crate) fn to_host(&self, len: usize) -> Result<Vec<T>, Error> {
        let mut values = vec![T::default(); len];
        let source = self.slice(0..len);
        if len > 0 {
            self.device.download(source.address, bytes_of_mut(&mut values))?;
        }
        Ok(values)
    }

    pub(crate) fn zero(&self) -> Result<(), Error> {
        if self.len == 0 { Ok(()) } else { self.device.zero(self.address, self.len * size_of::<T>()) }
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// A part of it.
    pub(crate) fn slice(&self, range: Range<usize>) -> Slice<T> {
        Slice { address: self.address, len: self.len, element: PhantomData }.part(range)
    }

    /// The first `len` elements.
    pub(crate) fn first(&self, len: usize) -> Slice<T> {
        self.slice(0..len)
    }
}

impl<T: Element> Drop for Buffer<T> {
    fn drop(&mut self) {
        self.release();
    }
}

fn bytes_of<T: Element>(values: &[T]) -> &[u8] {
    // SAFETY: `Element` promises that there is no padding, so all these bytes are initialised; the lifetime is the slice's.
    unsafe { std::slice::from_raw_parts(values.as_ptr().cast(), size_of_val(values)) }
}

fn bytes_of_mut<T: Element>(values: &mut [T]) -> &mut [u8] {
    // SAFETY: as in `bytes_of`, and `Element` promises that whatever bytes are written are values.
    unsafe { std::slice::from_raw_parts_mut(values.as_mut_ptr().cast(), size_of_val(values)) }
}
