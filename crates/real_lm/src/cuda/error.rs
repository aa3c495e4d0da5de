//! What can go wrong between this program and a GPU.

/// A GPU could not be used, or not for this.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A library of the driver or of CUDA is not on this machine.
    #[error("cannot load {library}: {why}. {advice}")]
    MissingLibrary {
        /// Names that were tried.
        library: String,
        /// What the system's loader said of the last of them.
        why: String,
        /// What to install.
        advice: &'static str,
    },
    /// There is a driver but no device it could use.
    #[error("no GPU: {0}")]
    NoDevice(String),
    /// A call of the driver or of a library failed.
    #[error("{call} failed: {why}")]
    Call {
        /// The function.
        call: &'static str,
        /// Its error, by name where it has one.
        why: String,
    },
    /// The kernels did not compile: a bug of ours, or a compiler that is too old.
    #[error("the kernels do not compile for {architecture}:\n{log}")]
    Compile {
        /// Such as `sm_90`.
        architecture: String,
        /// What the compiler said.
        log: String,
    },
    /// The device has too little memory.
    #[error("out of GPU memory: {0}")]
    OutOfMemory(String),
    /// The model has a shape that the kernels do not take.
    #[error("not supported on a GPU: {0}")]
    Unsupported(String),
}
