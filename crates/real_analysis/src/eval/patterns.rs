//! Calls of regular expressions: what a match can contain, and how long it can take.

use super::Engine;
use super::strings::{Arguments, any_string, positional, substitute};
use crate::facts::Refinement;
use crate::ir::{ArgKind, Op, ValueId};
use crate::library::Origin;
use crate::rules::{self, Weakness};
use crate::text::regex::backtracking::{Mode, Work, work};
use crate::text::{Checks, Hole, Mask, Text, regex};
use crate::value::{Object, Value};

impl Engine<'_> {
    /// `re.compile(pattern, flags)`: the flags become part of the pattern.
    pub(super) fn compile_pattern(&mut self, args: &Arguments) -> Option<Value> {
        let pattern = positional(args, 0)?.clone();
        self.check_pattern_source(&pattern);
        let flags = positional(args, 1).or_else(|| self.keyword(args, "flags"));
        Some(Value::new(Object::Instance("re.compile".into()), with_flags(&pattern, flags)))
    }

    /// `re.match(pattern, subject)` and its like.
    pub(super) fn match_pattern(&mut self, method: &str, args: &Arguments) -> Option<Value> {
        let pattern = positional(args, 0)?.clone();
        self.check_pattern_source(&pattern);
        let flags = match method {
            "sub" | "subn" => self.keyword(args, "flags"),
            _ => positional(args, 2).or_else(|| self.keyword(args, "flags")),
        };
        let pattern = Value::new(pattern.object.clone(), with_flags(&pattern, flags));
        self.apply_pattern(method, &pattern, &args[1.min(args.len())..].to_vec())
    }

    /// The result of a method of a compiled pattern. `None`: no such method.
    pub(super) fn apply_pattern(&mut self, method: &str, pattern: &Value, args: &Arguments) -> Option<Value> {
        let at = usize::from(matches!(method, "sub" | "subn"));
        let subject = positional(args, at).or_else(|| self.keyword(args, "string"))?.clone();
        let mode = match method {
            "match" => Mode::Beginning,
            "fullmatch" => Mode::Whole,
            "search" | "findall" | "finditer" | "sub" | "subn" | "split" => Mode::Anywhere,
            _ => return None,
        };
        self.check_work(pattern, &subject, mode);
        if pattern.text.as_constant().is_some_and(has_open_dot) {
            let range = self.current_range();
            let message = "an unescaped dot in the name of a host stands for any character".to_owned();
            self.report(Weakness::OpenHostPattern, range, message, 0.7, Vec::new());
        }
        let removes = matches!(method, "sub" | "subn")
            && positional(args, 0).is_some_and(|to| to.text.as_constant() == Some(""));
        if removes
            && pattern
                .text
                .as_constant()
                .is_some_and(|pattern| pattern.to_ascii_lowercase().contains("<script"))
        {
            let message = Weakness::TagFilter.consequence().to_owned();
            self.report(Weakness::TagFilter, self.current_range(), message, 0.7, Vec::new());
        }
        let known = pattern.text.as_constant().and_then(|pattern| regex::parse(pattern, false));
        let hole = subject.text.summary();
        // What a group holds was matched by the pattern.
        let mask = known.map_or(Mask::ANY, |known| known.mask).intersect(hole.mask);
        let matched = Text::hole(Hole { mask, checks: Checks::NONE, ..hole });
        Some(match method {
            "sub" | "subn" => {
                let replacement = positional(args, 0)?;
                // A function is called with each match.
                let replacement = match replacement.object {
                    Object::Function(..) | Object::Bound(..) | Object::Partial(..) => {
                        let found = Value::new(Object::Instance("re.match".into()), matched);
                        self.call_from_library(replacement, &vec![(ArgKind::Positional, found)])
                    }
                    _ => replacement.clone(),
                };
                // A limit leaves the matches beyond it: `re.sub(p, "", x, re.IGNORECASE)` has one.
                let limit = positional(args, 2).or_else(|| self.keyword(args, "count"));
                if limit.is_some_and(|limit| limit.truth() != Some(false)) {
                    return Some(any_string(subject.taint() | replacement.taint()));
                }
                substitute(pattern, &replacement, &subject)
            }
            "split" => subject.any_text_keeping_mask(),
            "findall" | "finditer" => Value::new(Object::Unknown, matched),
            _ => Value::new(Object::Instance("re.match".into()), matched),
        })
    }

    /// `match.group("name")`, `match[1]`: what the group of the pattern can hold, where the match was made in this function.
    pub(super) fn group_of(&self, found: ValueId, args: &Arguments, whole: &Value) -> Value {
        let any = whole.any_text_keeping_mask();
        let wanted = match args.first().map(|(_, value)| (&value.object, value.text.as_constant())) {
            Some((Object::Int(index), _)) => index.to_string(),
            Some((Object::Text, Some(name))) => name.to_owned(),
            None => "0".to_owned(),
            _ => return any,
        };
        let Op::Call { callee, args } = self.op(found) else { return any };
        let pattern = match self.op(*callee) {
            Op::Attribute { object, .. }
                if !self.known(*callee).path_name().is_some_and(|path| path.starts_with("re.")) =>
            {
                self.known(*object)
            }
            _ => args.first().map_or_else(Value::unknown, |arg| self.known(arg.value)),
        };
        let pattern = pattern.text.as_constant();
        if wanted == "0" {
            let Some((checks, texts)) = pattern.and_then(|pattern| regex::shape(pattern, true)) else {
                return any;
            };
            let proof = match &texts {
                Some(texts) => Refinement::constants(texts.iter().map(String::as_str)),
                None => Refinement::checks(checks),
            };
            return any.refined(&proof);
        }
        let mask = pattern.and_then(|pattern| regex::group(pattern, &wanted));
        mask.map_or(any.clone(), |mask| any.refined(&Refinement::mask(mask)))
    }

    fn check_work(&mut self, pattern: &Value, subject: &Value, mode: Mode) {
        let hole = subject.text.summary();
        let number = hole.mask.within(Mask::NUMBER);
        if hole.taint == 0 || number {
            return;
        }
        let Some(work) = pattern.text.as_constant().and_then(|pattern| work(pattern, mode)) else { return };
        let (what, confidence) = match work {
            Work::Linear => return,
            Work::Polynomial if hole.checks.has(Checks::SHORT) => return,
            Work::Exponential if hole.checks.has(Checks::TINY) => return,
            Work::Polynomial => ("polynomial", 0.65),
            Work::Exponential => ("exponential", 0.9),
        };
        let message = format!("{} can make the match take {what} time", self.origin_of(hole.taint));
        self.report_taint(Weakness::SlowPattern, message, hole.taint, confidence);
    }

    /// A pattern from a request can be any pattern, slow ones included.
    fn check_pattern_source(&mut self, pattern: &Value) {
        let hole = pattern.text.summary();
        let from_request = self.confidence_of(hole.taint) >= rules::origin_weight(Origin::Request);
        let escaped = pattern.text.is_checked(Checks::REGEX_ESCAPED);
        let special = hole.mask.intersects(Mask::ascii(b"*+{")) && !escaped;
        if hole.taint != 0 && from_request && special {
            let message = rules::message(Weakness::OpenPattern, &self.origin_of(hole.taint));
            self.report_taint(Weakness::OpenPattern, message, hole.taint, 0.9);
        }
    }
}

