//! The two ceilings of a device, as our own launches reach them: bytes a second through memory, and operations a second in a
//! product. What a run achieves means little without them.

use std::sync::Arc;
use std::time::Instant;

use half::bf16;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use super::Error;
use super::device::{Buffer, Device};
use super::ops;
use crate::AdamWConfig;
use crate::adamw::Update;
use crate::parameters::fill_normal;

/// A measured rate.
#[derive(Debug, Clone)]
pub struct Measurement {
    /// What was measured.
    pub name: String,
    /// Of seven rounds the median, in `unit`.
    pub rate: f64,
    /// `GB/s` or `TFLOP/s`.
    pub unit: &'static str,
}

/// Measures the first GPU. The last product has the shape of the head of Qwen2.5-0.5B on a chunk of rows.
pub fn measure_device() -> Result<(String, Vec<Measurement>), Error> {
    let device: Arc<dyn Device> = Arc::new(super::gpu::Gpu::open(0)?);
    let mut rates = vec![rounding(&device)?, adamw(&device)?];
    for [m, n, k] in [[8192, 8192, 8192], [16_384, 9728, 896], [16_384, 896, 4864], [880, 151_936, 896]] {
        rates.push(product(&device, [m, n, k])?);
    }
    Ok((device.description(), rates))
}

/// Seconds of one call, the median of seven rounds of ten, after two rounds that warm up.
fn time(device: &dyn Device, mut call: impl FnMut() -> Result<(), Error>) -> Result<f64, Error> {
    let mut rounds = Vec::new();
    for _ in 0..9 {
        device.synchronize()?;
        let start = Instant::now();
        for _ in 0..10 {
            call()?;
        }
        device.synchronize()?;
        rounds.push(start.elapsed().as_secs_f64() / 10.0);
    }
    let mut rounds = rounds.split_off(2);
    rounds.sort_by(f64::total_cmp);
    Ok(rounds[rounds.len() / 2])
}

/// Random numbers, a million of them again and again: zeros would be faster than real data.
fn filled(device: &Arc<dyn Device>, count: usize) -> Result<Buffer<bf16>, Error> {
    let mut some = vec![0.0; 1 << 20];
    fill_normal(&mut some, 1.0, &mut ChaCha8Rng::seed_from_u64(1));
    let some: Vec<bf16> = some.into_iter().map(bf16::from_f32).collect();
    let buffer = Buffer::new(device, count)?;
    for start in (0..count).step_by(some.len()) {
        buffer.upload(start, &some[..some.len().min(count - start)])?;
    }
    Ok(buffer)
}

/// Reads 4 bytes and writes 2 an element, a GB in all: no cache holds it.
fn rounding(device: &Arc<dyn Device>) -> Result<Measurement, Error> {
    let count = 160 << 20;
    let (source, target) = (Buffer::<f32>::zeros(device, count)?, Buffer::<bf16>::new(device, count)?);
    let seconds =
        time(&**device, || ops::round_to_bf16(&**device, source.first(count), target.first(count)))?;
    let rate = 6.0 * count as f64 / seconds / 1e9;
    Ok(Measurement { name: "memory, rounding f32 to bf16".to_owned(), rate, unit: "GB/s" })
}

/// Reads 16 bytes and writes 18 a parameter.
fn adamw(device: &Arc<dyn Device>) -> Result<Measurement, Error> {
    let count = 64 << 20;
    let state = [(); 4].map(|()| Buffer::<f32>::zeros(device, count));
    let [weights, gradient, first, second] = state;
    let state = [weights?, gradient?, first?, second?];
    let rounded = Buffer::<bf16>::new(device, count)?;
    let update = Update::new(AdamWConfig::default(), 1, 1e-3);
    let slices = state.each_ref().map(|buffer| buffer.first(count));
    let seconds = time(&**device, || ops::adamw(&**device, slices, rounded.first(count), 1.0, update))?;
    let rate = 34.0 * count as f64 / seconds / 1e9;
    Ok(Measurement { name: "memory, AdamW".to_owned(), rate, unit: "GB/s" })
}

fn product(device: &Arc<dyn Device>, [m, n, k]: [usize; 3]) -> Result<Measurement, Error> {
    let (x, weight, y) =
        (filled(device, m * k)?, filled(device, n * k)?, Buffer::<bf16>::new(device, m * n)?);
    let target = (y.first(m * n), n);
    let seconds =
        time(&**device, || ops::linear(&**device, x.first(m * k), weight.first(n * k), k, target, 1.0))?;
    let rate = 2.0 * (m * n * k) as f64 / seconds / 1e12;
    Ok(Measurement { name: format!("product, {m} × {n} × {k}"), rate, unit: "TFLOP/s" })
}
