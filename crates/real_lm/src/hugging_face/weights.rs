//! `model.safetensors`, whole or in shards.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::path::{Path, PathBuf};

use half::bf16;
use memmap2::Mmap;
use rayon::prelude::*;
use safetensors::tensor::{Dtype, SafeTensorError, SafeTensors, TensorView, View};

use super::read_optional_json;
use crate::gguf::{TensorType, dequantize};
use crate::{Error, Layout, Model, ModelConfig, WeightType, mapped_file};

/// Weights converted by one thread at a time.
const CHUNK: usize = 1 << 20;

/// Reads the weights of a model of this shape.
pub(crate) fn load(folder: &Path, config: ModelConfig) -> Result<Model, Error> {
    let files = weight_files(folder)?;
    let maps = files.iter().map(|path| mapped_file::map(path)).collect::<Result<Vec<_>, _>>()?;
    let mut tensors = tensors(&files, &maps)?;
    // A tied head is stored by some writers; it equals the embedding.
    if config.tie_word_embeddings {
        tensors.remove("lm_head.weight");
    }
    let layout = Layout::new(&config);
    let mut sources = Vec::new();
    for (name, shape, range) in layout.tensors(&config) {
        let missing = || Error::malformed(folder, format!("tensor {name:?} is missing"));
        let (file, view) = tensors.remove(&name).ok_or_else(missing)?;
        if view.shape() != shape {
            let what = format!("tensor {name:?} has shape {:?}, config.json says {shape:?}", view.shape());
            return Err(Error::malformed(file, what));
        }
        sources.push((tensor_type(file, &name, view.dtype())?, view, range));
    }
    if let Some((name, (file, _))) =
        tensors.into_iter().find(|(name, _)| !name.ends_with("rotary_emb.inv_freq"))
    {
        return Err(Error::unsupported(file, format!("tensor {name:?} has no place in this architecture")));
    }
    let mut params = vec![0.0; layout.len];
    for (kind, view, range) in sources {
        let bytes = view.data().par_chunks(kind.bytes_of(CHUNK));
        params[range].par_chunks_mut(CHUNK).zip(bytes).for_each(|(out, bytes)| dequantize(kind, bytes, out));
    }
    Ok(Model { config, layout, params })
}

/// Writes the weights of a model.
pub(crate) fn save(path: &Path, model: &Model, kind: WeightType) -> Result<(), Error> {
    let tensors = model.layout.tensors(&model.config).into_iter().map(|(name, shape, range)| {
        let values = &model.params[range];
        (name, Weights { shape, values, kind })
    });
    // The `transformers` library reads no file that does not name its format.
    write(path, tensors, HashMap::from([("format".to_owned(), "pt".to_owned())]))
}

/// Writes a safetensors file and waits until it is on the disk.
pub(crate) fn write<'a>(
    path: &Path,
    tensors: impl Iterator<Item = (String, Weights<'a>)>,
    metadata: HashMap<String, String>,
) -> Result<(), Error> {
    safetensors::serialize_to_file(tensors, Some(metadata), path).map_err(|error| match error {
        SafeTensorError::IoError(source) => Error::Io { path: path.to_owned(), source },
        other => Error::unsupported(path, other.to_string()),
    })?;
    File::open(path).and_then(|file| file.sync_all()).map_err(Error::io(path))
}

fn weight_files(folder: &Path) -> Result<Vec<PathBuf>, Error> {
    let index = folder.join("model.safetensors.index.json");
    let Some(json) = read_optional_json(&index)? else {
        return Ok(vec![folder.join("model.safetensors")]);
    };
    let map =
        json["weight_map"].as_object().ok_or_else(|| Error::malformed(&index, "weight_map is missing"))?;
    let mut names: Vec<_> = map.values().filter_map(|name| name.as_str()).collect();
    names.sort_unstable();
    names.dedup();
    match names.iter().find(|name| name.contains(['/', '\\'])) {
        Some(name) => Err(Error::malformed(&index, format!("the shard {name:?} lies outside the folder"))),
        None => Ok(names.into_iter().map(|name| folder.join(name)).collect()),
    }
}

type Tensors<'a> = BTreeMap<String, (&'a Path, TensorView<'a>)>;

fn tensors<'a>(files: &'a [PathBuf], maps: &'a [Mmap]) -> Result<Tensors<'a>, Error> {
    let mut all = BTreeMap::new();
    for (file, map) in files.iter().zip(maps) {
        let shard =
            SafeTensors::deserialize(map).map_err(|error| Error::malformed(file, error.to_string()))?;
        all.extend(shard.tensors().into_iter().map(|(name, view)| (name, (file.as_path(), view))));
    }
    Ok(all)
}

fn tensor_type(file: &Path, name: &str, dtype: Dtype) -> Result<TensorType, Error> {
    match dtype {
        Dtype::F32 => Ok(TensorType::F32),
        Dtype::F16 => Ok(TensorType::F16),
        Dtype::BF16 => Ok(TensorType::Bf16),
        _ => {
            Err(Error::unsupported(file, format!("tensor {name:?} of type {dtype:?}; F32, F16 and BF16 are")))
        }
    }
}

/// A tensor to write.
pub(crate) struct Weights<'a> {
    pub(crate) shape: Vec<usize>,
    pub(crate) values: &'a [f32],
    pub(crate) kind: WeightType,
}

impl View for Weights<'_> {
    fn dtype(&self) -> Dtype {
        match self.kind {
            WeightType::F32 => Dtype::F32,
            WeightType::Bf16 => Dtype::BF16,
        }
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        match self.kind {
            WeightType::F32 => self.values.iter().flat_map(|value| value.to_le_bytes()).collect(),
            WeightType::Bf16 => {
                self.values.iter().flat_map(|&value| bf16::from_f32(value).to_le_bytes()).collect()
            }
        }
    }

    fn data_len(&self) -> usize {
        self.values.len() * self.kind.bytes()
    }
}
