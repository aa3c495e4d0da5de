//! The GGUF container: named values and named tensors in one file.
//!
//! ```text
//! "GGUF"  version:u32  tensors:u64  values:u64
//! values  × (key:string  type:u32  value)               string = length:u64, UTF-8 bytes
//! tensors × (name:string  dims:u32  dims × u64  type:u32  offset:u64)
//! padding up to general.alignment (32)
//! tensor data, at the offsets above counted from here
//! ```
//!
//! All numbers are little-endian and dimensions run from the fastest to the slowest, so a `[V, E]` matrix is written `E, V`.
//! [`Gguf::open`] walks the whole header once and checks that every value and every tensor lies inside the file; afterwards
//! reading cannot run out of bytes. Nothing is allocated by a count that the file merely claims: strings, arrays and tensors
//! stay in the mapped file and are remembered as ranges.

mod dequantize;
mod model;
mod vocabulary;

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};

use memmap2::Mmap;

use crate::{Error, mapped_file};

pub(crate) use dequantize::{TensorType, dequantize};

/// A GGUF file, open for reading.
#[derive(Debug)]
pub(crate) struct Gguf {
    path: PathBuf,
    data: Mmap,
    header: Header,
}

#[derive(Debug, Default)]
struct Header {
    values: BTreeMap<String, Value>,
    tensors: BTreeMap<String, Tensor>,
}

#[derive(Debug, Clone, PartialEq)]
enum Value {
    Unsigned(u64),
    Signed(i64),
    Float(f64),
    Bool(bool),
    String(Range<usize>),
    Array { element: u32, count: usize, start: usize },
}

/// A tensor's place in the file.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Tensor {
    /// Slowest dimension first, as everywhere in this crate.
    shape: Vec<usize>,
    kind: TensorType,
    bytes: Range<usize>,
}

impl Gguf {
    pub(crate) fn open(path: &Path) -> Result<Self, Error> {
        let data = mapped_file::map(path)?;
        let header = Cursor { path, bytes: &data, position: 0 }.header()?;
        Ok(Self { path: path.to_owned(), data, header })
    }

    fn string(&self, key: &str) -> Result<Option<&str>, Error> {
        match self.header.values.get(key) {
            None => Ok(None),
            Some(Value::String(range)) => self.text(range.clone()).map(Some),
            Some(_) => Err(self.wrong_type(key, "a string")),
        }
    }

    fn unsigned(&self, key: &str) -> Result<Option<u64>, Error> {
        match self.header.values.get(key) {
            None => Ok(None),
            Some(&Value::Unsigned(value)) => Ok(Some(value)),
            Some(&Value::Signed(value)) if value >= 0 => Ok(Some(value.unsigned_abs())),
            Some(_) => Err(self.wrong_type(key, "a whole number")),
        }
    }

    fn float(&self, key: &str) -> Result<Option<f32>, Error> {
        match self.header.values.get(key) {
            None => Ok(None),
            Some(&Value::Float(value)) => Ok(Some(value as f32)),
            Some(_) => Err(self.wrong_type(key, "a floating-point number")),
        }
    }

    fn strings(&self, key: &str) -> Result<Option<Vec<&str>>, Error> {
        match self.header.values.get(key) {
            None => Ok(None),
            Some(&Value::Array { element: STRING, count, start }) => {
                let mut cursor = Cursor { path: &self.path, bytes: &self.data, position: start };
                (0..count)
                    .map(|_| cursor.string().and_then(|range| self.text(range)))
                    .collect::<Result<_, _>>()
                    .map(Some)
            }
            Some(_) => Err(self.wrong_type(key, "an array of strings")),
        }
    }

    fn integers(&self, key: &str) -> Result<Option<Vec<i32>>, Error> {
        match self.header.values.get(key) {
            None => Ok(None),
            Some(&Value::Array { element: INT32, count, start }) => {
                let (numbers, _) = self.data[start..start + 4 * count].as_chunks::<4>();
                Ok(Some(numbers.iter().map(|&bytes| i32::from_le_bytes(bytes)).collect()))
            }
            Some(_) => Err(self.wrong_type(key, "an array of 32-bit integers")),
        }
    }

