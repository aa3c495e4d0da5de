//! State files: what a trainer needs to go on to the bit, as flat buffers under names and a few numbers, in safetensors.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use memmap2::Mmap;
use safetensors::{Dtype, SafeTensors};

use crate::hugging_face::weights::{self, Weights};
use crate::{Error, WeightType, mapped_file};

/// Writes a state file, and waits until it is on the disk.
pub(crate) fn write(
    path: &Path,
    buffers: Vec<(&str, &[f32])>,
    numbers: &BTreeMap<&str, String>,
) -> Result<(), Error> {
    let tensors = buffers.into_iter().map(|(name, values)| {
        (name.to_owned(), Weights { shape: vec![values.len()], values, kind: WeightType::F32 })
    });
    weights::write(path, tensors, numbers)
}

/// A state file, open for reading.
pub(crate) struct StateFile {
    path: PathBuf,
    data: Mmap,
    numbers: HashMap<String, String>,
}

impl StateFile {
    pub(crate) fn open(path: &Path) -> Result<Self, Error> {
        let data = mapped_file::map(path)?;
        let (_, header) =
            SafeTensors::read_metadata(&data).map_err(|error| Error::malformed(path, error.to_string()))?;
        let numbers = header.metadata().clone().unwrap_or_default();
        Ok(Self { path: path.to_owned(), data, numbers })
    }

    /// A number by its name.
    pub(crate) fn number<T: FromStr>(&self, name: &str) -> Result<T, Error> {
        let text = self.numbers.get(name).map(String::as_str).unwrap_or_default();
        text.parse().map_err(|_| Error::malformed(&self.path, format!("{name} is {text:?}, not a number")))
    }

    /// Fills buffers by their names: all of them or, where one is missing or of another length, none.
    pub(crate) fn read(&self, buffers: Vec<(&str, &mut [f32])>) -> Result<(), Error> {
        let malformed = |what: String| Error::malformed(&self.path, what);
        let file = SafeTensors::deserialize(&self.data).map_err(|error| malformed(error.to_string()))?;
        let mut sources = Vec::new();
        for (name, values) in &buffers {
            let tensor = file.tensor(name).map_err(|error| malformed(error.to_string()))?;
            let (kind, shape, len) = (tensor.dtype(), tensor.shape(), values.len());
            if kind != Dtype::F32 || shape != [len] {
                return Err(malformed(format!("{name} is {kind:?} {shape:?}, not F32 [{len}]")));
            }
            sources.push(tensor.data().as_chunks::<4>().0);
        }
        for ((_, values), source) in buffers.into_iter().zip(sources) {
            for (value, &bytes) in values.iter_mut().zip(source) {
                *value = f32::from_le_bytes(bytes);
            }
        }
        Ok(())
    }
}
