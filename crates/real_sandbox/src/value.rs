//! Python values as JSON, in test files and between the interpreter and us.
//!
//! JSON's own types stand for `None`, `bool`, `int`, `float` (a number with `.` or `e`), `str`, `list` and `dict` with string keys.
//! Everything else is an object with one key that starts with `$`:
//!
//! | value | notation |
//! |---|---|
//! | `(1, 2)` | `{"$tuple": [1, 2]}` |
//! | `{1, 2}` | `{"$set": [1, 2]}`, `{"$frozenset": [1, 2]}` |
//! | `b"\x00"` | `{"$bytes": "AA=="}` |
//! | `nan`, `inf` | `{"$float": "nan"}` |
//! | `1j` | `{"$complex": [0.0, 1.0]}` |
//! | a dict with other keys, or with a key that starts with `$` | `{"$dict": [[1, "a"]]}` |
//! | an int beyond 64 bits | `{"$int": "123456789012345678901234567890"}` |
//! | an instance of any other class | `{"$opaque": "module.Class"}` |
//!
//! A returned value is read by its exact type, because an instance of a subclass could pretend to be equal to anything. Two kinds of
//! library classes are read as what they hold: `OrderedDict`, `defaultdict` and `Counter` as `dict`, and the arrays and
//! scalars of `numpy` as lists and numbers. A string with lone surrogates is opaque, and so is what is nested too deeply (about a hundred levels).

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Number, Value as Json};

/// A Python value, by its exact built-in type.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// `None`
    None,
    /// `bool`
    Bool(bool),
    /// `int`, in decimal.
    Int(String),
    /// `float`
    Float(f64),
    /// `complex`
    Complex(f64, f64),
    /// `str`
    Str(String),
    /// `bytes`
    Bytes(Vec<u8>),
    /// `list`
    List(Vec<Value>),
    /// `tuple`
    Tuple(Vec<Value>),
    /// `set`, in no order.
    Set(Vec<Value>),
    /// `frozenset`, in no order.
    FrozenSet(Vec<Value>),
    /// `dict`, in insertion order.
    Dict(Vec<(Value, Value)>),
    /// Anything else: the name of its class. Equal to nothing.
    Opaque(String),
}

