//! A device for the tests: the same kernels, compiled by the system's C++ compiler and run by `emulator/emulator.h`.

#![expect(unsafe_code, reason = "the kernels are in a shared library that is made and loaded here")]

use std::ffi::{c_int, c_uint, c_void};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use libloading::Library;

use super::Error;
use super::device::{Argument, Device, Gemm, Launch, Number, Recording};
use super::kernels::{KERNELS, source};

/// The emulated device.
#[derive(Debug)]
pub(crate) struct Emulated {
    library: &'static Library,
    /// Whether the threads of a block run in descending order.
    descending: AtomicBool,
    allocated: AtomicUsize,
    recordings: Mutex<Recordings>,
}

#[derive(Debug, Default)]
struct Recordings {
    current: Option<Vec<Operation>>,
    done: Vec<Vec<Operation>>,
}

#[derive(Debug, Clone)]
enum Operation {
    Launch { kernel: &'static str, grid: [usize; 3], threads: usize, shared: usize, arguments: Vec<Argument> },
    Gemm(Gemm),
}

impl Emulated {
    /// The device, or nothing, said loudly, where there is no C++ compiler.
    pub(crate) fn open(test: &str) -> Option<Arc<Self>> {
        static LIBRARY: OnceLock<Option<Library>> = OnceLock::new();
        // SAFETY: the library has no initialisers that a load in a test could disturb.
        let load = |path| unsafe { Library::new(path) }.expect("what was compiled can be loaded");
        let library = LIBRARY.get_or_init(|| library(test).map(load)).as_ref()?;
        Some(Arc::new(Self {
            library,
            descending: AtomicBool::new(false),
            allocated: AtomicUsize::new(0),
            recordings: Mutex::default(),
        }))
    }

    /// From now on the threads of a block run from the last to the first.
    pub(crate) fn run_descending(&self) {
        self.descending.store(true, Ordering::Relaxed);
    }

    /// Bytes that are allocated now.
    pub(crate) fn allocated(&self) -> usize {
        self.allocated.load(Ordering::Relaxed)
    }

    fn recordings(&self) -> MutexGuard<'_, Recordings> {
        self.recordings.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts the operation on the list of a recording under way, or does it.
    fn submit(&self, operation: Operation) {
        let mut recordings = self.recordings();
        if let Some(list) = &mut recordings.current {
            list.push(operation);
        } else {
            drop(recordings);
            self.run(&operation);
        }
    }

    fn run(&self, operation: &Operation) {
        match operation {
            Operation::Launch { kernel, grid, threads, shared, arguments } => {
                type Kernel = unsafe extern "C" fn(*mut *mut c_void);
                let launch = self.function::<unsafe extern "C" fn(
                    Kernel,
                    *const c_uint,
                    c_uint,
                    c_uint,
                    *mut *mut c_void,
                    c_int,
                )>("emulator_launch");
                let kernel = self.function::<Kernel>(&format!("run_{kernel}"));
                let grid = grid.map(|size| size as c_uint);
                let mut pointers: Vec<_> = arguments.iter().map(Argument::pointer).collect();
                let descending = c_int::from(self.descending.load(Ordering::Relaxed));
                // SAFETY: the arguments are those of the kernel; what is out of bounds hits a guard page.
                unsafe {
                    launch(
                        kernel,
                        grid.as_ptr(),
                        *threads as c_uint,
                        *shared as c_uint,
                        pointers.as_mut_ptr(),
                        descending,
                    );
                }
            }
            Operation::Gemm(gemm) => {
                let product = self
                    .function::<unsafe extern "C" fn(u64, u64, u64, *const i64, *const c_int, f32, f32)>(
                        "emulator_gemm",
                    );
                let sizes =
                    [gemm.m, gemm.n, gemm.k, gemm.a.stride, gemm.b.stride, gemm.c_stride].map(|n| n as i64);
                let flags =
                    [gemm.a.transposed, gemm.b.transposed, gemm.c_type == Number::F32].map(c_int::from);
                let beta = if gemm.add { 1.0 } else { 0.0 };
                let (a, b, c) = (gemm.a.address, gemm.b.address, gemm.c);
                // SAFETY: as above.
                unsafe { product(a, b, c, sizes.as_ptr(), flags.as_ptr(), gemm.scale, beta) };
            }
        }
    }

    fn function<F: Copy>(&self, name: &str) -> F {
        // SAFETY: the callers name types that `emulator.h` defines.
        *unsafe { self.library.get::<F>(name.as_bytes()) }.expect("the emulator defines it")
    }
}

impl Device for Emulated {
    fn allocate(&self, bytes: usize) -> Result<u64, Error> {
        self.allocated.fetch_add(bytes, Ordering::Relaxed);
        // SAFETY: the type is that of `emulator.h`.
        Ok(unsafe { self.function::<unsafe extern "C" fn(usize) -> u64>("emulator_allocate")(bytes) })
    }

    fn free(&self, address: u64, bytes: usize) {
        self.allocated.fetch_sub(bytes, Ordering::Relaxed);
        // SAFETY: the address is of `allocate` for as many bytes.
        unsafe { self.function::<unsafe extern "C" fn(u64, usize)>("emulator_free")(address, bytes) };
    }

