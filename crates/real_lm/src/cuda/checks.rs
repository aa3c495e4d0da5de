//! Every operation of a device against the CPU: what the tests run on the emulated device, and what can be run on a real one.
//!
//! A check draws fresh random inputs, rounds to bf16 what the device keeps so, computes the same on the CPU in f32 or f64, and
//! returns the relative error ‖ours − theirs‖ / ‖theirs‖. Every output is poisoned with NaN first, so an element that
//! nobody wrote shows.

use std::sync::Arc;

use half::bf16;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::Error;
use super::decode::LOOK;
use super::device::{Buffer, Device, Element, Slice};
use super::ops::{self, AttentionGradient, Draws, LayerCache, Logits, NormGradient, SlotState};
use super::workspace::{Batch, Rope};
use crate::adamw::Update;
use crate::heads::HeadShape;
use crate::ops::norm;
use crate::ops::rope::{RopeTable, Turn};
use crate::ops::swiglu;
use crate::packed::Packed;
use crate::parameters::fill_normal;
use crate::{AdamW, AdamWConfig, Keep, ModelConfig};

/// The outcome of one check.
#[derive(Debug)]
pub struct Check {
    /// The operation.
    pub name: String,
    /// The largest error that passes.
    pub bound: f64,
    /// The error that was measured, or what failed.
    pub error: Result<f64, Error>,
}

impl Check {
    /// Whether the error is within the bound.
    pub fn passed(&self) -> bool {
        self.error.as_ref().is_ok_and(|&error| error <= self.bound)
    }
}

/// Checks every operation on the first GPU.
pub fn check_operations() -> Result<Vec<Check>, Error> {
    let device: Arc<dyn Device> = Arc::new(super::gpu::Gpu::open(0)?);
    Ok(run(&device, 8))
}

/// Results and factors in bf16 have 8 significant bits: 2⁻⁹ is the largest rounding error of one number.
const ROUNDED: f64 = 5e-3;
/// Sums in f32, in another order.
const SUMMED: f64 = 2e-5;
/// Gradients of attention: three roundings on the way.
const ATTENTION: f64 = 1e-2;

/// Frequencies in 300 draws or more: three and a half standard deviations.
const DRAWN: f64 = 0.1;

/// A device, the scale of the batches, and where the numbers come from.
type Bench<'a> = (&'a Arc<dyn Device>, usize, &'a mut ChaCha8Rng);
/// The error of one operation.
type Measure = fn(Bench) -> Result<f64, Error>;

/// All checks, on batches that grow with `scale`.
pub(crate) fn run(device: &Arc<dyn Device>, scale: usize) -> Vec<Check> {
    let mut rng = ChaCha8Rng::seed_from_u64(7);
    let mut checks = Vec::new();
    let table: [(&str, f64, Measure); 14] = [
        ("product, activations", ROUNDED, linear),
        ("product, gradient of the input", ROUNDED, input_gradient),
        ("product, gradient of the weight", SUMMED, weight_gradient),
        ("embedding", 0.0, embedding),
        ("gradient of the embedding", SUMMED, embedding_gradient),
        ("RMS norm", ROUNDED, rms_norm),
        ("gradients of the RMS norm", ROUNDED, rms_norm_backward),
        ("bias and rotation", ROUNDED, rotation),
        ("SwiGLU", ROUNDED, swiglu_forward),
        ("gradients of SwiGLU", ROUNDED, swiglu_backward),
        ("rows to and fro", 0.0, gather_and_scatter),
        ("log-probabilities and logit gradients", ROUNDED, head_rows),
        ("value head", SUMMED, value_head),
        ("AdamW and the norm of gradients", SUMMED, adamw),
    ];
    for (name, bound, check) in table {
        checks.push(Check { name: name.to_owned(), bound, error: check((device, scale, &mut rng)) });
    }
    for (dim, heads, kv_heads) in [(32, 4, 2), (64, 7, 1), (128, 2, 2)] {
        let shape = HeadShape { heads, kv_heads, dim };
        let mut add = |what: &str, bound, error| {
            checks.push(Check { name: format!("{what}, {heads} heads of {dim}"), bound, error });
        };
        add("attention and its gradients", ATTENTION, attention((device, scale, &mut rng), shape));
        add("attention of one token", ROUNDED, decode_attention((device, scale, &mut rng), shape));
    }
    let error = draws((device, scale, &mut rng));
    checks.push(Check { name: "drawing tokens".to_owned(), bound: DRAWN, error });
    checks
}

