//! Operators on abstract values: constants are computed, texts are concatenated, everything else is arithmetic.

use super::Engine;
use crate::grammar::html;
use crate::ir::{BinaryOp, CompareOp, UnaryOp, ValueId};
use crate::text::{Hole, Mask, Text};
use crate::value::{HeapId, Object, Value};

/// Repetitions of a list that are told apart.
const MAX_REPEATED: i64 = 8;

impl Engine<'_> {
    pub(super) fn binary(&mut self, id: ValueId, op: BinaryOp, left: &Value, right: &Value) -> Value {
        if let Some(value) = self.overloaded(op, left, right) {
            return value;
        }
        match op {
            BinaryOp::Add if is_markup(left) || is_markup(right) => {
                let [left, right] = [left, right].map(|side| {
                    if is_markup(side) { side.text.clone() } else { html::escaped(&side.text, true) }
                });
                marked(left.concat(&right))
            }
            BinaryOp::Add => self.add(id, left, right),
            BinaryOp::Modulo if is_markup(left) => {
                let filled = self.percent(left, right);
                escaped_parts(left, &filled)
            }
            BinaryOp::Modulo if !left.is_number() => self.percent(left, right),
            BinaryOp::Modulo | BinaryOp::FloorDivide => match (&left.object, &right.object) {
                (Object::Int(a), Object::Int(b)) if *a >= 0 && *b > 0 => {
                    Value::int(if op == BinaryOp::Modulo { a % b } else { a / b })
                }
                _ => arithmetic(left),
            },
            BinaryOp::Multiply => match (&left.object, &right.object) {
                (Object::Container(list), _) => self.repeated(id, *list, right),
                (_, Object::Container(list)) => self.repeated(id, *list, left),
                _ => multiply(left, right),
            },
            BinaryOp::Power => match (&left.object, &right.object) {
                (Object::Int(a), Object::Int(b)) => {
                    let power = u32::try_from(*b).ok().and_then(|b| a.checked_pow(b));
                    power.map_or_else(Value::number, Value::int)
                }
                _ => Value::number(),
            },
            BinaryOp::Divide if is_path(left) || is_path(right) => {
                let text = strings_path(&left.text, &right.text);
                Value::new(Object::Instance("pathlib.Path".into()), text)
            }
            // A set without the elements of another.
            BinaryOp::Subtract if matches!(right.object, Object::Container(_)) && !left.is_number() => {
                let element = self.element(left);
                self.list_of(&element)
            }
            BinaryOp::Subtract => match (&left.object, &right.object) {
                (Object::Int(a), Object::Int(b)) => a.checked_sub(*b).map_or_else(Value::number, Value::int),
                _ => arithmetic(left),
            },
            BinaryOp::Or if is_regex_flag(left) && is_regex_flag(right) => {
                let flags = [left, right].map(|flag| flag.path_name().unwrap_or_default());
                Value::path(flags.join("|"))
            }
            BinaryOp::Or | BinaryOp::And | BinaryOp::ShiftLeft | BinaryOp::ShiftRight | BinaryOp::Xor
                if let (Object::Int(a), Object::Int(b)) = (&left.object, &right.object) =>
            {
                bits(op, *a, *b).map_or_else(Value::number, Value::int)
            }
            // `{**left, **right}`
            BinaryOp::Or
                if let (Object::Container(a), Object::Container(_)) = (&left.object, &right.object)
                    && self.heap[a.0 as usize].is_dict =>
            {
                let heap = self.allocate(id, true);
                self.merge_into(heap, left);
                self.merge_into(heap, right);
                self.container(heap)
            }
            // One of two sets, of which one is known.
            BinaryOp::And
                if !left.is_number()
                    && [left, right].iter().any(|side| matches!(side.object, Object::Container(_))) =>
            {
                self.intersection(left, right)
            }
            BinaryOp::Or | BinaryOp::And => {
                let joined = left.join(right);
                if left.is_number() && right.is_number() { Value::number() } else { joined }
            }
            _ => arithmetic(left),
        }
    }

    /// An operator that a class of the program defines.
    fn overloaded(&mut self, op: BinaryOp, left: &Value, right: &Value) -> Option<Value> {
        if !matches!(left.object, Object::Local(..)) && !matches!(right.object, Object::Local(..)) {
            return None;
        }
        let (own, reflected) = match op {
            BinaryOp::Add => ("__add__", "__radd__"),
            BinaryOp::Modulo => ("__mod__", "__rmod__"),
            BinaryOp::Multiply => ("__mul__", "__rmul__"),
            BinaryOp::Divide => ("__truediv__", "__rtruediv__"),
            BinaryOp::Or => ("__or__", "__ror__"),
            BinaryOp::And => ("__and__", "__rand__"),
            BinaryOp::Subtract => ("__sub__", "__rsub__"),
            _ => return None,
        };
        self.special_method(left, own, &[right]).or_else(|| self.special_method(right, reflected, &[left]))
    }

    fn add(&mut self, id: ValueId, left: &Value, right: &Value) -> Value {
        match (&left.object, &right.object) {
            (Object::Int(a), Object::Int(b)) => a.checked_add(*b).map_or_else(Value::number, Value::int),
            _ if left.is_number() && right.is_number() => Value::number(),
            (Object::Container(_), Object::Container(_)) => {
                let heap = self.allocate(id, false);
                for part in [left, right] {
                    self.extend(heap, part);
                }
                self.container(heap)
            }
            (Object::Container(heap), _) => {
                let heap = *heap;
                self.store_rest(heap, &right.any_text());
                self.container(heap)
            }
            // A number plus something unknown is a number: strings do not add to numbers.
            _ if left.is_number() || right.is_number() => Value::number(),
            _ => Value::string(left.text.concat(&right.text)),
        }
    }

    /// `[value] * times`
    fn repeated(&mut self, id: ValueId, list: HeapId, times: &Value) -> Value {
        let repeated = self.allocate(id, false);
        let part = self.container(list);
        match (self.elements_of(&part), &times.object) {
            (Some(elements), Object::Int(times)) if *times <= MAX_REPEATED => {
                for element in (0..*times).flat_map(|_| &elements) {
                    self.append(repeated, element);
                }
            }
            _ => {
                let element = self.any_element(list);
                self.forget_positions(repeated);
                self.store_rest(repeated, &element);
            }
        }
        self.container(repeated)
    }

    pub(super) fn compare(&mut self, op: CompareOp, left: &Value, right: &Value) -> Value {
        let equal = match (&left.object, &right.object) {
            (Object::Int(a), Object::Int(b)) => {
                return Value::bool(Some(match op {
                    CompareOp::Equal | CompareOp::Is => a == b,
                    CompareOp::NotEqual | CompareOp::IsNot => a != b,
                    CompareOp::Less => a < b,
                    CompareOp::LessEqual => a <= b,
                    CompareOp::Greater => a > b,
                    CompareOp::GreaterEqual => a >= b,
                    CompareOp::In | CompareOp::NotIn => return Value::bool(None),
                }));
            }
            (Object::Text, Object::Text) => match (left.text.as_constant(), right.text.as_constant()) {
                (Some(a), Some(b)) => match op {
                    CompareOp::In => return Value::bool(Some(b.contains(a))),
                    CompareOp::NotIn => return Value::bool(Some(!b.contains(a))),
                    _ => Some(a == b),
                },
                _ => None,
            },
            (Object::None, Object::None) => Some(true),
            (Object::Bool(Some(a)), Object::Bool(Some(b))) => Some(a == b),
            (Object::Int(_) | Object::Function(..) | Object::Path(_), Object::None) => Some(false),
            // What an outsider did not send is not there.
            (Object::Text, Object::None) if left.taint() == 0 => Some(false),
            (Object::Text, Object::Container(_)) if matches!(op, CompareOp::In | CompareOp::NotIn) => {
                let known = left.text.as_constant().map(str::to_owned);
                let members = self.constant_members(right);
                return Value::bool(known.zip(members).map(|(known, members)| {
                    members.iter().any(|member| **member == *known) == (op == CompareOp::In)
                }));
            }
            _ => None,
        };
        Value::bool(equal.and_then(|equal| match op {
            CompareOp::Equal | CompareOp::Is => Some(equal),
            CompareOp::NotEqual | CompareOp::IsNot => Some(!equal),
            _ => None,
        }))
    }
}

