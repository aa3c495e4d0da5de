//! A CUDA device: the driver's interface, our kernels, and the products of cuBLAS, on one stream.

#![expect(unsafe_code, reason = "calls of C libraries")]

use std::collections::HashMap;
use std::ffi::{CString, c_char, c_int, c_uint, c_void};
use std::ptr::{null, null_mut};
use std::sync::{Mutex, PoisonError};

use super::Error;
use super::device::{Device, Gemm, Launch, Number, Recording};
use super::kernels::{KERNELS, source};
use super::libraries::{Cublas, Driver, Nvrtc, text};
use super::nvrtc;

/// Memory that cuBLAS may use for partial sums. Given once, so that no product allocates: a recorded one must not.
const CUBLAS_WORKSPACE: usize = 32 << 20;

/// More shared memory than 48 KB a kernel gets only after asking. Some of it is static: a few KB at most.
const COMMON_SHARED: usize = 40 << 10;

// Numbers of the driver's and cuBLAS's enumerations, as in `cuda.h`, `library_types.h` and `cublas_api.h`.
const CUDA_ERROR_OUT_OF_MEMORY: c_int = 2;
const STREAM_NON_BLOCKING: c_uint = 1;
const CAPTURE_MODE_RELAXED: c_int = 2;
const ATTRIBUTE_MAJOR: c_int = 75;
const ATTRIBUTE_MINOR: c_int = 76;
const ATTRIBUTE_MULTIPROCESSORS: c_int = 16;
const ATTRIBUTE_SHARED_PER_BLOCK_OPTIN: c_int = 97;
const FUNCTION_MAX_DYNAMIC_SHARED: c_int = 8;
const CUDA_R_32F: c_int = 0;
const CUDA_R_16BF: c_int = 14;
const CUBLAS_COMPUTE_32F: c_int = 68;
const CUBLAS_GEMM_DEFAULT: c_int = -1;

/// A CUDA device.
#[derive(Debug)]
pub(crate) struct Gpu {
    driver: Driver,
    cublas: Cublas,
    name: String,
    context: Handle,
    stream: Handle,
    kernels: HashMap<&'static str, Handle>,
    shared_limit: usize,
    /// Products are started one at a time: the handle has a state.
    product: Mutex<Handle>,
    /// By the number of the recording; nothing where it was forgotten.
    graphs: Mutex<Vec<Option<Handle>>>,
}

/// A pointer to something that the driver or a library owns.
#[derive(Debug, Clone, Copy)]
struct Handle(*mut c_void);
// SAFETY: the driver lets any thread use its contexts, streams, functions and graphs, and the handle of cuBLAS is used by
// one thread at a time, behind a lock. All live until the process ends.
unsafe impl Send for Handle {}
// SAFETY: as above.
unsafe impl Sync for Handle {}

impl Gpu {
    /// Finds and prepares a device, by its number.
    pub(crate) fn open(ordinal: usize) -> Result<Self, Error> {
        let (driver, nvrtc, cublas) = (Driver::load()?, Nvrtc::load()?, Cublas::load()?);
        Self::with(driver, cublas, ordinal, |architecture| {
            nvrtc::cubin(&nvrtc, &source(), architecture, nvrtc::cache_folder())
        })
    }

    /// The same with libraries that are loaded already, and with a compiler of our kernels for an architecture.
    pub(super) fn with(
        driver: Driver,
        cublas: Cublas,
        ordinal: usize,
        compile: impl Fn(&str) -> Result<Vec<u8>, Error>,
    ) -> Result<Self, Error> {
        let mut count = 0;
        // SAFETY: the driver's documented calls, in the documented order, each with places of the right type.
        unsafe {
            check(&driver, "cuInit", (driver.cuInit)(0))?;
            check(&driver, "cuDeviceGetCount", (driver.cuDeviceGetCount)(&raw mut count))?;
            if ordinal >= count as usize {
                return Err(Error::NoDevice(format!("number {ordinal} of {count} devices was asked for")));
            }
            let mut device = 0;
            check(&driver, "cuDeviceGet", (driver.cuDeviceGet)(&raw mut device, ordinal as c_int))?;
            let attribute = |which| attribute(&driver, device, which);
            let (major, minor) = (attribute(ATTRIBUTE_MAJOR)?, attribute(ATTRIBUTE_MINOR)?);
            if major < 8 {
                return Err(Error::NoDevice(format!(
                    "compute capability {major}.{minor}; bf16 needs 8.0 or later"
                )));
            }
            let (mut context, mut stream) = (null_mut(), null_mut());
            let status = (driver.cuDevicePrimaryCtxRetain)(&raw mut context, device);
            check(&driver, "cuDevicePrimaryCtxRetain", status)?;
            check(&driver, "cuCtxSetCurrent", (driver.cuCtxSetCurrent)(context))?;
            let status = (driver.cuStreamCreate)(&raw mut stream, STREAM_NON_BLOCKING);
            check(&driver, "cuStreamCreate", status)?;
            let shared_limit = attribute(ATTRIBUTE_SHARED_PER_BLOCK_OPTIN)? as usize;
            let code = compile(&format!("sm_{major}{minor}"))?;
            let kernels = load_kernels(&driver, &code)?;
            let product = prepare_products(&driver, &cublas, stream)?;
            let name = format!(
                "{}, compute capability {major}.{minor}, {} multiprocessors",
                device_name(&driver, device)?,
                attribute(ATTRIBUTE_MULTIPROCESSORS)?
            );
            Ok(Self {
                driver,
                cublas,
                name,
                context: Handle(context),
                stream: Handle(stream),
                kernels,
                shared_limit,
                product: Mutex::new(Handle(product)),
                graphs: Mutex::new(Vec::new()),
            })
        }
    }