/// ‖ours − theirs‖ / ‖theirs‖; NaN and infinities never pass.
pub(crate) fn relative_error(ours: &[f32], theirs: &[f32]) -> f64 {
    assert_eq!(ours.len(), theirs.len(), "as many numbers");
    let square = |x: f64| x * x;
    let error: f64 = ours.iter().zip(theirs).map(|(&x, &y)| square(f64::from(x) - f64::from(y))).sum();
    let size: f64 = theirs.iter().map(|&y| square(f64::from(y))).sum();
    let ratio = (error / size.max(1e-30)).sqrt();
    if ratio.is_finite() { ratio } else { f64::INFINITY }
}

fn normals(count: usize, rng: &mut ChaCha8Rng) -> Vec<f32> {
    let mut values = vec![0.0; count];
    fill_normal(&mut values, 1.0, rng);
    values
}

/// Random numbers that bf16 holds exactly.
fn halves(count: usize, rng: &mut ChaCha8Rng) -> Vec<f32> {
    normals(count, rng).into_iter().map(|x| bf16::from_f32(x).to_f32()).collect()
}

fn to_halves(values: &[f32]) -> Vec<bf16> {
    values.iter().map(|&x| bf16::from_f32(x)).collect()
}

fn to_floats(values: &[bf16]) -> Vec<f32> {
    values.iter().map(|x| x.to_f32()).collect()
}

fn put<T: Element>(device: &Arc<dyn Device>, values: &[T]) -> Result<Buffer<T>, Error> {
    Buffer::from_host(device, values)
}

fn put_halves(device: &Arc<dyn Device>, values: &[f32]) -> Result<Buffer<bf16>, Error> {
    put(device, &to_halves(values))
}

/// An output that nobody has written.
fn poisoned(device: &Arc<dyn Device>, len: usize) -> Result<Buffer<f32>, Error> {
    put(device, &vec![f32::NAN; len])
}

fn poisoned_halves(device: &Arc<dyn Device>, len: usize) -> Result<Buffer<bf16>, Error> {
    put(device, &vec![bf16::NAN; len])
}

fn all<T: Element>(buffer: &Buffer<T>) -> Slice<T> {
    buffer.first(buffer.len())
}

fn read_halves(buffer: &Buffer<bf16>) -> Result<Vec<f32>, Error> {
    Ok(to_floats(&buffer.to_host(buffer.len())?))
}

fn read(buffer: &Buffer<f32>) -> Result<Vec<f32>, Error> {
    buffer.to_host(buffer.len())
}

/// `A [m, k] B [k, n]`
fn product(a: &[f32], b: &[f32], [m, n, k]: [usize; 3]) -> Vec<f32> {
    let mut c = vec![0.0; m * n];
    for i in 0..m {
        for l in 0..k {
            for j in 0..n {
                c[i * n + j] += a[i * k + l] * b[l * n + j];
            }
        }
    }
    c
}

fn transposed(a: &[f32], rows: usize, columns: usize) -> Vec<f32> {
    (0..columns).flat_map(|j| (0..rows).map(move |i| a[i * columns + j])).collect()
}

fn linear((device, scale, rng): Bench) -> Result<f64, Error> {
    let [m, n, k] = [5 * scale, 24, 40];
    let (x, w) = (halves(m * k, rng), halves(n * k, rng));
    let y = poisoned_halves(device, m * n)?;
    let (x_device, w_device) = (put_halves(device, &x)?, put_halves(device, &w)?);
    ops::linear(&**device, all(&x_device), all(&w_device), k, (all(&y), n), 0.5)?;
    let theirs: Vec<f32> = product(&x, &transposed(&w, n, k), [m, n, k]).iter().map(|x| 0.5 * x).collect();
    Ok(relative_error(&read_halves(&y)?, &theirs))
}

fn input_gradient((device, scale, rng): Bench) -> Result<f64, Error> {
    let [m, n, k] = [5 * scale, 24, 40];
    let (dy, w) = (halves(m * k, rng), halves(k * n, rng));
    let dx = poisoned_halves(device, m * n)?;
    let (dy_device, w_device) = (put_halves(device, &dy)?, put_halves(device, &w)?);
    ops::input_gradient(&**device, (all(&dy_device), k), all(&w_device), k, all(&dx), 1.0)?;
    Ok(relative_error(&read_halves(&dx)?, &product(&dy, &w, [m, n, k])))
}

