//! The buffers of the passes, reused from batch to batch. They grow to the largest batch seen.

use std::sync::Arc;

use half::bf16;

use super::Error;
use super::device::{Buffer, Device, Slice};
use super::ops::{self, Angles, TILE};
use crate::Keep;
use crate::config::ModelConfig;
use crate::ops::rope::RopeTable;
use crate::packed::Packed;

/// A batch of sequences on the device.
#[derive(Debug)]
pub(crate) struct Batch {
    pub(crate) packed: Packed,
    ids: Buffer<u32>,
    positions: Buffer<u32>,
    tiles: Buffer<[i32; 4]>,
    tile_count: usize,
    /// For the gradient of the embedding: distinct ids, where the rows of each start in the order, the order.
    by_token: [Buffer<u32>; 3],
    distinct: usize,
}

impl Batch {
    pub(crate) fn empty(device: &Arc<dyn Device>) -> Self {
        Self {
            packed: Packed::default(),
            ids: Buffer::empty(device),
            positions: Buffer::empty(device),
            tiles: Buffer::empty(device),
            tile_count: 0,
            by_token: [(); 3].map(|()| Buffer::empty(device)),
            distinct: 0,
        }
    }

    /// Replaces the batch.
    pub(crate) fn set(&mut self, packed: &Packed, keep: Keep) -> Result<(), Error> {
        let positions: Vec<u32> = packed.sequences().flat_map(|rows| 0..rows.len() as u32).collect();
        self.ids.set(&packed.ids)?;
        self.positions.set(&positions)?;
        let tiles = tiles(packed);
        self.tiles.set(&tiles)?;
        self.tile_count = tiles.len();
        if keep == Keep::Activations {
            let by_token = by_token(&packed.ids);
            self.distinct = by_token[0].len();
            for (buffer, values) in self.by_token.iter_mut().zip(&by_token) {
                buffer.set(values)?;
            }
        }
        self.packed.clone_from(packed);
        Ok(())
    }

    pub(crate) fn tokens(&self) -> usize {
        self.packed.tokens()
    }

    pub(crate) fn ids(&self) -> Slice<u32> {
        self.ids.first(self.tokens())
    }

    pub(crate) fn tiles(&self) -> Slice<[i32; 4]> {
        self.tiles.first(self.tile_count)
    }

    pub(crate) fn by_token(&self) -> [Slice<u32>; 3] {
        let [ids, starts, order] = &self.by_token;
        [ids.first(self.distinct), starts.first(self.distinct + 1), order.first(self.tokens())]
    }

    pub(crate) fn angles(&self, rope: &Rope) -> Angles {
        rope.angles(self.positions.first(self.tokens()))
    }
}

/// The tiles of `attention.cu`. Those with most keys behind them come first, so that the last blocks to start are short ones.
fn tiles(packed: &Packed) -> Vec<[i32; 4]> {
    let of = |rows: std::ops::Range<usize>| {
        (0..rows.len())
            .step_by(TILE)
            .map(move |first| [rows.start as i32, rows.len() as i32, first as i32, 0])
    };
    let mut tiles: Vec<[i32; 4]> = packed.sequences().flat_map(of).collect();
    tiles.sort_by_key(|tile| std::cmp::Reverse(tile[2]));
    tiles
}

/// Rows by the token they show: see `embedding_gradient` in `rows.cu`.
fn by_token(ids: &[u32]) -> [Vec<u32>; 3] {
    let mut order: Vec<u32> = (0..ids.len() as u32).collect();
    order.sort_by_key(|&row| ids[row as usize]);
    let (mut distinct, mut starts) = (Vec::new(), Vec::new());
    for (i, &row) in order.iter().enumerate() {
        let id = ids[row as usize];
        if distinct.last() != Some(&id) {
            distinct.push(id);
            starts.push(i as u32);
        }
    }
    starts.push(ids.len() as u32);
    [distinct, starts, order]
}

/// Cosines and sines on the device.
#[derive(Debug)]
pub(crate) struct Rope {
    table: RopeTable,
    positions: usize,
    cos: Buffer<f32>,
    sin: Buffer<f32>,
}

impl Rope {
    pub(crate) fn empty(device: &Arc<dyn Device>) -> Self {
        Self {
            table: RopeTable::default(),
            positions: 0,
            cos: Buffer::empty(device),
            sin: Buffer::empty(device),
        }
    }

