//! `model.safetensors`, whole or in shards.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufWriter, IntoInnerError, Write};
use std::path::{Path, PathBuf};

use half::bf16;
use memmap2::Mmap;
use rayon::prelude::*;
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use serde_json::json;

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
    write(path, tensors, &BTreeMap::from([("format", "pt".to_owned())]))
}

/// Writes a safetensors file and waits until it is on the disk: the length of the header, the header as JSON, the values.
pub(crate) fn write<'a>(
    path: &Path,
    tensors: impl Iterator<Item = (String, Weights<'a>)>,
    metadata: &BTreeMap<&str, String>,
) -> Result<(), Error> {
    let tensors: Vec<_> = tensors.collect();
    let mut header = json!({ "__metadata__": metadata });
    let mut end = 0;
    for (name, weights) in &tensors {
        let start = end;
        end += weights.values.len() * weights.kind.bytes();
        let dtype = weights.kind.safetensors_name();
        header[name] = json!({ "dtype": dtype, "shape": weights.shape, "data_offsets": [start, end] });
    }
    let mut header = header.to_string();
    header.extend(std::iter::repeat_n(' ', header.len().next_multiple_of(8) - header.len()));
    let write = || {
        let mut file = BufWriter::with_capacity(CHUNK, File::create(path)?);
        file.write_all(&(header.len() as u64).to_le_bytes())?;
        file.write_all(header.as_bytes())?;
        for (_, weights) in &tensors {
            weights.write(&mut file)?;
        }
        file.into_inner().map_err(IntoInnerError::into_error)?.sync_all()
    };
    write().map_err(Error::io(path))
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

impl Weights<'_> {
    fn write(&self, file: &mut impl Write) -> io::Result<()> {
        match self.kind {
            WeightType::F32 => self.values.iter().try_for_each(|value| file.write_all(&value.to_le_bytes())),
            WeightType::Bf16 => {
                self.values.iter().try_for_each(|&value| file.write_all(&bf16::from_f32(value).to_le_bytes()))
            }
        }
    }
}