/// Whether a pattern names a host whose last dot is not escaped: `www.example.com`.
fn has_open_dot(pattern: &str) -> bool {
    ["com", "org", "net", "edu", "gov"].iter().any(|top| {
        pattern.match_indices(&format!(".{top}")).any(|(at, found)| {
            let before = pattern[..at].chars().next_back();
            let after = pattern[at + found.len()..].chars().next();
            let ends = after.is_none_or(|after| !after.is_ascii_alphanumeric());
            ends && before.is_some_and(|before| before.is_ascii_alphanumeric())
        })
    })
}

/// The text of a pattern with its flags inside, as `(?x)`.
pub(super) fn with_flags(pattern: &Value, flags: Option<&Value>) -> Text {
    let Some(flags) = flags.and_then(Value::path_name) else { return pattern.text.clone() };
    let mut letters = String::new();
    for flag in flags.split('|') {
        letters.push(match flag.strip_prefix("re.").unwrap_or(flag) {
            "I" | "IGNORECASE" => 'i',
            "S" | "DOTALL" => 's',
            "X" | "VERBOSE" => 'x',
            "A" | "ASCII" => 'a',
            "U" | "UNICODE" => 'u',
            // Anchors then mean lines, which no guard should count on.
            _ => 'm',
        });
    }
    Text::constant(format!("(?{letters})")).concat(&pattern.text)
}
