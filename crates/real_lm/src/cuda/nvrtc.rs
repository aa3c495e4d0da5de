//! Compiles the kernels for the device at hand with NVIDIA's run-time compiler, and keeps the result for the next start.

#![expect(unsafe_code, reason = "the compiler is a C library that is loaded at run time")]

use std::ffi::{CString, c_char, c_int, c_void};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::ptr::null;

use super::Error;
use super::libraries::{Nvrtc, text};

/// What to make of the source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Target {
    /// Machine code for one architecture.
    Cubin,
    /// Assembler that the driver compiles for any device of at least this architecture.
    #[cfg_attr(not(test), expect(dead_code, reason = "only tests look at the assembler"))]
    Ptx,
}

/// The machine code of `source` for an architecture such as `sm_90`: from the cache, or compiled and put there.
pub(crate) fn cubin(
    nvrtc: &Nvrtc,
    source: &str,
    architecture: &str,
    cache: Option<PathBuf>,
) -> Result<Vec<u8>, Error> {
    let file = cache.map(|folder| {
        let mut hasher = DefaultHasher::new();
        (source, architecture, version(nvrtc)).hash(&mut hasher);
        folder.join(format!("{architecture}-{:016x}.cubin", hasher.finish()))
    });
    if let Some(code) = file.as_ref().and_then(|file| std::fs::read(file).ok()) {
        return Ok(code);
    }
    let (code, _log) = compile(nvrtc, source, architecture, Target::Cubin)?;
    if let Some(file) = file {
        // Without a cache the next start compiles again; that is all.
        let _ = store(&file, &code);
    }
    Ok(code)
}

/// Compiles; returns the code and what the compiler said of it.
pub(crate) fn compile(
    nvrtc: &Nvrtc,
    source: &str,
    architecture: &str,
    target: Target,
) -> Result<(Vec<u8>, String), Error> {
    let source = CString::new(source).expect("sources have no zero bytes");
    let options =
        [format!("--gpu-architecture={architecture}"), "--std=c++17".into(), "--ptxas-options=-v".into()]
            .map(|option| CString::new(option).expect("options have no zero bytes"));
    let pointers: Vec<*const c_char> = options.iter().map(|option| option.as_ptr()).collect();
    let mut program: *mut c_void = std::ptr::null_mut();
    // SAFETY: all strings live until the calls return; sizes of buffers are those that the library asks for just before.
    unsafe {
        let name = c"real.cu";
        let status =
            (nvrtc.nvrtcCreateProgram)(&raw mut program, source.as_ptr(), name.as_ptr(), 0, null(), null());
        check(nvrtc, "nvrtcCreateProgram", status)?;
        let status = (nvrtc.nvrtcCompileProgram)(program, pointers.len() as c_int, pointers.as_ptr());
        let log = read(nvrtc, program, nvrtc.nvrtcGetProgramLogSize, nvrtc.nvrtcGetProgramLog)?;
        let log = String::from_utf8_lossy(&log).trim_matches(['\0', '\n']).to_owned();
        if status != 0 {
            (nvrtc.nvrtcDestroyProgram)(&raw mut program);
            return Err(Error::Compile { architecture: architecture.to_owned(), log });
        }
        let code = match target {
            Target::Cubin => read(nvrtc, program, nvrtc.nvrtcGetCUBINSize, nvrtc.nvrtcGetCUBIN),
            Target::Ptx => read(nvrtc, program, nvrtc.nvrtcGetPTXSize, nvrtc.nvrtcGetPTX),
        };
        (nvrtc.nvrtcDestroyProgram)(&raw mut program);
        Ok((code?, log))
    }
}

type SizeOf = unsafe extern "C" fn(*mut c_void, *mut usize) -> c_int;
type ReadInto = unsafe extern "C" fn(*mut c_void, *mut c_char) -> c_int;

/// Asks for the size of a result, and for the result.
///
/// # Safety
/// Both functions are of the library and for the same result, and the program lives.
unsafe fn read(
    nvrtc: &Nvrtc,
    program: *mut c_void,
    size_of: SizeOf,
    read_into: ReadInto,
) -> Result<Vec<u8>, Error> {
    let mut size = 0;
    // SAFETY: the caller's promise.
    check(nvrtc, "size of NVRTC's result", unsafe { size_of(program, &raw mut size) })?;
    let mut bytes = vec![0u8; size];
    // SAFETY: the buffer has the size that was asked for.
    check(nvrtc, "NVRTC's result", unsafe { read_into(program, bytes.as_mut_ptr().cast()) })?;
    Ok(bytes)
}

fn check(nvrtc: &Nvrtc, call: &'static str, status: c_int) -> Result<(), Error> {
    if status == 0 {
        return Ok(());
    }
    // SAFETY: the library returns a static string for every number.
    let why = unsafe { text((nvrtc.nvrtcGetErrorString)(status)) };
    Err(Error::Call { call, why })
}

fn version(nvrtc: &Nvrtc) -> (c_int, c_int) {
    let (mut major, mut minor) = (0, 0);
    // SAFETY: both are places for a number. Where the call fails they stay zero, which is a version too.
    unsafe { (nvrtc.nvrtcVersion)(&raw mut major, &raw mut minor) };
    (major, minor)
}

/// Where compiled kernels are kept between runs.
pub(crate) fn cache_folder() -> Option<PathBuf> {
    let home = || Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache"));
    let base = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from).or_else(home)?;
    Some(base.join("real").join("kernels"))
}

/// Under another name first, so that nobody reads half a file.
fn store(file: &Path, code: &[u8]) -> std::io::Result<()> {
    let folder = file.parent().expect("the file lies in a folder");
    std::fs::create_dir_all(folder)?;
    let partial = file.with_extension(format!("{}.partial", std::process::id()));
    std::fs::write(&partial, code)?;
    std::fs::rename(partial, file)
}
