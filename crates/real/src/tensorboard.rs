//! `TensorBoard` event files: scalars only.
//!
//! A file is a sequence of records, each `length: u64, crc(length): u32, data, crc(data): u32`, little-endian, where the
//! checksum is a masked CRC-32C; the data is a protobuf `Event { 1: wall_time double, 2: step int64, 3: file_version string,
//! 5: Summary { 1: Value { 1: tag string, 2: simple_value float } } }`. Writing these few fields by hand is smaller than any
//! protobuf library.

use std::fs::File;
use std::io::{Result, Write};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

/// An event file that is being written.
#[derive(Debug)]
pub(crate) struct EventFile {
    file: File,
}

impl EventFile {
    /// A new event file in `folder`. `TensorBoard` joins the files of a folder in the order of their names.
    pub(crate) fn create(folder: &Path) -> Result<Self> {
        std::fs::create_dir_all(folder)?;
        let (seconds, process) = (now(), std::process::id());
        let file =
            File::create(folder.join(format!("events.out.tfevents.{:010.0}.{process}", seconds.floor())))?;
        let mut events = Self { file };
        let mut version = Vec::new();
        bytes_field(&mut version, 3, b"brain.Event:2");
        events.event(0, &version)?;
        Ok(events)
    }

    /// The value of one metric at one step.
    pub(crate) fn scalar(&mut self, tag: &str, step: u64, value: f32) -> Result<()> {
        let mut entry = Vec::new();
        bytes_field(&mut entry, 1, tag.as_bytes());
        entry.push(2 << 3 | 5);
        entry.extend(value.to_le_bytes());
        let mut summary = Vec::new();
        bytes_field(&mut summary, 1, &entry);
        let mut what = Vec::new();
        bytes_field(&mut what, 5, &summary);
        self.event(step, &what)
    }

    fn event(&mut self, step: u64, what: &[u8]) -> Result<()> {
        let mut data = vec![1 << 3 | 1];
        data.extend(now().to_le_bytes());
        data.push(2 << 3);
        varint(&mut data, step);
        data.extend(what);
        let length = (data.len() as u64).to_le_bytes();
        let mut record = length.to_vec();
        record.extend(masked_crc(&length).to_le_bytes());
        record.extend(&data);
        record.extend(masked_crc(&data).to_le_bytes());
        self.file.write_all(&record)
    }
}

fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |d| d.as_secs_f64())
}

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn bytes_field(out: &mut Vec<u8>, number: u8, content: &[u8]) {
    out.push(number << 3 | 2);
    varint(out, content.len() as u64);
    out.extend(content);
}

/// CRC-32C (Castagnoli), rotated and offset as the record format asks.
fn masked_crc(data: &[u8]) -> u32 {
    let mut crc = !0_u32;
    for &byte in data {
        crc ^= u32::from(byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 { crc >> 1 ^ 0x82f6_3b78 } else { crc >> 1 };
        }
    }
    (!crc).rotate_right(15).wrapping_add(0xa282_ead8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksum_of_the_standard_check_string() {
        let unmasked = masked_crc(b"123456789").wrapping_sub(0xa282_ead8).rotate_left(15);
        assert_eq!(unmasked, 0xe306_9283);
    }

    #[test]
    fn varints_are_little_endian_groups_of_seven_bits() {
        let mut out = Vec::new();
        varint(&mut out, 300);
        assert_eq!(out, [0xac, 0x02]);
    }
}