fn weight_gradient((device, scale, rng): Bench) -> Result<f64, Error> {
    let [m, n, k] = [16, 24, 9 * scale];
    let (dy, x, before) = (halves(k * m, rng), halves(k * n, rng), normals(m * n, rng));
    let dw = put(device, &before)?;
    let (dy_device, x_device) = (put_halves(device, &dy)?, put_halves(device, &x)?);
    ops::weight_gradient(&**device, (all(&dy_device), m), all(&x_device), m, all(&dw), 1.0)?;
    let added = product(&transposed(&dy, k, m), &x, [m, n, k]);
    let theirs: Vec<f32> = before.iter().zip(&added).map(|(a, b)| a + b).collect();
    Ok(relative_error(&read(&dw)?, &theirs))
}

fn embedding((device, scale, rng): Bench) -> Result<f64, Error> {
    let (width, vocabulary) = (40, 30);
    let table = halves(vocabulary * width, rng);
    let ids: Vec<u32> = (0..50 * scale).map(|_| rng.random_range(0..vocabulary as u32)).collect();
    let out = poisoned(device, ids.len() * width)?;
    let (ids_device, table_device) = (put(device, &ids)?, put_halves(device, &table)?);
    ops::embed(&**device, all(&ids_device), all(&table_device), all(&out), width)?;
    let theirs: Vec<f32> =
        ids.iter().flat_map(|&id| &table[id as usize * width..][..width]).copied().collect();
    Ok(relative_error(&read(&out)?, &theirs))
}

fn embedding_gradient((device, scale, rng): Bench) -> Result<f64, Error> {
    let (width, vocabulary) = (264, 10);
    let ids: Vec<u32> = (0..30 * scale).map(|_| rng.random_range(0..vocabulary as u32)).collect();
    let mut batch = Batch::empty(device);
    batch.set(&Packed::new(&[&ids]), Keep::Activations)?;
    let (rows, mut theirs) = (normals(ids.len() * width, rng), normals(vocabulary * width, rng));
    let (rows_device, gradient) = (put(device, &rows)?, put(device, &theirs)?);
    ops::embedding_gradient(&**device, all(&rows_device), batch.by_token(), all(&gradient), width)?;
    for (row, &id) in rows.chunks_exact(width).zip(&ids) {
        for (sum, x) in theirs[id as usize * width..].iter_mut().zip(row) {
            *sum += x;
        }
    }
    Ok(relative_error(&read(&gradient)?, &theirs))
}

fn rms_norm((device, scale, rng): Bench) -> Result<f64, Error> {
    let (rows, width, eps) = (9 * scale, 296, 1e-5);
    let (x, update, weight) = (normals(rows * width, rng), halves(rows * width, rng), halves(width, rng));
    let sum: Vec<f32> = x.iter().zip(&update).map(|(a, b)| a + b).collect();
    let (x_device, update, weight_device) =
        (put(device, &x)?, put_halves(device, &update)?, put_halves(device, &weight)?);
    let (mut theirs, mut rstd) = (vec![0.0; rows * width], vec![0.0; rows]);
    let mut worst = 0.0f64;
    for input in [&x, &sum] {
        let (normed, ours_rstd) = (poisoned_halves(device, rows * width)?, poisoned(device, rows)?);
        let with = std::ptr::eq(input, &raw const sum).then_some((all(&update), all(&x_device)));
        let norm = (all(&weight_device), eps);
        ops::rms_norm(&**device, all(&x_device), with, norm, all(&normed), all(&ours_rstd))?;
        norm::rms_norm(input, &weight, eps, &mut theirs, &mut rstd);
        let again = poisoned_halves(device, rows * width)?;
        ops::renormalize(&**device, all(&x_device), all(&weight_device), all(&ours_rstd), all(&again))?;
        worst = worst
            .max(relative_error(&read_halves(&normed)?, &theirs))
            .max(relative_error(&read_halves(&again)?, &theirs))
            .max(relative_error(&read(&ours_rstd)?, &rstd))
            .max(relative_error(&read(&x_device)?, input));
    }
    Ok(worst)
}

