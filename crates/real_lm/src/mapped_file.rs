//! Files read through the page cache, so that loading weights holds no copy of them.

use std::fs::File;
use std::path::Path;

use memmap2::Mmap;

use crate::Error;

/// Maps a file for reading.
pub(crate) fn map(path: &Path) -> Result<Mmap, Error> {
    let file = File::open(path).map_err(Error::io(path))?;
    #[expect(unsafe_code, reason = "memory-mapped weights")]
    // SAFETY: the mapping is read-only and private to this process. The bytes may change under us only if another process
    // writes to the file while it is loaded, which checkpoints are never subject to: they are written beside and renamed.
    // Every value read is checked or valid for any bit pattern, so that no change of bytes breaks an invariant of Rust types
    // that outlives the read.
    let map = unsafe { Mmap::map(&file) };
    map.map_err(Error::io(path))
}
