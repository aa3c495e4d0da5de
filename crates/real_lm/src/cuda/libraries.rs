//! The three libraries that a GPU needs, loaded when one is asked for: the driver (`libcuda`), which comes with the
//! kernel module, the compiler NVRTC and the matrix products of cuBLAS, which come with CUDA, or with PyTorch.
//!
//! Nothing of CUDA is needed to build, and on a machine without a GPU nothing is loaded. The functions declared here have had
//! these names and types since CUDA 11.4 (`_v2` and the like are part of a name that never changes its meaning).

#![expect(unsafe_code, reason = "functions of C libraries that are loaded at run time")]

use std::ffi::{CStr, c_char, c_int, c_uint, c_ulonglong, c_void};
use std::path::PathBuf;

use libloading::Library;

use super::Error;

/// Declares a library as a struct of its functions.
macro_rules! library {
    ($(#[$meta:meta])* $name:ident { $($function:ident($($type:ty),*);)+ }) => {
        $(#[$meta])*
        #[expect(non_snake_case, reason = "the functions have the names that the library gives them")]
        pub(crate) struct $name {
            $(pub(super) $function: unsafe extern "C" fn($($type),*) -> c_int,)+
            /// What the functions are part of; dropped last.
            _library: Library,
        }

        impl $name {
            #[expect(non_snake_case, reason = "the functions have the names that the library gives them")]
            pub(super) fn of(library: Library) -> Result<Self, libloading::Error> {
                $(
                    // SAFETY: the type is that of the library's documentation. The pointer lives in the struct that keeps
                    // the library loaded.
                    let $function = *unsafe {
                        library.get::<unsafe extern "C" fn($($type),*) -> c_int>(stringify!($function).as_bytes())
                    }?;
                )+
                Ok(Self { $($function,)+ _library: library })
            }
        }

        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
                f.write_str(stringify!($name))
            }
        }
    };
}

library! {
    /// The driver. Devices are numbers, device memory is a number of 64 bits, all else are pointers to what it owns.
    Driver {
        cuInit(c_uint);
        cuDeviceGetCount(*mut c_int);
        cuDeviceGet(*mut c_int, c_int);
        cuDeviceGetName(*mut c_char, c_int, c_int);
        cuDeviceGetAttribute(*mut c_int, c_int, c_int);
        cuDevicePrimaryCtxRetain(*mut *mut c_void, c_int);
        cuCtxSetCurrent(*mut c_void);
        cuStreamCreate(*mut *mut c_void, c_uint);
        cuStreamSynchronize(*mut c_void);
        cuStreamBeginCapture_v2(*mut c_void, c_int);
        cuStreamEndCapture(*mut c_void, *mut *mut c_void);
        cuGraphInstantiateWithFlags(*mut *mut c_void, *mut c_void, c_ulonglong);
        cuGraphLaunch(*mut c_void, *mut c_void);
        cuGraphDestroy(*mut c_void);
        cuGraphExecDestroy(*mut c_void);
        cuMemAlloc_v2(*mut u64, usize);
        cuMemFree_v2(u64);
        cuMemGetInfo_v2(*mut usize, *mut usize);
        cuMemcpyHtoDAsync_v2(u64, *const c_void, usize, *mut c_void);
        cuMemcpyDtoHAsync_v2(*mut c_void, u64, usize, *mut c_void);
        cuMemsetD8Async(u64, u8, usize, *mut c_void);
        cuModuleLoadData(*mut *mut c_void, *const c_void);
        cuModuleGetFunction(*mut *mut c_void, *mut c_void, *const c_char);
        cuFuncSetAttribute(*mut c_void, c_int, c_int);
        cuLaunchKernel(
            *mut c_void, c_uint, c_uint, c_uint, c_uint, c_uint, c_uint, c_uint, *mut c_void, *mut *mut c_void,
            *mut *mut c_void
        );
        cuGetErrorName(c_int, *mut *const c_char);
    }
}

library! {
    /// Matrix products.
    Cublas {
        cublasCreate_v2(*mut *mut c_void);
        cublasSetStream_v2(*mut c_void, *mut c_void);
        cublasSetWorkspace_v2(*mut c_void, u64, usize);
        cublasGemmEx(
            *mut c_void, c_int, c_int, c_int, c_int, c_int, *const c_void, u64, c_int, c_int, u64, c_int, c_int,
            *const c_void, u64, c_int, c_int, c_int, c_int
        );
    }
}