/// A text that is marked as HTML: what is put into it is escaped.
const MARKUP: &str = "flask.Markup";

pub(super) fn marked(text: Text) -> Value {
    Value::new(Object::Instance(MARKUP.into()), text)
}

pub(super) fn is_markup(value: &Value) -> bool {
    matches!(&value.object, Object::Instance(path) if &**path == MARKUP)
}

/// A template that is marked as HTML, filled: every part that was not in the template is escaped.
pub(super) fn escaped_parts(template: &Value, filled: &Value) -> Value {
    let own = template.taint();
    let escape = |hole: Hole| {
        let kept = hole.taint & !own == 0;
        let mask = if kept { hole.mask } else { hole.mask.minus(Mask::ascii(b"<>\"'")) };
        Hole { mask, ..hole }
    };
    marked(filled.text.map_holes(escape))
}

pub(super) fn unary(op: UnaryOp, operand: &Value) -> Value {
    match (op, &operand.object) {
        (UnaryOp::Not, _) => Value::bool(operand.truth().map(|truth| !truth)),
        (UnaryOp::Negate, Object::Int(value)) => Value::int(value.wrapping_neg()),
        _ => Value::number(),
    }
}

/// Arithmetic on what may be numbers, sets or dates: no text comes out of it.
fn arithmetic(left: &Value) -> Value {
    if matches!(left.object, Object::Container(_)) { left.clone() } else { Value::number() }
}

/// `"ab" * 3`. What an outsider sends is a text until something makes it a number.
fn multiply(left: &Value, right: &Value) -> Value {
    let repeated = |text: &Value| {
        let alternatives = vec![vec![crate::text::Segment::Repeat(text.text.clone())]];
        Value::string(Text::from_alternatives(alternatives))
    };
    match (&left.object, &right.object) {
        (Object::Int(a), Object::Int(b)) => a.checked_mul(*b).map_or_else(Value::number, Value::int),
        (Object::Text, _) => repeated(left),
        (_, Object::Text) => repeated(right),
        (Object::Unknown, Object::Int(_)) if left.taint() != 0 => repeated(left),
        (Object::Int(_), Object::Unknown) if right.taint() != 0 => repeated(right),
        _ => Value::number(),
    }
}

fn bits(op: BinaryOp, a: i64, b: i64) -> Option<i64> {
    let distance = u32::try_from(b).ok().filter(|distance| *distance < 32);
    match op {
        BinaryOp::Or => Some(a | b),
        BinaryOp::And => Some(a & b),
        BinaryOp::Xor => Some(a ^ b),
        BinaryOp::ShiftRight => Some(a >> distance?),
        _ => a.checked_mul(1 << distance?),
    }
}

fn is_path(value: &Value) -> bool {
    matches!(&value.object, Object::Instance(path) if &**path == "pathlib.Path")
}

fn is_regex_flag(value: &Value) -> bool {
    value.path_name().is_some_and(|path| path.starts_with("re."))
}

fn strings_path(left: &Text, right: &Text) -> Text {
    super::strings::join_paths(&[left.clone(), right.clone()])
}