    /// Makes the context that of the calling thread, which may be another one than the last time.
    fn enter(&self) -> Result<(), Error> {
        // SAFETY: the context was retained in `open` and is never released.
        self.check("cuCtxSetCurrent", unsafe { (self.driver.cuCtxSetCurrent)(self.context.0) })
    }

    fn check(&self, call: &'static str, status: c_int) -> Result<(), Error> {
        check(&self.driver, call, status)
    }
}

impl Device for Gpu {
    fn allocate(&self, bytes: usize) -> Result<u64, Error> {
        self.enter()?;
        let mut address = 0;
        // SAFETY: a place for an address.
        let status = unsafe { (self.driver.cuMemAlloc_v2)(&raw mut address, bytes) };
        if status == CUDA_ERROR_OUT_OF_MEMORY {
            let (free, total) = self.memory()?;
            let gigabytes = |bytes: usize| bytes as f64 / 1e9;
            return Err(Error::OutOfMemory(format!(
                "{:.2} GB more are needed and {:.2} of {:.2} GB are free; fewer tokens a micro-batch, fewer sequences \
                 decoded at once or shorter ones need less",
                gigabytes(bytes),
                gigabytes(free),
                gigabytes(total)
            )));
        }
        self.check("cuMemAlloc", status)?;
        Ok(address)
    }

    fn free(&self, address: u64, _bytes: usize) {
        if self.enter().is_ok() {
            // SAFETY: the address is of `allocate`, and the call waits for what still uses the memory. A failure here is one
            // of an earlier launch, which the next call reports.
            unsafe { (self.driver.cuMemFree_v2)(address) };
        }
    }

    fn upload(&self, target: u64, source: &[u8]) -> Result<(), Error> {
        self.enter()?;
        let (from, bytes) = (source.as_ptr().cast(), source.len());
        // SAFETY: `Buffer` keeps the target in bounds. Pageable memory is copied aside before the call returns.
        let status = unsafe { (self.driver.cuMemcpyHtoDAsync_v2)(target, from, bytes, self.stream.0) };
        self.check("cuMemcpyHtoDAsync", status)
    }

    fn download(&self, source: u64, target: &mut [u8]) -> Result<(), Error> {
        self.enter()?;
        let (to, bytes) = (target.as_mut_ptr().cast(), target.len());
        // SAFETY: `Buffer` keeps the source in bounds; the target lives until the stream has been waited for.
        let status = unsafe { (self.driver.cuMemcpyDtoHAsync_v2)(to, source, bytes, self.stream.0) };
        self.check("cuMemcpyDtoHAsync", status)?;
        self.synchronize()
    }

    fn zero(&self, address: u64, bytes: usize) -> Result<(), Error> {
        self.enter()?;
        // SAFETY: `Buffer` keeps it in bounds.
        let status = unsafe { (self.driver.cuMemsetD8Async)(address, 0, bytes, self.stream.0) };
        self.check("cuMemsetD8Async", status)
    }