fn rms_norm_backward((device, scale, rng): Bench) -> Result<f64, Error> {
    // More columns than one round of a block, so that every warp has some.
    let (rows, width) = (70 * scale, 1096);
    let (x, dy, weight) = (normals(rows * width, rng), halves(rows * width, rng), halves(width, rng));
    let (before, d_weight_before) = (normals(rows * width, rng), normals(width, rng));
    let mut rstd = vec![0.0; rows];
    norm::rms_norm(&x, &weight, 1e-5, &mut vec![0.0; rows * width], &mut rstd);
    let (x_device, weight_device, rstd_device) =
        (put(device, &x)?, put_halves(device, &weight)?, put(device, &rstd)?);
    let mut worst = 0.0f64;
    for replace in [false, true] {
        let (dx, d_weight) = (put(device, &before)?, put(device, &d_weight_before)?);
        let dx_rounded = poisoned_halves(device, rows * width)?;
        let partial = poisoned(device, ops::partial_rows(rows) * width)?;
        let gradient = NormGradient {
            dx: all(&dx),
            dx_rounded: all(&dx_rounded),
            replace,
            d_weight: all(&d_weight),
            partial: all(&partial),
        };
        let (x, weight_slice, rstd_slice) = (all(&x_device), all(&weight_device), all(&rstd_device));
        if replace {
            // As the final norm does it: from f32, in place.
            dx.upload(0, &dy)?;
            ops::rms_norm_backward(&**device, x, weight_slice, rstd_slice, all(&dx), gradient)?;
        } else {
            let dy = put_halves(device, &dy)?;
            ops::rms_norm_backward(&**device, x, weight_slice, rstd_slice, all(&dy), gradient)?;
        }
        let mut theirs = if replace { vec![0.0; rows * width] } else { before.clone() };
        let mut d_weight_theirs = d_weight_before.clone();
        let x = read(&x_device)?;
        norm::rms_norm_backward(&x, &weight, &rstd, &dy, &mut theirs, &mut d_weight_theirs);
        worst = worst
            .max(relative_error(&read(&dx)?, &theirs))
            .max(relative_error(&read_halves(&dx_rounded)?, &theirs))
            .max(relative_error(&read(&d_weight)?, &d_weight_theirs));
    }
    Ok(worst)
}

fn rotation((device, scale, rng): Bench) -> Result<f64, Error> {
    let shape = HeadShape { heads: 3, kv_heads: 1, dim: 32 };
    let width = (shape.heads + 2 * shape.kv_heads) * shape.dim;
    let rows = 6 * scale;
    let config = small_config(shape);
    let mut rope = Rope::empty(device);
    rope.prepare(&config, 100)?;
    let mut table = RopeTable::default();
    table.prepare(shape.dim, config.rope_theta, 100);
    let positions: Vec<u32> = (0..rows).map(|_| rng.random_range(0..100)).collect();
    let (qkv, bias) = (halves(rows * width, rng), halves(width, rng));
    let (device_qkv, device_bias) = (put_halves(device, &qkv)?, put_halves(device, &bias)?);
    let positions_device = put(device, &positions)?;
    let angles = rope.angles(all(&positions_device));
    ops::rotate(&**device, all(&device_qkv), all(&device_bias), angles, shape)?;
    let mut theirs = qkv.clone();
    for (row, &position) in theirs.chunks_exact_mut(width).zip(&positions) {
        row.iter_mut().zip(&bias).for_each(|(x, b)| *x += b);
        for head in row.chunks_exact_mut(shape.dim).take(shape.heads + shape.kv_heads) {
            table.turn(head, position as usize, Turn::Forward);
        }
    }
    let forward = relative_error(&read_halves(&device_qkv)?, &theirs);
    ops::rotate_back(&**device, all(&device_qkv), angles, shape)?;
    for (row, &position) in theirs.chunks_exact_mut(width).zip(&positions) {
        for head in row.chunks_exact_mut(shape.dim).take(shape.heads + shape.kv_heads) {
            table.turn(head, position as usize, Turn::Back);
        }
    }
    Ok(forward.max(relative_error(&read_halves(&device_qkv)?, &theirs)))
}

fn swiglu_forward((device, scale, rng): Bench) -> Result<f64, Error> {
    let (rows, inner) = (7 * scale, 72);
    let gate_up = halves(rows * 2 * inner, rng);
    let (input, y) = (put_halves(device, &gate_up)?, poisoned_halves(device, rows * inner)?);
    ops::swiglu(&**device, all(&input), inner, all(&y))?;
    let mut theirs = vec![0.0; rows * inner];
    swiglu::swiglu(&gate_up, inner, &mut theirs);
    Ok(relative_error(&read_halves(&y)?, &theirs))
}

fn swiglu_backward((device, scale, rng): Bench) -> Result<f64, Error> {
    let (rows, inner) = (7 * scale, 72);
    let (gate_up, dy) = (halves(rows * 2 * inner, rng), halves(rows * inner, rng));
    let (gradient, dy_device) = (put_halves(device, &gate_up)?, put_halves(device, &dy)?);
    ops::swiglu_backward(&**device, all(&gradient), inner, all(&dy_device))?;
    let mut theirs = vec![0.0; rows * 2 * inner];
    swiglu::swiglu_backward(&gate_up, inner, &dy, &mut theirs);
    Ok(relative_error(&read_halves(&gradient)?, &theirs))
}

