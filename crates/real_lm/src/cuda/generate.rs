//! Completions for many prompts: `crate::generate` on a device.
//!
//! The same contract: sequences enter slots, advance together, and leave when they end; a prompt that waits takes the
//! place of one that has ended. Every sequence draws from its own random stream, a function of the seed, its number among
//! the prompts and the place in the completion. What differs is when the host looks: every [`LOOK`] steps. A
//! completion that `on_token` stops is cut there, and what the device had drawn behind it is dropped.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use super::decode::{Decoder, LOOK, Seen};
use super::device::Buffer;
use super::forward::forward;
use super::{Engine, Error, ops};
use crate::heads::HeadShape;
use crate::packed::Packed;
use crate::{Finish, Generated, Keep, Sampling};

/// Tokens of prompts that go through one forward pass, unless one alone is longer.
pub const PREFILL_TOKENS: usize = 16_384;

/// Slots and capacity of a decoder are multiples of these, so that similar batches of prompts find the decoder that is there.
const SLOT_STEP: usize = 8;
const CAPACITY_STEP: usize = 64;

/// A sequence in a slot.
struct Live {
    /// Number of its prompt.
    index: usize,
    generated: Generated,
    ended: bool,
}

impl Engine {
    /// Completes every prompt; the results are in the order of the prompts.
    ///
    /// `on_token` gets the number of a prompt and its completion so far, after each token, and can stop it; `on_finished` gets
    /// each completion once it has ended. See [`generate`](crate::generate()) for the rest of the contract.
    ///
    /// # Panics
    /// If a prompt is empty.
    pub fn generate(
        &mut self,
        prompts: &[Vec<u32>],
        sampling: &Sampling,
        mut on_token: impl FnMut(usize, &[u32]) -> ControlFlow<()>,
        mut on_finished: impl FnMut(usize, &Generated),
    ) -> Result<Vec<Generated>, Error> {
        let mut results: Vec<Option<Generated>> = vec![None; prompts.len()];
        let mut finish = |index: usize, generated: Generated| {
            on_finished(index, &generated);
            results[index] = Some(generated);
        };
        let mut decoder = self.take_decoder(prompts, sampling)?;
        decoder.set_sampling(sampling)?;
        let mut live: Vec<Option<Live>> = (0..decoder.slots).map(|_| None).collect();
        let mut seen = Seen::idle(decoder.slots);
        let mut waiting = prompts.iter().enumerate();
        loop {
            let newcomers = admit(
                &mut live,
                &mut waiting,
                |prompt| self.budget(prompt, sampling),
                &mut seen,
                &mut finish,
            );
            self.prefill(&newcomers, prompts, &decoder)?;
            let longest = seen.slots.iter().zip(&seen.finished).filter(|(_, finished)| **finished == 0);
            let Some(longest) = longest.map(|(slot, _)| slot[2] as usize).max() else { break };
            decoder.upload(&seen)?;
            decoder.steps(&*self.device, &self.weights, &self.rope, longest.min(LOOK))?;
            seen = decoder.look()?;
            for (slot, place) in live.iter_mut().enumerate() {
                let Some(sequence) = place else { continue };
                sequence.take_in(slot, &mut seen, sampling, &mut on_token);
                if sequence.ended {
                    seen.finished[slot] = 1;
                    let sequence = place.take().expect("it was just looked at");
                    finish(sequence.index, sequence.generated);
                }
            }
        }
        self.decoder = Some(decoder);
        Ok(results.into_iter().map(|result| result.expect("every prompt was completed")).collect())
    }

    /// Gives back the memory of the caches, which otherwise stays for the next prompts.
    pub fn release_caches(&mut self) {
        self.decoder = None;
    }

    /// Tokens that a prompt may get.
    fn budget(&self, prompt: &[u32], sampling: &Sampling) -> usize {
        let room = self.weights.config.max_position_embeddings.saturating_sub(prompt.len());
        sampling.max_new_tokens.min(room)
    }

    /// The decoder that is there, if it is large enough and not needlessly large in slots, which all cost time; else a new one.
    fn take_decoder(&mut self, prompts: &[Vec<u32>], sampling: &Sampling) -> Result<Decoder, Error> {
        // The last token that is drawn is never taken in.
        let needed = prompts.iter().map(|prompt| prompt.len() + self.budget(prompt, sampling)).max();
        let [slots, capacity] =
            rounded(sampling.batch.clamp(1, prompts.len().max(1)), needed.unwrap_or(0).max(1));
        let moved = self.rope.prepare(&self.weights.config, capacity)?;
        let old = self.decoder.take().filter(|old| old.slots == slots && old.capacity >= capacity);
        let mut decoder = match old {
            Some(old) => old,
            None => Decoder::new(&self.device, &self.weights, slots, capacity)?,
        };
        if moved {
            decoder.forget_recording();
        }
        Ok(decoder)
    }

