//! `cargo xtask python`: builds the Python package beside the binary and runs its tests.
//!
//! An extension module is a library under another name, so that neither maturin nor a network is needed here: the files of the package and the
//! library are put together in `target/python`, and Python's own `unittest` runs on them.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::cargo;

/// Builds the package and runs its tests with this interpreter. Engines that are installed for it are tested too.
pub(crate) fn test(python: &str) -> Result<()> {
    // With all targets the dependencies have the features that `cargo test` gives them, and are not built twice.
    cargo(&["build", "--workspace", "--all-targets"])?;
    run(python)
}

fn run(python: &str) -> Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("xtask is inside of the workspace")?;
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
    let package = target.join("python/real");
    if package.exists() {
        std::fs::remove_dir_all(&package).with_context(|| format!("cannot remove {}", package.display()))?;
    }
    copy(&root.join("crates/real_py/python/real"), &package)?;
    let (prefix, suffix) = (std::env::consts::DLL_PREFIX, std::env::consts::DLL_SUFFIX);
    let library = target.join(format!("debug/{prefix}_real{suffix}"));
    std::fs::copy(&library, package.join("_real.abi3.so"))
        .with_context(|| format!("cannot copy {}", library.display()))?;

    let tests = root.join("crates/real_py/tests");
    eprintln!("\n$ {python} -m unittest discover --start-directory {}", tests.display());
    let status = Command::new(python)
        .args(["-B", "-W", "ignore", "-m", "unittest", "discover", "--verbose", "--start-directory"])
        .arg(&tests)
        .env("PYTHONPATH", target.join("python"))
        .env("REAL_BINARY", target.join(format!("debug/real{}", std::env::consts::EXE_SUFFIX)))
        .status()
        .with_context(|| format!("cannot start {python}"))?;
    if !status.success() {
        bail!("the tests of the Python package failed");
    }
    Ok(())
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    std::fs::create_dir_all(to).with_context(|| format!("cannot make {}", to.display()))?;
    for entry in std::fs::read_dir(from).with_context(|| format!("cannot read {}", from.display()))? {
        let entry = entry?;
        let (source, name) = (entry.path(), entry.file_name());
        if name == "__pycache__" {
            continue;
        }
        if source.is_dir() {
            copy(&source, &to.join(name))?;
        } else {
            std::fs::copy(&source, to.join(name))
                .with_context(|| format!("cannot copy {}", source.display()))?;
        }
    }
    Ok(())
}
