//! Where passes are computed, as the losses see it: on the CPU in lanes, or on a GPU.
//!
//! A loss is written once, against [`Passes`]: it runs a model on a micro-batch, looks at log-probabilities and values, and says how it
//! depends on them. A [`Backend`] cuts a mini-batch into micro-batches and lends each of them the passes of one model.

use std::ops::Range;

use crate::cuda::Engine;
use crate::head::{self, Rows, TokenGradient, TokenScores};
use crate::lanes::{Lane, Lanes, micro_batches};
use crate::value::{ValueGradient, ValueHead};
use crate::{Error, Keep, Model, Packed, backward, forward};

/// How a loss depends on the log-probability and the entropy of a scored row: gets its index among the rows and both numbers.
pub(crate) type Slope<'f> = &'f (dyn Fn(usize, f32, f32) -> TokenGradient + Sync);

/// The passes of one model over one micro-batch. All but the first speak of the last batch that went forward.
pub(crate) trait Passes {
    /// Runs the model on a batch.
    fn forward(&mut self, batch: &Packed) -> Result<(), Error>;

    /// Log-probabilities and entropies of some rows.
    fn score(&mut self, scored: Rows) -> Result<TokenScores, Error>;

    /// What a value head says of some rows.
    fn values(&mut self, critic: &ValueHead, rows: &[usize]) -> Result<Vec<f32>, Error>;

    /// Adds the gradient of a loss to that of the model, and returns the scores it is a function of. `batch` is what went forward.
    fn accumulate(
        &mut self,
        batch: &Packed,
        scored: Rows,
        slope: Slope,
        values: Option<ValueGradient>,
    ) -> Result<TokenScores, Error>;

    /// Adds the gradient of a loss to that of a value head alone.
    fn accumulate_head(&mut self, values: ValueGradient) -> Result<(), Error>;
}

/// A model and what its passes need.
pub(crate) enum Backend<'p> {
    Cpu { model: &'p Model, lanes: &'p mut Lanes },
    Gpu { engine: &'p mut Engine, keep: Keep },
}

impl Backend<'_> {
    /// Runs `pass` on every micro-batch of sequences of these lengths and returns its results in order.
    pub(crate) fn each<T: Send>(
        self,
        lengths: &[usize],
        max_tokens: usize,
        pass: impl Fn(Range<usize>, &mut dyn Passes) -> Result<T, Error> + Sync,
    ) -> Result<Vec<T>, Error> {
        match self {
            Self::Cpu { model, lanes } => {
                let on_lane = |range, lane: &mut Lane| pass(range, &mut OnCpu { model, lane });
                lanes.run(lengths, max_tokens, on_lane).into_iter().collect()
            }
            Self::Gpu { engine, keep } => {
                let ranges = micro_batches(lengths, max_tokens, 1).into_iter();
                ranges.map(|range| pass(range, &mut OnGpu { engine: &mut *engine, keep })).collect()
            }
        }
    }
}

struct OnCpu<'p> {
    model: &'p Model,
    lane: &'p mut Lane,
}

impl Passes for OnCpu<'_> {
    fn forward(&mut self, batch: &Packed) -> Result<(), Error> {
        forward(self.model, batch, &mut self.lane.workspace);
        Ok(())
    }

    fn score(&mut self, scored: Rows) -> Result<TokenScores, Error> {
        Ok(head::score(self.model, self.lane.workspace.hidden(), scored))
    }

    fn values(&mut self, critic: &ValueHead, rows: &[usize]) -> Result<Vec<f32>, Error> {
        Ok(critic.values(self.lane.workspace.hidden(), rows))
    }

    fn accumulate(
        &mut self,
        batch: &Packed,
        scored: Rows,
        slope: Slope,
        values: Option<ValueGradient>,
    ) -> Result<TokenScores, Error> {
        let Lane { workspace, grads } = &mut *self.lane;
        let mut d_hidden = vec![0.0; workspace.hidden().len()]; // [T, E]
        let scores = head::backward(self.model, workspace.hidden(), scored, slope, &mut d_hidden, grads);
        if let Some(values) = values {
            values.backward(workspace.hidden(), Some(&mut d_hidden));
        }
        backward(self.model, batch, workspace, &d_hidden, grads);
        Ok(scores)
    }

    fn accumulate_head(&mut self, values: ValueGradient) -> Result<(), Error> {
        values.backward(self.lane.workspace.hidden(), None);
        Ok(())
    }
}

struct OnGpu<'p> {
    engine: &'p mut Engine,
    keep: Keep,
}

impl Passes for OnGpu<'_> {
    fn forward(&mut self, batch: &Packed) -> Result<(), Error> {
        Ok(self.engine.forward(batch, self.keep)?)
    }

    fn score(&mut self, scored: Rows) -> Result<TokenScores, Error> {
        Ok(self.engine.score(scored)?)
    }

    fn values(&mut self, critic: &ValueHead, rows: &[usize]) -> Result<Vec<f32>, Error> {
        Ok(self.engine.values(critic, rows)?)
    }

    fn accumulate(
        &mut self,
        _: &Packed,
        scored: Rows,
        slope: Slope,
        values: Option<ValueGradient>,
    ) -> Result<TokenScores, Error> {
        Ok(self.engine.accumulate(scored, slope, values)?)
    }

    fn accumulate_head(&mut self, values: ValueGradient) -> Result<(), Error> {
        Ok(self.engine.accumulate_head(values)?)
    }
}