fn gather_and_scatter((device, scale, rng): Bench) -> Result<f64, Error> {
    let (rows, width) = (20 * scale, 48);
    let chosen: Vec<u32> = (0..rows as u32).filter(|row| row % 3 != 1).collect();
    let (source, mut target) = (halves(rows * width, rng), halves(rows * width, rng));
    let (source_device, target_device) = (put_halves(device, &source)?, put(device, &target)?);
    let (rows_device, gathered) = (put(device, &chosen)?, poisoned_halves(device, chosen.len() * width)?);
    ops::gather_rows(&**device, all(&source_device), all(&rows_device), all(&gathered))?;
    let theirs: Vec<f32> =
        chosen.iter().flat_map(|&row| &source[row as usize * width..][..width]).copied().collect();
    let error = relative_error(&read_halves(&gathered)?, &theirs);
    let added = put(device, &theirs)?;
    ops::scatter_add(&**device, all(&added), all(&rows_device), all(&target_device))?;
    for (&row, values) in chosen.iter().zip(theirs.chunks_exact(width)) {
        target[row as usize * width..].iter_mut().zip(values).for_each(|(sum, x)| *sum += x);
    }
    Ok(error.max(relative_error(&read(&target_device)?, &target)))
}

fn head_rows((device, scale, rng): Bench) -> Result<f64, Error> {
    // More than one round of a block in the pass that writes over what it reads.
    let (rows, vocabulary) = (3 * scale, 9_003);
    let stride = super::head::stride(vocabulary);
    let values = normals(rows * stride, rng);
    let targets: Vec<u32> = (0..rows).map(|_| rng.random_range(0..vocabulary as u32)).collect();
    let gradients = normals(2 * rows, rng);
    let (mut scores, mut d_logits) = (Vec::new(), Vec::new());
    for (row, &target) in targets.iter().enumerate() {
        let z: Vec<f64> = values[row * stride..][..vocabulary].iter().map(|&x| f64::from(x)).collect();
        let lse = z.iter().map(|z| z.exp()).sum::<f64>().ln();
        let entropy = -z.iter().map(|z| (z - lse).exp() * (z - lse)).sum::<f64>();
        scores.extend([z[target as usize] - lse, entropy, lse].map(|x| x as f32));
        let [g, e] = [gradients[2 * row], gradients[2 * row + 1]].map(f64::from);
        d_logits.extend(z.iter().enumerate().map(|(j, z)| {
            let own = if j == target as usize { g } else { 0.0 };
            (own - (z - lse).exp() * (g + e * (z - lse + entropy))) as f32
        }));
    }
    let (values, targets, gradients) =
        (put(device, &values)?, put(device, &targets)?, put(device, &gradients)?);
    let ours = poisoned(device, 3 * rows)?;
    let logits = Logits { values: all(&values), vocabulary, stride };
    ops::row_scores(&**device, logits, all(&targets), all(&ours))?;
    let error = relative_error(&read(&ours)?, &scores);
    ops::logit_gradient(&**device, logits, all(&targets), all(&ours), all(&gradients))?;
    let bits = read(&values)?;
    let halves = bits.iter().flat_map(|x| [x.to_bits() as u16, (x.to_bits() >> 16) as u16]);
    let halves: Vec<f32> = halves.map(|bits| bf16::from_bits(bits).to_f32()).collect();
    let ours: Vec<f32> =
        halves.chunks_exact(2 * stride).flat_map(|row| &row[..vocabulary]).copied().collect();
    Ok(error.max(relative_error(&ours, &d_logits)))
}

fn value_head((device, scale, rng): Bench) -> Result<f64, Error> {
    let (rows, width) = (40 * scale, 264);
    let hidden = halves(rows * width, rng);
    let critic = crate::ValueHead { params: normals(width + 1, rng) };
    let chosen: Vec<usize> = (0..rows).filter(|row| row % 4 != 2).collect();
    let (d_values, d_hidden) = (normals(chosen.len(), rng), normals(rows * width, rng));
    let rows_device = put(device, &chosen.iter().map(|&row| row as u32).collect::<Vec<_>>())?;
    let (hidden_device, params) = (put_halves(device, &hidden)?, put(device, &critic.params)?);
    let (values, d_values_device) = (poisoned(device, chosen.len())?, put(device, &d_values)?);
    let d_hidden_device = put(device, &d_hidden)?;
    let (gradient, partial) =
        (put(device, &vec![0.0; width])?, poisoned(device, ops::partial_rows(chosen.len()) * width)?);
    let (hidden_slice, rows_slice) = (all(&hidden_device), all(&rows_device));
    ops::row_values(&**device, hidden_slice, rows_slice, all(&params), all(&values))?;
    let pairs = Some((rows_slice, all(&d_values_device)));
    ops::weighted_sums(&**device, hidden_slice, pairs, all(&gradient), all(&partial))?;
    ops::values_backward(&**device, all(&params), rows_slice, all(&d_values_device), all(&d_hidden_device))?;

    let (mut grads, mut d_hidden) = (vec![0.0; width + 1], d_hidden);
    critic.backward(&hidden, &chosen, &d_values, Some(&mut d_hidden), &mut grads);
    Ok(relative_error(&read(&values)?, &critic.values(&hidden, &chosen))
        .max(relative_error(&read(&gradient)?, &grads[..width]))
        .max(relative_error(&read(&d_hidden_device)?, &d_hidden)))
}