    fn launch(&self, launch: &Launch) -> Result<(), Error> {
        self.enter()?;
        let function = self.kernels[launch.kernel].0;
        let [x, y, z] = launch.grid.map(|size| size as c_uint);
        let mut pointers: Vec<*mut c_void> =
            launch.arguments.iter().map(super::device::Argument::pointer).collect();
        let (threads, shared) = (launch.threads as c_uint, launch.shared as c_uint);
        assert!(
            launch.shared <= self.shared_limit,
            "{} needs {shared} bytes of shared memory",
            launch.kernel
        );
        // SAFETY: the arguments have the number and types of the kernel's parameters (each wrapper in `ops.rs` is tested
        // against the kernel), and are copied before the calls return.
        unsafe {
            if launch.shared > COMMON_SHARED {
                let status =
                    (self.driver.cuFuncSetAttribute)(function, FUNCTION_MAX_DYNAMIC_SHARED, shared as c_int);
                self.check("cuFuncSetAttribute", status)?;
            }
            let arguments = pointers.as_mut_ptr();
            let status = (self.driver.cuLaunchKernel)(
                function,
                x,
                y,
                z,
                threads,
                1,
                1,
                shared,
                self.stream.0,
                arguments,
                null_mut(),
            );
            self.check(launch.kernel, status)
        }
    }

    /// cuBLAS thinks in column-major order, where a row-major matrix is its transpose: it is asked for `C' = op(B)' op(A)'`.
    fn gemm(&self, gemm: &Gemm) -> Result<(), Error> {
        self.enter()?;
        let Gemm { a, b, .. } = gemm;
        let [m, n, k] = [gemm.m, gemm.n, gemm.k].map(|size| size as c_int);
        let [a_stride, b_stride, c_stride] =
            [a.stride, b.stride, gemm.c_stride].map(|stride| stride as c_int);
        let c_type = if gemm.c_type == Number::F32 { CUDA_R_32F } else { CUDA_R_16BF };
        let (alpha, beta) = (gemm.scale, if gemm.add { 1.0f32 } else { 0.0 });
        let (alpha, beta) = (std::ptr::from_ref(&alpha).cast(), std::ptr::from_ref(&beta).cast());
        let handle = self.product.lock().unwrap_or_else(PoisonError::into_inner);
        // SAFETY: the operands are in bounds (checked where the product is made), and the factors live during the call.
        let status = unsafe {
            (self.cublas.cublasGemmEx)(
                handle.0,
                c_int::from(b.transposed),
                c_int::from(a.transposed),
                n,
                m,
                k,
                alpha,
                b.address,
                CUDA_R_16BF,
                b_stride,
                a.address,
                CUDA_R_16BF,
                a_stride,
                beta,
                gemm.c,
                c_type,
                c_stride,
                CUBLAS_COMPUTE_32F,
                CUBLAS_GEMM_DEFAULT,
            )
        };
        check_cublas("cublasGemmEx", status)
    }

    fn synchronize(&self) -> Result<(), Error> {
        self.enter()?;
        // SAFETY: the stream lives as long as the device.
        self.check("cuStreamSynchronize", unsafe { (self.driver.cuStreamSynchronize)(self.stream.0) })
    }

    fn record(&self, body: &mut dyn FnMut() -> Result<(), Error>) -> Result<Recording, Error> {
        self.enter()?;
        let (mut graph, mut executable) = (null_mut(), null_mut());
        // SAFETY: the documented order of calls; the capture is ended whether or not the body succeeded.
        unsafe {
            let status = (self.driver.cuStreamBeginCapture_v2)(self.stream.0, CAPTURE_MODE_RELAXED);
            self.check("cuStreamBeginCapture", status)?;
            let recorded = body();
            let status = (self.driver.cuStreamEndCapture)(self.stream.0, &raw mut graph);
            recorded?;
            self.check("cuStreamEndCapture", status)?;
            let status = (self.driver.cuGraphInstantiateWithFlags)(&raw mut executable, graph, 0);
            (self.driver.cuGraphDestroy)(graph);
            self.check("cuGraphInstantiate", status)?;
        }
        let mut graphs = self.graphs.lock().unwrap_or_else(PoisonError::into_inner);
        graphs.push(Some(Handle(executable)));
        Ok(Recording(graphs.len() - 1))
    }

    fn replay(&self, recording: Recording) -> Result<(), Error> {
        self.enter()?;
        let graph = self.graphs.lock().unwrap_or_else(PoisonError::into_inner)[recording.0];
        let graph = graph.expect("a forgotten recording is not replayed");
        // SAFETY: the graph is destroyed only where it is forgotten.
        self.check("cuGraphLaunch", unsafe { (self.driver.cuGraphLaunch)(graph.0, self.stream.0) })
    }