    /// Fills the caches of slots with all but the last token of their prompts. Equal prompts go through the model once.
    fn prefill(
        &mut self,
        newcomers: &[(usize, usize)],
        prompts: &[Vec<u32>],
        decoder: &Decoder,
    ) -> Result<(), Error> {
        let mut by_prompt: BTreeMap<&[u32], Vec<usize>> = BTreeMap::new();
        for &(slot, index) in newcomers {
            let (_, known) = prompts[index].split_last().expect("a prompt has at least one token");
            if !known.is_empty() {
                by_prompt.entry(known).or_default().push(slot);
            }
        }
        let (mut packed, mut targets) = (Packed::default(), Vec::new());
        for (known, slots) in by_prompt {
            if packed.tokens() > 0 && packed.tokens() + known.len() > PREFILL_TOKENS {
                self.prefill_packed(&packed, &targets, decoder)?;
                (packed, targets) = (Packed::default(), Vec::new());
            }
            let start = packed.tokens() as i32;
            packed.push(known);
            targets.extend(slots.iter().map(|&slot| [start, known.len() as i32, slot as i32, 0]));
        }
        if packed.tokens() > 0 { self.prefill_packed(&packed, &targets, decoder) } else { Ok(()) }
    }

    fn prefill_packed(
        &mut self,
        packed: &Packed,
        targets: &[[i32; 4]],
        decoder: &Decoder,
    ) -> Result<(), Error> {
        self.prepare(packed, Keep::Nothing)?;
        let targets = Buffer::from_host(&self.device, targets)?;
        let to = (targets.first(targets.len()), packed.longest());
        let (device, shape) = (&*self.device, HeadShape::of(&self.weights.config));
        let mut after_qkv = |layer, qkv| ops::fill_cache(device, qkv, to, decoder.cache(layer), shape);
        forward(device, &self.weights, &self.batch, &self.rope, &self.workspace, &mut after_qkv)
    }
}

/// Slots and capacity of the decoder for this many sequences of this many tokens.
pub(crate) fn rounded(sequences: usize, tokens: usize) -> [usize; 2] {
    [sequences.next_multiple_of(SLOT_STEP), tokens.next_multiple_of(CAPACITY_STEP)]
}

/// Puts waiting prompts into free slots; returns which slot got which prompt. Prompts that may get no token end at once.
fn admit<'a>(
    live: &mut [Option<Live>],
    waiting: &mut impl Iterator<Item = (usize, &'a Vec<u32>)>,
    budget: impl Fn(&[u32]) -> usize,
    seen: &mut Seen,
    finish: &mut impl FnMut(usize, Generated),
) -> Vec<(usize, usize)> {
    let mut newcomers = Vec::new();
    for (slot, place) in live.iter_mut().enumerate() {
        while place.is_none() {
            let Some((index, prompt)) = waiting.next() else { return newcomers };
            let generated = Generated { ids: Vec::new(), logprobs: Vec::new(), finish: Finish::Length };
            let tokens = budget(prompt);
            if tokens == 0 {
                finish(index, generated);
                continue;
            }
            let (last, known) = prompt.split_last().expect("a prompt has at least one token");
            seen.slots[slot] = [index as u32, 0, tokens as u32, 0];
            seen.ids[slot] = *last;
            seen.lengths[slot] = known.len() as u32;
            seen.finished[slot] = 0;
            newcomers.push((slot, index));
            *place = Some(Live { index, generated, ended: false });
        }
    }
    newcomers
}

impl Live {
    /// Takes over the tokens that were drawn since the last look.
    fn take_in(
        &mut self,
        slot: usize,
        seen: &mut Seen,
        sampling: &Sampling,
        on_token: &mut impl FnMut(usize, &[u32]) -> ControlFlow<()>,
    ) {
        let (fresh, slots) = (std::mem::take(&mut seen.slots[slot][3]) as usize, seen.slots.len());
        self.ended = seen.finished[slot] != 0;
        for step in 0..fresh {
            let id = seen.drawn_ids[step * slots + slot];
            self.generated.ids.push(id);
            self.generated.logprobs.push(seen.drawn_logprobs[step * slots + slot]);
            let stopped = on_token(self.index, &self.generated.ids).is_break();
            if sampling.stop_tokens.contains(&id) {
                self.generated.finish = Finish::StopToken;
            } else if stopped {
                self.generated.finish = Finish::Stopped;
                self.ended = true;
                return;
            }
        }
    }
}