fn adamw((device, scale, rng): Bench) -> Result<f64, Error> {
    let count = 4_000 * scale;
    let (mut params, grads) = (normals(count, rng), normals(count, rng));
    let config = AdamWConfig { weight_decay: 0.1, ..AdamWConfig::default() };
    let mut optimizer = AdamW::new(config, count);
    optimizer.step = 3;
    optimizer.first_moment = normals(count, rng);
    optimizer.second_moment = normals(count, rng).into_iter().map(f32::abs).collect();
    let state = [&params, &grads, &optimizer.first_moment, &optimizer.second_moment];
    let [weights, gradient, first, second] = state.map(|values| put(device, values));
    let (weights, gradient, first, second) = (weights?, gradient?, first?, second?);
    let sums = poisoned(device, ops::square_blocks(count))?;
    ops::square_sums(&**device, all(&gradient), all(&sums))?;
    let ours = read(&sums)?.iter().map(|&x| f64::from(x)).sum::<f64>().sqrt() as f32;
    let norm_error = relative_error(&[ours], &[crate::grad_norm(&[&grads])]);

    let rounded = poisoned_halves(device, count)?;
    let slices = [&weights, &gradient, &first, &second].map(all);
    ops::adamw(&**device, slices, all(&rounded), 0.5, Update::new(config, 4, 0.01))?;
    let halved: Vec<f32> = grads.iter().map(|g| 0.5 * g).collect();
    optimizer.step(&mut params, &halved, 0.01);
    let exactly_rounded = to_halves(&read(&weights)?) == rounded.to_host(count)?;
    let zeroed = read(&gradient)?.iter().all(|&g| g == 0.0);
    Ok(relative_error(&read(&weights)?, &params)
        .max(relative_error(&read(&first)?, &optimizer.first_moment))
        .max(relative_error(&read(&second)?, &optimizer.second_moment))
        .max(norm_error)
        .max(if exactly_rounded && zeroed { 0.0 } else { 1.0 }))
}

fn small_config(shape: HeadShape) -> ModelConfig {
    ModelConfig {
        architecture: crate::Architecture::Qwen2,
        vocab_size: 203,
        hidden_size: 64,
        intermediate_size: 136,
        num_hidden_layers: 2,
        num_attention_heads: shape.heads,
        num_key_value_heads: shape.kv_heads,
        head_dim: shape.dim,
        max_position_embeddings: 4096,
        rms_norm_eps: 1e-6,
        rope_theta: 1e4,
        tie_word_embeddings: true,
    }
}

/// Some heads of rows `[T, all heads, D]`, kept by heads as the CPU's attention wants them.
fn by_heads(
    rows: &[f32],
    packed: &Packed,
    width: usize,
    heads: std::ops::Range<usize>,
    dim: usize,
) -> Vec<f32> {
    let mut out = Vec::new();
    for sequence in packed.sequences() {
        for head in heads.clone() {
            for row in sequence.clone() {
                out.extend_from_slice(&rows[row * width + head * dim..][..dim]);
            }
        }
    }
    out
}