    fn upload(&self, target: u64, source: &[u8]) -> Result<(), Error> {
        assert!(self.recordings().current.is_none(), "a copy cannot be recorded");
        // SAFETY: `Buffer` keeps the target in bounds.
        unsafe { std::ptr::copy_nonoverlapping(source.as_ptr(), target as *mut u8, source.len()) };
        Ok(())
    }

    fn download(&self, source: u64, target: &mut [u8]) -> Result<(), Error> {
        assert!(self.recordings().current.is_none(), "a copy cannot be recorded");
        // SAFETY: `Buffer` keeps the source in bounds.
        unsafe { std::ptr::copy_nonoverlapping(source as *const u8, target.as_mut_ptr(), target.len()) };
        Ok(())
    }

    fn zero(&self, address: u64, bytes: usize) -> Result<(), Error> {
        // SAFETY: `Buffer` keeps it in bounds.
        unsafe { std::ptr::write_bytes(address as *mut u8, 0, bytes) };
        Ok(())
    }

    fn launch(&self, launch: &Launch) -> Result<(), Error> {
        let Launch { kernel, grid, threads, shared, arguments } = *launch;
        self.submit(Operation::Launch { kernel, grid, threads, shared, arguments: arguments.to_vec() });
        Ok(())
    }

    fn gemm(&self, gemm: &Gemm) -> Result<(), Error> {
        self.submit(Operation::Gemm(*gemm));
        Ok(())
    }

    fn synchronize(&self) -> Result<(), Error> {
        Ok(())
    }

    fn record(&self, body: &mut dyn FnMut() -> Result<(), Error>) -> Result<Recording, Error> {
        self.recordings().current = Some(Vec::new());
        let result = body();
        let mut recordings = self.recordings();
        let list = recordings.current.take().expect("it was set above");
        recordings.done.push(list);
        result.map(|()| Recording(recordings.done.len() - 1))
    }

    fn replay(&self, recording: Recording) -> Result<(), Error> {
        let list = self.recordings().done[recording.0].clone();
        for operation in &list {
            self.run(operation);
        }
        Ok(())
    }

    fn forget(&self, recording: Recording) {
        self.recordings().done[recording.0].clear();
    }

    fn memory(&self) -> Result<(usize, usize), Error> {
        Ok((usize::MAX / 2, usize::MAX / 2))
    }

    fn description(&self) -> String {
        "emulated".to_owned()
    }
}

/// A shared library of the kernels, the emulator and the pretended driver, compiled by this or an earlier test run; or
/// nothing, said loudly, where there is no C++ compiler.
pub(crate) fn library(test: &str) -> Option<&'static Path> {
    static PATH: OnceLock<Option<PathBuf>> = OnceLock::new();
    let path = PATH.get_or_init(build);
    if path.is_none() {
        eprintln!("skipped: {test}: no C++ compiler `c++` for the emulated device");
    }
    path.as_deref()
}

fn build() -> Option<PathBuf> {
    let export = |name| format!("extern \"C\" void run_{name}(void **a) {{ emulator::call({name}, a); }}");
    let kernel = |name| format!("{{\"{name}\", run_{name}, sizes({name})}}");
    let program = [
        include_str!("emulator/emulator.h"),
        &source(),
        &KERNELS.map(export).join("\n"),
        include_str!("emulator/driver.h"),
        "static std::vector<driver::Kernel> &driver::kernels() { static std::vector<Kernel> all = {",
        &KERNELS.map(kernel).join(",\n"),
        "}; return all; }",
    ]
    .join("\n");
    let mut hasher = DefaultHasher::new();
    program.hash(&mut hasher);
    // Beside the test's own binary: a library in a folder that others can write would be theirs to choose.
    let folder = std::env::current_exe().expect("the test's own binary").with_file_name("");
    let base = folder.join(format!("real-emulated-{:016x}", hasher.finish()));
    let library = base.with_extension("so");
    if !library.exists() {
        compile(&program, &base, &library)?;
    }
    Some(library)
}

fn compile(program: &str, base: &Path, library: &Path) -> Option<()> {
    // Under names of this process first: another test run may be doing the same.
    let own = |kind| base.with_extension(format!("{}.{kind}", std::process::id()));
    let (text, partial) = (own("cpp"), own("so"));
    std::fs::write(&text, program).expect("the folder of the test's binary can be written");
    let options = [
        "-std=c++17",
        "-O2",
        "-fPIC",
        "-shared",
        "-fno-strict-aliasing",
        "-fsanitize=alignment,bounds",
        "-fsanitize-undefined-trap-on-error",
        "-U_FORTIFY_SOURCE",
        "-o",
    ];
    let output = Command::new("c++").args(options).arg(&partial).arg(&text).output().ok()?;
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "the kernels do not compile for the CPU:\n{errors}");
    std::fs::remove_file(text).expect("it was just written");
    std::fs::rename(partial, library).expect("the folder of the test's binary can be written");
    Some(())
}