/// The compiler.
#[expect(non_snake_case, reason = "the functions have the names that the library gives them")]
#[derive(Debug)]
pub(crate) struct Nvrtc {
    functions: NvrtcFunctions,
    pub(super) nvrtcGetErrorString: unsafe extern "C" fn(c_int) -> *const c_char,
}

library! {
    /// The functions of the compiler that return a status.
    NvrtcFunctions {
        nvrtcVersion(*mut c_int, *mut c_int);
        nvrtcCreateProgram(
            *mut *mut c_void, *const c_char, *const c_char, c_int, *const *const c_char, *const *const c_char
        );
        nvrtcCompileProgram(*mut c_void, c_int, *const *const c_char);
        nvrtcDestroyProgram(*mut *mut c_void);
        nvrtcGetProgramLogSize(*mut c_void, *mut usize);
        nvrtcGetProgramLog(*mut c_void, *mut c_char);
        nvrtcGetCUBINSize(*mut c_void, *mut usize);
        nvrtcGetCUBIN(*mut c_void, *mut c_char);
        nvrtcGetPTXSize(*mut c_void, *mut usize);
        nvrtcGetPTX(*mut c_void, *mut c_char);
    }
}

impl std::ops::Deref for Nvrtc {
    type Target = NvrtcFunctions;

    fn deref(&self) -> &NvrtcFunctions {
        &self.functions
    }
}

impl Driver {
    pub(super) fn load() -> Result<Self, Error> {
        let advice = "It comes with NVIDIA's driver; in a container it has to be passed in (`--gpus all`).";
        load(&["libcuda.so.1", "libcuda.so", "nvcuda.dll"], advice, Self::of)
    }
}

impl Cublas {
    pub(super) fn load() -> Result<Self, Error> {
        let names = ["libcublas.so.13", "libcublas.so.12", "libcublas.so.11", "libcublas.so"];
        let advice = "Install CUDA 11.4 or later or its part `libcublas`, or put the folder of the wheel `nvidia-cublas` \
                      into LD_LIBRARY_PATH.";
        load(&names, advice, Self::of)
    }
}

impl Nvrtc {
    pub(crate) fn load() -> Result<Self, Error> {
        let names = ["libnvrtc.so.13", "libnvrtc.so.12", "libnvrtc.so.11.2", "libnvrtc.so"];
        let advice = "Install CUDA 11.4 or later or its part `cuda-nvrtc`, or put the folder of the wheel \
                      `nvidia-cuda-nvrtc` into LD_LIBRARY_PATH.";
        load(&names, advice, |library| {
            // SAFETY: the type is that of the library's documentation, and the struct keeps the library loaded.
            let get = unsafe { library.get(b"nvrtcGetErrorString") };
            let error_string = *get?;
            Ok(Self { functions: NvrtcFunctions::of(library)?, nvrtcGetErrorString: error_string })
        })
    }
}

/// The first library of these names that the system's loader finds by itself, or that lies where CUDA installs itself.
fn load<T>(
    names: &[&str],
    advice: &'static str,
    of: impl Fn(Library) -> Result<T, libloading::Error>,
) -> Result<T, Error> {
    let mut why = String::new();
    for folder in [None].into_iter().chain(cuda_folders().into_iter().map(Some)) {
        for name in names {
            let path = folder.as_ref().map_or_else(|| PathBuf::from(name), |folder| folder.join(name));
            // SAFETY: the initialisers of NVIDIA's libraries may be run at any time.
            match unsafe { Library::new(&path) }.and_then(&of) {
                Ok(loaded) => return Ok(loaded),
                Err(error) => why = error.to_string(),
            }
        }
    }
    Err(Error::MissingLibrary { library: names.join(" or "), why, advice })
}

fn cuda_folders() -> Vec<PathBuf> {
    let named = ["CUDA_HOME", "CUDA_PATH"].into_iter().filter_map(std::env::var_os).map(PathBuf::from);
    named.chain([PathBuf::from("/usr/local/cuda")]).map(|folder| folder.join("lib64")).collect()
}

/// A copy of a string that a library owns; empty where there is none.
///
/// # Safety
/// The pointer is null or points to a string.
pub(super) unsafe fn text(string: *const c_char) -> String {
    if string.is_null() {
        return String::new();
    }
    // SAFETY: the caller's promise.
    unsafe { CStr::from_ptr(string) }.to_string_lossy().into_owned()
}