fn attention((device, scale, rng): Bench, shape: HeadShape) -> Result<f64, Error> {
    let HeadShape { heads, kv_heads, dim } = shape;
    let width = (heads + 2 * kv_heads) * dim;
    // Shorter than a tile, exactly one, and several with a rest.
    let lengths = [1, 64, 40 * scale + 70, 7];
    let packed = Packed::new(&lengths.map(|length| vec![0; length]));
    let tokens = packed.tokens();
    let (qkv, d_o) = (halves(tokens * width, rng), halves(tokens * heads * dim, rng));
    let mut batch = Batch::empty(device);
    batch.set(&packed, Keep::Activations)?;
    let (qkv_device, d_o_device) = (put_halves(device, &qkv)?, put_halves(device, &d_o)?);
    let (o, lse) = (poisoned_halves(device, tokens * heads * dim)?, poisoned(device, tokens * heads)?);
    ops::attention_forward(&**device, all(&qkv_device), batch.tiles(), shape, all(&o), all(&lse))?;
    let (delta, d_qkv) = (poisoned(device, tokens * heads)?, poisoned_halves(device, tokens * width)?);
    let gradient = AttentionGradient {
        qkv: all(&qkv_device),
        o: all(&o),
        lse: all(&lse),
        d_o: all(&d_o_device),
        delta: all(&delta),
    };
    ops::attention_backward(&**device, gradient, batch.tiles(), shape, all(&d_qkv))?;

    let ranges = [0..heads, heads..heads + kv_heads, heads + kv_heads..heads + 2 * kv_heads];
    let [q, k, v] = ranges.clone().map(|range| by_heads(&qkv, &packed, width, range, dim));
    let d_o = by_heads(&d_o, &packed, heads * dim, 0..heads, dim);
    let (mut o_theirs, mut lse_theirs) = (vec![0.0; q.len()], vec![0.0; tokens * heads]);
    crate::attention::forward([&q, &k, &v], &packed, shape, &mut o_theirs, &mut lse_theirs);
    let (mut dq, mut dk, mut dv) = (vec![0.0; q.len()], vec![0.0; k.len()], vec![0.0; v.len()]);
    crate::attention::backward(
        [&q, &k, &v, &o_theirs, &lse_theirs, &d_o],
        &packed,
        shape,
        [&mut dq, &mut dk, &mut dv],
    );
    let o = by_heads(&read_halves(&o)?, &packed, heads * dim, 0..heads, dim);
    let lse = by_heads(&read(&lse)?, &packed, heads, 0..heads, 1);
    let d_qkv = read_halves(&d_qkv)?;
    let mut worst = relative_error(&o, &o_theirs).max(relative_error(&lse, &lse_theirs));
    for (range, theirs) in ranges.into_iter().zip([dq, dk, dv]) {
        worst = worst.max(relative_error(&by_heads(&d_qkv, &packed, width, range, dim), &theirs));
    }
    Ok(worst)
}

/// Attention of one query over some keys, in f64.
fn attend(q: &[f32], keys: &[f32], values: &[f32]) -> Vec<f32> {
    let dim = q.len();
    let dot = |k: &[f32]| q.iter().zip(k).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum::<f64>();
    let scores: Vec<f64> = keys.chunks_exact(dim).map(|k| (dot(k) / (dim as f64).sqrt()).exp()).collect();
    let total: f64 = scores.iter().sum();
    let mix = |column: usize| {
        scores.iter().enumerate().map(|(i, p)| p * f64::from(values[i * dim + column])).sum::<f64>() / total
    };
    (0..dim).map(|column| mix(column) as f32).collect()
}

fn decode_attention((device, scale, rng): Bench, shape: HeadShape) -> Result<f64, Error> {
    let HeadShape { heads, kv_heads, dim } = shape;
    let width = (heads + 2 * kv_heads) * dim;
    let mut worst = 0.0f64;
    // One share, then two: the last token of a share, the first of the next.
    for (capacity, lengths) in [(100, [0, 99, 31, 57]), (ops::SPAN + 88, [511, 512, 3, 512 + 10 * scale])] {
        let slots = lengths.len();
        let size = slots * kv_heads * capacity * dim;
        let (qkv, mut keys, mut values) = (halves(slots * width, rng), halves(size, rng), halves(size, rng));
        let (keys_device, values_device) = (put_halves(device, &keys)?, put_halves(device, &values)?);
        let lengths_device = put(device, &lengths.map(|length| length as u32))?;
        let finished = put(device, &[0u32; 4])?;
        let (qkv_device, out) = (put_halves(device, &qkv)?, poisoned_halves(device, slots * heads * dim)?);
        let shares = poisoned(device, ops::share_elements(slots, capacity, shape))?;
        let cache = LayerCache { keys: all(&keys_device), values: all(&values_device), capacity };
        ops::append_cache(&**device, all(&qkv_device), all(&lengths_device), cache, shape)?;
        let state = [all(&lengths_device), all(&finished)];
        ops::decode_attention(&**device, all(&qkv_device), state, cache, shape, all(&out), all(&shares))?;
        let mut theirs = Vec::new();
        for (slot, &length) in lengths.iter().enumerate() {
            let row = &qkv[slot * width..][..width];
            for head in 0..heads {
                let kv_head = head / shape.group();
                let start = (slot * kv_heads + kv_head) * capacity * dim;
                let at = start + length * dim;
                keys[at..at + dim].copy_from_slice(&row[(heads + kv_head) * dim..][..dim]);
                values[at..at + dim].copy_from_slice(&row[(heads + kv_heads + kv_head) * dim..][..dim]);
                let seen = start..at + dim;
                theirs.extend(attend(&row[head * dim..][..dim], &keys[seen.clone()], &values[seen]));
            }
        }
        worst = worst.max(relative_error(&read_halves(&out)?, &theirs));
    }
    Ok(worst)
}