    fn forget(&self, recording: Recording) {
        let graph = self.graphs.lock().unwrap_or_else(PoisonError::into_inner)[recording.0].take();
        if let Some(graph) = graph
            && self.synchronize().is_ok()
        {
            // SAFETY: nothing of it is under way any more, and nobody else has it.
            unsafe { (self.driver.cuGraphExecDestroy)(graph.0) };
        }
    }

    fn memory(&self) -> Result<(usize, usize), Error> {
        self.enter()?;
        let (mut free, mut total) = (0, 0);
        // SAFETY: two places for numbers.
        let status = unsafe { (self.driver.cuMemGetInfo_v2)(&raw mut free, &raw mut total) };
        self.check("cuMemGetInfo", status)?;
        Ok((free, total))
    }

    fn description(&self) -> String {
        self.name.clone()
    }
}

/// # Safety
/// The context is current.
unsafe fn load_kernels(driver: &Driver, code: &[u8]) -> Result<HashMap<&'static str, Handle>, Error> {
    let mut module = null_mut();
    // SAFETY: a cubin says its own length.
    check(driver, "cuModuleLoadData", unsafe {
        (driver.cuModuleLoadData)(&raw mut module, code.as_ptr().cast())
    })?;
    let mut kernels = HashMap::new();
    for name in KERNELS {
        let symbol = CString::new(name).expect("names have no zero bytes");
        let mut function = null_mut();
        // SAFETY: the module was just loaded and is never unloaded.
        let status = unsafe { (driver.cuModuleGetFunction)(&raw mut function, module, symbol.as_ptr()) };
        check(driver, name, status)?;
        kernels.insert(name, Handle(function));
    }
    Ok(kernels)
}

/// # Safety
/// The context is current and the stream is of it.
unsafe fn prepare_products(
    driver: &Driver,
    cublas: &Cublas,
    stream: *mut c_void,
) -> Result<*mut c_void, Error> {
    let (mut handle, mut workspace) = (null_mut(), 0);
    // SAFETY: places of the right types; the workspace is never freed. Setting the stream comes first, as it takes back the
    // workspace.
    unsafe {
        check_cublas("cublasCreate", (cublas.cublasCreate_v2)(&raw mut handle))?;
        check_cublas("cublasSetStream", (cublas.cublasSetStream_v2)(handle, stream))?;
        check(driver, "cuMemAlloc", (driver.cuMemAlloc_v2)(&raw mut workspace, CUBLAS_WORKSPACE))?;
        let status = (cublas.cublasSetWorkspace_v2)(handle, workspace, CUBLAS_WORKSPACE);
        check_cublas("cublasSetWorkspace", status)?;
    }
    Ok(handle)
}

/// # Safety
/// The device is one that the driver gave.
unsafe fn device_name(driver: &Driver, device: c_int) -> Result<String, Error> {
    let mut name = [0 as c_char; 256];
    // SAFETY: the length is that of the array, and the driver ends the string inside of it.
    unsafe {
        let status = (driver.cuDeviceGetName)(name.as_mut_ptr(), name.len() as c_int, device);
        check(driver, "cuDeviceGetName", status)?;
        Ok(text(name.as_ptr()))
    }
}

fn attribute(driver: &Driver, device: c_int, which: c_int) -> Result<c_int, Error> {
    let mut value = 0;
    // SAFETY: a place for a number. A device or attribute that does not exist is an error of the call.
    let status = unsafe { (driver.cuDeviceGetAttribute)(&raw mut value, which, device) };
    check(driver, "cuDeviceGetAttribute", status)?;
    Ok(value)
}

fn check(driver: &Driver, call: &'static str, status: c_int) -> Result<(), Error> {
    if status == 0 {
        return Ok(());
    }
    let mut name = null();
    // SAFETY: a place for a pointer to a static string; for unknown numbers it stays null.
    let why = unsafe {
        (driver.cuGetErrorName)(status, &raw mut name);
        text(name)
    };
    Err(Error::Call { call, why: if why.is_empty() { format!("error {status}") } else { why } })
}

fn check_cublas(call: &'static str, status: c_int) -> Result<(), Error> {
    let names = [
        (1, "not initialised"),
        (3, "allocation failed"),
        (7, "invalid value"),
        (8, "not for this architecture"),
        (11, "mapping error"),
        (13, "execution failed"),
        (14, "internal error"),
        (15, "not supported"),
    ];
    if status == 0 {
        return Ok(());
    }
    let known = names.iter().find(|(number, _)| *number == status);
    Err(Error::Call {
        call,
        why: known.map_or_else(|| format!("status {status}"), |(_, name)| (*name).to_owned()),
    })
}