    fn text(&self, range: Range<usize>) -> Result<&str, Error> {
        let start = range.start;
        std::str::from_utf8(&self.data[range])
            .map_err(|_| Error::malformed(&self.path, format!("at byte {start}: a string that is not UTF-8")))
    }

    fn wrong_type(&self, key: &str, expected: &str) -> Error {
        Error::malformed(&self.path, format!("value {key:?} is not {expected}"))
    }

    fn missing(&self, what: &str) -> Error {
        Error::malformed(&self.path, format!("{what} is missing"))
    }
}

const INT32: u32 = 5;
const STRING: u32 = 8;
const ARRAY: u32 = 9;

/// Bytes of a number of this type.
fn number_size(kind: u32) -> Option<u64> {
    match kind {
        0 | 1 | 7 => Some(1),
        2 | 3 => Some(2),
        4..=6 => Some(4),
        10..=12 => Some(8),
        _ => None,
    }
}

struct Cursor<'a> {
    path: &'a Path,
    bytes: &'a [u8],
    position: usize,
}

impl Cursor<'_> {
    fn header(&mut self) -> Result<Header, Error> {
        if self.array()? != *b"GGUF" {
            return Err(Error::malformed(
                self.path,
                "not a GGUF file: the first four bytes are not \"GGUF\"",
            ));
        }
        let version = self.u32()?;
        if !matches!(version, 2 | 3) {
            return Err(Error::unsupported(
                self.path,
                format!("GGUF version {version}; versions 2 and 3 are"),
            ));
        }
        let (tensor_count, value_count) = (self.u64()?, self.u64()?);
        let mut header = Header::default();
        for _ in 0..value_count {
            let key = self.owned_string()?;
            let value = self.value()?;
            if header.values.insert(key.clone(), value).is_some() {
                return Err(self.error(format!("value {key:?} appears twice")));
            }
        }
        let alignment = match header.values.get("general.alignment") {
            None => 32,
            Some(&Value::Unsigned(alignment)) if alignment.is_power_of_two() && alignment <= 1 << 20 => {
                alignment
            }
            Some(other) => return Err(self.error(format!("general.alignment is {other:?}"))),
        };
        let tensors = (0..tensor_count).map(|_| self.tensor()).collect::<Result<Vec<_>, _>>()?;
        let data_start = (self.position as u64).next_multiple_of(alignment);
        for (name, mut tensor) in tensors {
            tensor.bytes = self.place(&name, tensor.bytes, data_start)?;
            if header.tensors.insert(name.clone(), tensor).is_some() {
                return Err(self.error(format!("tensor {name:?} appears twice")));
            }
        }
        Ok(header)
    }

    fn value(&mut self) -> Result<Value, Error> {
        let at = self.position;
        let kind = self.u32()?;
        Ok(match kind {
            0 => Value::Unsigned(self.array::<1>()?[0].into()),
            1 => Value::Signed(i8::from_le_bytes(self.array()?).into()),
            2 => Value::Unsigned(u16::from_le_bytes(self.array()?).into()),
            3 => Value::Signed(i16::from_le_bytes(self.array()?).into()),
            4 => Value::Unsigned(self.u32()?.into()),
            INT32 => Value::Signed(i32::from_le_bytes(self.array()?).into()),
            6 => Value::Float(f32::from_le_bytes(self.array()?).into()),
            7 => Value::Bool(self.array::<1>()?[0] != 0),
            STRING => Value::String(self.string()?),
            ARRAY => self.array_value()?,
            10 => Value::Unsigned(self.u64()?),
            11 => Value::Signed(i64::from_le_bytes(self.array()?)),
            12 => Value::Float(f64::from_le_bytes(self.array()?)),
            _ => return Err(Error::malformed(self.path, format!("at byte {at}: unknown value type {kind}"))),
        })
    }

    fn array_value(&mut self) -> Result<Value, Error> {
        let element = self.u32()?;
        let count = self.u64()?;
        let start = self.position;
        if element == STRING {
            for _ in 0..count {
                self.string()?;
            }
        } else if let Some(size) = number_size(element) {
            self.take(count.saturating_mul(size))?;
        } else {
            return Err(self.error(format!("an array of type {element}; only numbers and strings are read")));
        }
        Ok(Value::Array { element, count: count as usize, start })
    }

    /// A tensor whose range of bytes still counts from the start of the data.
    fn tensor(&mut self) -> Result<(String, Tensor), Error> {
        let name = self.owned_string()?;
        let dims = self.u32()?;
        if !(1..=4).contains(&dims) {
            return Err(self.error(format!("tensor {name:?} has {dims} dimensions")));
        }
        let mut shape = (0..dims).map(|_| self.u64()).collect::<Result<Vec<_>, _>>()?;
        shape.reverse();
        let id = self.u32()?;
        let kind = TensorType::from_id(id).ok_or_else(|| {
            Error::unsupported(self.path, format!("tensor {name:?} of quantisation type {id}"))
        })?;
        let offset = self.u64()?;
        let row = shape[shape.len() - 1];
        let elements = shape.iter().try_fold(1u64, |product, &size| product.checked_mul(size));
        let end = elements
            .filter(|_| row.is_multiple_of(kind.block_len() as u64))
            .and_then(|elements| (elements / kind.block_len() as u64).checked_mul(kind.block_bytes() as u64))
            .and_then(|size| offset.checked_add(size))
            .ok_or_else(|| self.error(format!("tensor {name:?} has the impossible shape {shape:?}")))?;
        let shape = shape.into_iter().map(|size| size as usize).collect();
        Ok((name, Tensor { shape, kind, bytes: offset as usize..end as usize }))
    }

    /// The range of a tensor counted from the start of the file.
    fn place(&self, name: &str, range: Range<usize>, data_start: u64) -> Result<Range<usize>, Error> {
        let data_start = data_start as usize;
        match data_start.checked_add(range.end) {
            Some(end) if end <= self.bytes.len() => Ok(data_start + range.start..end),
            _ => Err(Error::malformed(
                self.path,
                format!(
                    "cut off: tensor {name:?} lies at bytes {range:?} from byte {data_start}, the file has {}",
                    self.bytes.len()
                ),
            )),
        }
    }

    fn owned_string(&mut self) -> Result<String, Error> {
        let range = self.string()?;
        match std::str::from_utf8(&self.bytes[range]) {
            Ok(text) => Ok(text.to_owned()),
            Err(_) => Err(self.error("a name that is not UTF-8")),
        }
    }

    fn string(&mut self) -> Result<Range<usize>, Error> {
        let length = self.u64()?;
        self.take(length)
    }

    fn u32(&mut self) -> Result<u32, Error> {
        self.array().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Result<u64, Error> {
        self.array().map(u64::from_le_bytes)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Error> {
        let range = self.take(N as u64)?;
        Ok(self.bytes[range].try_into().expect("take returns as many bytes as asked for"))
    }

    fn take(&mut self, count: u64) -> Result<Range<usize>, Error> {
        let left = self.bytes.len() - self.position;
        if count > left as u64 {
            return Err(self.error(format!("cut off: {count} bytes expected, {left} left")));
        }
        let start = self.position;
        self.position += count as usize;
        Ok(start..self.position)
    }

    fn error(&self, what: impl std::fmt::Display) -> Error {
        Error::malformed(self.path, format!("at byte {}: {what}", self.position))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every block format against the reference implementation: `reference/checkpoint_golden.py`.
    #[test]
    fn blocks() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/blocks.gguf");
        let gguf = Gguf::open(Path::new(path)).unwrap();
        let values = |name: &str| {
            let tensor = &gguf.header.tensors[name];
            let mut values = vec![0.0; tensor.shape.iter().product()];
            dequantize(tensor.kind, &gguf.data[tensor.bytes.clone()], &mut values);
            values
        };
        let names: Vec<_> = gguf.header.tensors.keys().filter(|name| !name.ends_with("expected")).collect();
        assert_eq!(names, ["BF16", "F16", "Q4_0", "Q4_1", "Q4_K", "Q5_0", "Q5_1", "Q5_K", "Q6_K", "Q8_0"]);
        for name in names {
            assert_eq!(values(name), values(&format!("{name}.expected")), "{name}");
        }
    }
}