impl Serialize for Value {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            // What may be large is written as it is, without a copy.
            Value::Str(text) => serializer.serialize_str(text),
            Value::List(items) => serializer.collect_seq(items),
            other => to_json(other).serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        from_json(Json::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}

fn tagged(tag: &str, content: Json) -> Json {
    Json::Object(Map::from_iter([(tag.to_owned(), content)]))
}

fn list(items: &[Value]) -> Json {
    Json::Array(items.iter().map(to_json).collect())
}

fn to_json(value: &Value) -> Json {
    match value {
        Value::None => Json::Null,
        Value::Bool(b) => Json::Bool(*b),
        Value::Int(digits) => match digits.parse::<i64>() {
            Ok(small) => Json::Number(small.into()),
            Err(_) => tagged("$int", Json::String(digits.clone())),
        },
        Value::Float(x) => match Number::from_f64(*x) {
            Some(number) => Json::Number(number),
            None if x.is_nan() => tagged("$float", "nan".into()),
            None => tagged("$float", if *x > 0.0 { "inf" } else { "-inf" }.into()),
        },
        Value::Complex(re, im) => tagged("$complex", list(&[Value::Float(*re), Value::Float(*im)])),
        Value::Str(text) => Json::String(text.clone()),
        Value::Bytes(bytes) => tagged("$bytes", Json::String(base64::encode(bytes))),
        Value::List(items) => list(items),
        Value::Tuple(items) => tagged("$tuple", list(items)),
        Value::Set(items) => tagged("$set", list(items)),
        Value::FrozenSet(items) => tagged("$frozenset", list(items)),
        Value::Dict(entries) => dict_to_json(entries),
        Value::Opaque(class) => tagged("$opaque", Json::String(class.clone())),
    }
}

fn dict_to_json(entries: &[(Value, Value)]) -> Json {
    let plain: Option<Map<String, Json>> = entries
        .iter()
        .map(|(key, value)| match key {
            Value::Str(name) if !name.starts_with('$') => Some((name.clone(), to_json(value))),
            _ => None,
        })
        .collect();
    plain.map_or_else(
        || {
            let pair = |(key, value): &(Value, Value)| Json::Array(vec![to_json(key), to_json(value)]);
            tagged("$dict", Json::Array(entries.iter().map(pair).collect()))
        },
        Json::Object,
    )
}

fn from_json(json: Json) -> Result<Value, String> {
    Ok(match json {
        Json::Null => Value::None,
        Json::Bool(b) => Value::Bool(b),
        Json::Number(n) if n.is_f64() => Value::Float(n.as_f64().ok_or("a float out of range")?),
        Json::Number(n) => Value::Int(n.to_string()),
        Json::String(text) => Value::Str(text),
        Json::Array(items) => Value::List(many(items)?),
        Json::Object(object) => {
            if object.len() == 1
                && let Some((tag, _)) = object.iter().next()
                && tag.starts_with('$')
            {
                let (tag, content) = object.into_iter().next().ok_or("an empty object")?;
                return from_tagged(&tag, content);
            }
            let entry = |(key, value)| Ok((Value::Str(key), from_json(value)?));
            Value::Dict(object.into_iter().map(entry).collect::<Result<_, String>>()?)
        }
    })
}

fn many(items: Vec<Json>) -> Result<Vec<Value>, String> {
    items.into_iter().map(from_json).collect()
}

fn from_tagged(tag: &str, content: Json) -> Result<Value, String> {
    Ok(match (tag, content) {
        ("$tuple", Json::Array(items)) => Value::Tuple(many(items)?),
        ("$set", Json::Array(items)) => Value::Set(many(items)?),
        ("$frozenset", Json::Array(items)) => Value::FrozenSet(many(items)?),
        ("$bytes", Json::String(text)) => Value::Bytes(base64::decode(&text).ok_or("$bytes: not base64")?),
        ("$float", Json::String(text)) => Value::Float(text.parse().map_err(|e| format!("$float: {e}"))?),
        ("$int", Json::String(digits)) => integer(digits)?,
        ("$opaque", Json::String(class)) => Value::Opaque(class),
        ("$complex", Json::Array(parts)) => match many(parts)?.as_slice() {
            [Value::Float(re), Value::Float(im)] => Value::Complex(*re, *im),
            _ => return Err("$complex: two floats are expected".to_owned()),
        },
        ("$dict", Json::Array(pairs)) => Value::Dict(
            pairs
                .into_iter()
                .map(|pair| {
                    match <[Value; 2]>::try_from(match pair {
                        Json::Array(both) => many(both)?,
                        _ => return Err("$dict: a list of pairs is expected".to_owned()),
                    }) {
                        Ok([key, value]) => Ok((key, value)),
                        Err(_) => Err("$dict: a list of pairs is expected".to_owned()),
                    }
                })
                .collect::<Result<_, String>>()?,
        ),
        (tag, _) => return Err(format!("{tag}: unknown notation, or the wrong content for it")),
    })
}

fn integer(digits: String) -> Result<Value, String> {
    let magnitude = digits.strip_prefix('-').unwrap_or(&digits);
    if magnitude.is_empty() || !magnitude.bytes().all(|b| b.is_ascii_digit()) {
        return Err("$int: decimal digits are expected".to_owned());
    }
    Ok(Value::Int(digits))
}

mod base64 {
    use ::base64::Engine as _;
    use ::base64::engine::general_purpose::STANDARD;

    pub(super) fn encode(bytes: &[u8]) -> String {
        STANDARD.encode(bytes)
    }

    pub(super) fn decode(text: &str) -> Option<Vec<u8>> {
        STANDARD.decode(text).ok()
    }
}