/// The largest difference between frequency and probability in many draws, for each way of drawing; 1 where something
/// that must hold exactly does not.
fn draws((device, scale, rng): Bench) -> Result<f64, Error> {
    let probabilities = [0.2f32, 0.5, 0.1, 0.2];
    // Enough for a block of several warps, and a rest. What lies behind the vocabulary must not be drawn.
    let (vocabulary, slots, tokens) = (601, 300 * scale, [0, 77, 301, 600]);
    let stride = super::head::stride(vocabulary);
    let mut row = vec![-1e30; stride];
    row[vocabulary..].fill(50.0);
    tokens.iter().zip(probabilities).for_each(|(&token, p)| row[token] = p.ln() + 3.0);
    let logits = put(device, &row.repeat(slots))?;
    let seed: u32 = rng.random();
    let mut worst = 0.0f64;
    let cases: [(f32, f32, u32, [f64; 4], f32); 6] = [
        (1.0, 1.0, 0, [0.2, 0.5, 0.1, 0.2], 0.5),
        (2.0, 1.0, 0, [0.118, 0.735, 0.029, 0.118], 0.25 / 0.34),
        (1.0, 0.45, 0, [0.0, 1.0, 0.0, 0.0], 0.5),
        // Two tokens lie at the border, and both stay.
        (1.0, 0.65, 0, [0.222, 0.556, 0.0, 0.222], 0.5),
        (1.0, 1.0, 1, [0.0, 1.0, 0.0, 0.0], 0.5),
        (0.0, 1.0, 0, [0.0, 1.0, 0.0, 0.0], 0.5),
    ];
    for (inverse_temperature, top_p, top_k, expected, of_second) in cases {
        let how = put(device, &[inverse_temperature.to_bits(), top_p.to_bits(), top_k, seed, 5, 1])?;
        let stop_tokens = put(device, &[tokens[2] as u32])?;
        let state: Vec<[u32; 4]> = (0..slots as u32).map(|slot| [slot, 7, 10, 1]).collect();
        let (slot_state, ids) = (put(device, &state)?, put(device, &vec![9u32; slots])?);
        let (lengths, finished) = (put(device, &vec![20u32; slots])?, put(device, &vec![0u32; slots])?);
        let (drawn_ids, logprobs) =
            (put(device, &vec![9u32; LOOK * slots])?, poisoned(device, LOOK * slots)?);
        let draws = Draws {
            how: all(&how),
            stop_tokens: all(&stop_tokens),
            ids: all(&drawn_ids),
            logprobs: all(&logprobs),
        };
        let state = SlotState {
            slots: all(&slot_state),
            ids: all(&ids),
            lengths: all(&lengths),
            finished: all(&finished),
        };
        ops::draw(&**device, Logits { values: all(&logits), vocabulary, stride }, draws, state)?;
        let (ids, lengths, finished) =
            (ids.to_host(slots)?, lengths.to_host(slots)?, finished.to_host(slots)?);
        let drawn = drawn_ids.to_host(2 * slots)?.split_off(slots);
        let logprobs = logprobs.to_host(2 * slots)?.split_off(slots);
        let mut counts = [0.0; 4];
        for slot in 0..slots {
            let which = tokens.iter().position(|&token| token as u32 == ids[slot]);
            let ended = which == Some(2);
            let right = which.is_some()
                && drawn[slot] == ids[slot]
                && (finished[slot] == 1) == ended
                && lengths[slot] == if ended { 20 } else { 21 }
                && (which != Some(1) || (logprobs[slot] - of_second.ln()).abs() < 1e-4);
            worst = worst.max(if right { 0.0 } else { 1.0 });
            counts[which.unwrap_or(0)] += 1.0 / slots as f64;
        }
        for (found, expected) in counts.into_iter().zip(expected) {
            worst = worst.max((found - expected).abs());
            worst = worst.max(if expected == 0.0 && found > 0.0 { 1.0 } else { 0.0 });
        }
        if slot_state.to_host(1)? != [[0, 8, 9, 2]] {
            // One more token drawn, one fewer to draw, one more since the last look.
            worst = 1.0;
        }
    }
    Ok(worst)
}