    /// Makes sure that there are angles for this many positions. Returns whether the tables had to move.
    pub(crate) fn prepare(&mut self, config: &ModelConfig, positions: usize) -> Result<bool, Error> {
        if positions <= self.positions {
            return Ok(false);
        }
        // In steps, so that ever longer sequences do not copy it each time.
        let positions = positions.next_multiple_of(1024);
        self.table.prepare(config.head_dim, config.rope_theta, positions);
        let [cos, sin] = self.table.tables();
        self.cos.set(cos)?;
        self.sin.set(sin)?;
        self.positions = positions;
        Ok(true)
    }

    pub(crate) fn angles(&self, positions: Slice<u32>) -> Angles {
        Angles { positions, cos: self.cos.first(self.cos.len()), sin: self.sin.first(self.sin.len()) }
    }
}

/// What one layer leaves for its backward pass.
#[derive(Debug)]
struct Layer {
    input: Buffer<f32>,
    input_rstd: Buffer<f32>,
    qkv: Buffer<bf16>,
    o: Buffer<bf16>,
    lse: Buffer<f32>,
    middle: Buffer<f32>,
    middle_rstd: Buffer<f32>,
    gate_up: Buffer<bf16>,
}

/// The same, cut to the batch.
#[derive(Clone, Copy)]
pub(crate) struct LayerSlices {
    /// The residual stream at the layer's start: `[T, E]`
    pub(crate) input: Slice<f32>,
    /// `[T]`
    pub(crate) input_rstd: Slice<f32>,
    /// With bias and turned: `[T, (H + 2 G) D]`
    pub(crate) qkv: Slice<bf16>,
    /// `[T, H D]`
    pub(crate) o: Slice<bf16>,
    /// `[T, H]`
    pub(crate) lse: Slice<f32>,
    /// The residual stream between the two halves: `[T, E]`
    pub(crate) middle: Slice<f32>,
    /// `[T]`
    pub(crate) middle_rstd: Slice<f32>,
    /// `[T, 2 I]`
    pub(crate) gate_up: Slice<bf16>,
}

/// All buffers of the passes.
#[derive(Debug)]
pub(crate) struct Workspace {
    device: Arc<dyn Device>,
    /// One entry a layer, or a single one where nothing is kept.
    layers: Vec<Layer>,
    pub(crate) keep: Keep,
    tokens: usize,
    final_input: Buffer<f32>,
    final_rstd: Buffer<f32>,
    hidden: Buffer<bf16>,
    normed: Buffer<bf16>,
    update: Buffer<bf16>,
    activation: Buffer<bf16>,
    d_residual: Buffer<f32>,
    d_rounded: Buffer<bf16>,
    d_attention: Buffer<bf16>,
    delta: Buffer<f32>,
    d_qkv: Buffer<bf16>,
    partial: Buffer<f32>,
}

/// What does not belong to a layer, cut to the batch.
#[derive(Clone, Copy)]
pub(crate) struct SharedSlices {
    /// The residual stream at the end: `[T, E]`
    pub(crate) final_input: Slice<f32>,
    /// `[T]`
    pub(crate) final_rstd: Slice<f32>,
    /// After the final norm: `[T, E]`
    pub(crate) hidden: Slice<bf16>,
    /// `[T, E]`
    pub(crate) normed: Slice<bf16>,
    /// What a half layer adds to the residual stream, and backward the gradient of `normed`: `[T, E]`
    pub(crate) update: Slice<bf16>,
    /// `[T, I]`
    pub(crate) activation: Slice<bf16>,
}

/// What only the backward pass uses, cut to the batch.
#[derive(Clone, Copy)]
pub(crate) struct BackwardSlices {
    /// The gradient of the hidden states first, then that of the residual stream: `[T, E]`
    pub(crate) d_residual: Slice<f32>,
    /// The same in bf16.
    pub(crate) d_rounded: Slice<bf16>,
    /// `[T, H D]`
    pub(crate) d_attention: Slice<bf16>,
    /// `[T, H]`
    pub(crate) delta: Slice<f32>,
    /// `[T, (H + 2 G) D]`
    pub(crate) d_qkv: Slice<bf16>,
    /// First stages of sums over rows.
    pub(crate) partial: Slice<f32>,
}

impl Workspace {
    pub(crate) fn empty(device: &Arc<dyn Device>) -> Self {
        let (floats, halves) = (|| Buffer::empty(device), || Buffer::empty(device));
        Self {
            device: device.clone(),
            layers: Vec::new(),
            keep: Keep::Nothing,
            tokens: 0,
            final_input: floats(),
            final_rstd: floats(),
            hidden: halves(),
            normed: halves(),
            update: halves(),
            activation: halves(),
            d_residual: floats(),
            d_rounded: halves(),
            d_attention: halves(),
            delta: floats(),
            d_qkv: halves(),
            partial: floats(),
        }
    }

