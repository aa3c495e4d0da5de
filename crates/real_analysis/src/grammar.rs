//! Grammars of the languages that programs write: where a hole stands decides what it can do.

pub(crate) mod code;
pub(crate) mod html;
pub(crate) mod path;
pub(crate) mod query;
pub(crate) mod shell;
pub(crate) mod sql;
pub(crate) mod url;

use crate::text::{Segment, Taint, Text};

/// Hostile content can break out of its place.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Verdict {
    /// The sources whose content can.
    pub(crate) taint: Taint,
    /// Between 0 and 1.
    pub(crate) confidence: f32,
}

impl Verdict {
    /// `None` without hostile content.
    pub(crate) fn of(taint: Taint, confidence: f32) -> Option<Self> {
        (taint != 0).then_some(Self { taint, confidence })
    }

    pub(crate) fn weaker(self) -> Self {
        Self { confidence: self.confidence * 0.8, ..self }
    }
}

/// Reads every alternative of a text with a state machine; `hole` says which holes break out.
pub(crate) fn scan<S: Clone + PartialEq>(
    text: &Text,
    start: &S,
    constant: &mut impl FnMut(&mut S, &str),
    hole: &mut impl FnMut(&mut S, crate::text::Hole) -> Option<f32>,
) -> Option<Verdict> {
    let (mut taint, mut confidence) = (0, 0.0_f32);
    for alternative in text.alternatives() {
        let mut state = start.clone();
        scan_segments(alternative, &mut state, constant, hole, &mut |found, sure| {
            taint |= found;
            confidence = confidence.max(sure);
        });
    }
    Verdict::of(taint, confidence)
}

fn scan_segments<S: Clone + PartialEq>(
    segments: &[Segment],
    state: &mut S,
    constant: &mut impl FnMut(&mut S, &str),
    hole: &mut impl FnMut(&mut S, crate::text::Hole) -> Option<f32>,
    found: &mut dyn FnMut(Taint, f32),
) {
    for segment in segments {
        match segment {
            Segment::Text(text) => constant(state, text),
            Segment::Hole(content) => {
                if let Some(confidence) = hole(state, *content).filter(|_| content.taint != 0) {
                    found(content.taint, confidence);
                }
            }
            Segment::Repeat(body) => {
                for alternative in body.alternatives() {
                    let mut inner = state.clone();
                    scan_segments(alternative, &mut inner, constant, hole, found);
                }
            }
        }
    }
}