    /// Makes room for a batch of this many tokens.
    pub(crate) fn prepare(&mut self, config: &ModelConfig, tokens: usize, keep: Keep) -> Result<(), Error> {
        let (hidden, heads) = (tokens * config.hidden_size, config.num_attention_heads);
        let count = if keep == Keep::Activations { config.num_hidden_layers } else { 1 };
        let device = &self.device;
        while self.layers.len() < count {
            self.layers.push(Layer::empty(device));
        }
        for layer in &mut self.layers[..count] {
            layer.input.grow(hidden)?;
            layer.input_rstd.grow(tokens)?;
            layer.qkv.grow(tokens * config.qkv_size())?;
            layer.o.grow(tokens * config.attention_size())?;
            layer.lse.grow(tokens * heads)?;
            layer.middle.grow(hidden)?;
            layer.middle_rstd.grow(tokens)?;
            layer.gate_up.grow(tokens * 2 * config.intermediate_size)?;
        }
        self.final_input.grow(hidden)?;
        self.final_rstd.grow(tokens)?;
        self.hidden.grow(hidden)?;
        self.normed.grow(hidden)?;
        self.update.grow(hidden)?;
        self.activation.grow(tokens * config.intermediate_size)?;
        if keep == Keep::Activations {
            self.d_residual.grow(hidden)?;
            self.d_rounded.grow(hidden)?;
            self.d_attention.grow(tokens * config.attention_size())?;
            self.delta.grow(tokens * heads)?;
            self.d_qkv.grow(tokens * config.qkv_size())?;
            self.partial.grow(ops::partial_rows(tokens) * config.hidden_size.max(config.qkv_size()))?;
        }
        (self.tokens, self.keep) = (tokens, keep);
        Ok(())
    }

    pub(crate) fn layer(&self, index: usize, config: &ModelConfig) -> LayerSlices {
        let kept = if self.keep == Keep::Activations { self.layers.len() } else { 1 };
        let (layer, tokens) = (&self.layers[index % kept], self.tokens);
        let hidden = tokens * config.hidden_size;
        LayerSlices {
            input: layer.input.first(hidden),
            input_rstd: layer.input_rstd.first(tokens),
            qkv: layer.qkv.first(tokens * config.qkv_size()),
            o: layer.o.first(tokens * config.attention_size()),
            lse: layer.lse.first(tokens * config.num_attention_heads),
            middle: layer.middle.first(hidden),
            middle_rstd: layer.middle_rstd.first(tokens),
            gate_up: layer.gate_up.first(tokens * 2 * config.intermediate_size),
        }
    }

    pub(crate) fn shared(&self, config: &ModelConfig) -> SharedSlices {
        let hidden = self.tokens * config.hidden_size;
        SharedSlices {
            final_input: self.final_input.first(hidden),
            final_rstd: self.final_rstd.first(self.tokens),
            hidden: self.hidden.first(hidden),
            normed: self.normed.first(hidden),
            update: self.update.first(hidden),
            activation: self.activation.first(self.tokens * config.intermediate_size),
        }
    }

    pub(crate) fn backward(&self, config: &ModelConfig) -> BackwardSlices {
        let hidden = self.tokens * config.hidden_size;
        BackwardSlices {
            d_residual: self.d_residual.first(hidden),
            d_rounded: self.d_rounded.first(hidden),
            d_attention: self.d_attention.first(self.tokens * config.attention_size()),
            delta: self.delta.first(self.tokens * config.num_attention_heads),
            d_qkv: self.d_qkv.first(self.tokens * config.qkv_size()),
            partial: self.partial.first(self.partial.len()),
        }
    }
}

impl Layer {
    fn empty(device: &Arc<dyn Device>) -> Self {
        Self {
            input: Buffer::empty(device),
            input_rstd: Buffer::empty(device),
            qkv: Buffer::empty(device),
            o: Buffer::empty(device),
            lse: Buffer::empty(device),
            middle: Buffer::empty(device),
            middle_rstd: Buffer::empty(device),
            gate_up: Buffer::empty(device),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_ordered_by_token() {
        assert_eq!(by_token(&[5, 9, 5]), [vec![5, 9], vec![0, 2, 3], vec![0, 2, 1]]);
    }

    #[test]
    fn tiles_cover_sequences_the_late_ones_first() {
        let packed = Packed::new(&[vec![0; 40], vec![0; 150]]);
        assert_eq!(tiles(&packed), [[40, 150, 128, 0], [40, 150, 64, 0], [0, 40, 0, 0], [40, 150, 0, 0]]);
    }
}
