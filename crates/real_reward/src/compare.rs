//! When a value equals the expected one.
//!
//! Both sides are plain data by now: no object of the candidate's can say that it equals everything. Equality is Python's, with
//! these decisions:
//!
//! | expected | equal to it | not equal to it |
//! |---|---|---|
//! | `True` | `True` | `1`: a `bool` is no number here |
//! | `2` | `2` | `2.0`, unless the test came from JSON |
//! | `2.0` | `2.0`, `2.0000001` (1e-6 relative), `2` | `2.1`, `"2.0"` |
//! | `nan` | `nan` | everything else |
//! | `[1, 2]` | `[1, 2]`; `(1, 2)` if the test came from JSON, which has no tuples | `{1, 2}`, a generator |
//! | `(1, 2)` | `(1, 2)` | `[1, 2]` |
//! | `{1, 2}` | the same in any order, `set` and `frozenset` kept apart | `[1, 2]` |
//! | `{"a": 1}` | the same in any order; from JSON, the key `1` for `"1"` | |
//! | an object of a class | nothing | everything |

use std::collections::BTreeMap;

use real_sandbox::Value;

/// Relative tolerance of floats; near zero the same number is the absolute tolerance.
const TOLERANCE: f64 = 1e-6;

/// Where the expected values come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Origin {
    /// Typed Python values.
    Python,
    /// JSON, which knows neither tuples nor keys other than strings, and not always the difference of `2` and `2.0`.
    Json,
}

/// Whether a test with this expectation is passed by this value.
pub(crate) fn equal(expected: &Value, actual: &Value, origin: Origin) -> bool {
    match (expected, actual) {
        (Value::None, Value::None) => true,
        (Value::Bool(a), Value::Bool(b)) => a == b,
        (Value::Int(a), Value::Int(b)) | (Value::Str(a), Value::Str(b)) => a == b,
        (Value::Float(a), Value::Float(b)) => close(*a, *b),
        (Value::Float(a), Value::Int(b)) => b.parse().is_ok_and(|b| close(*a, b)),
        (Value::Int(a), Value::Float(b)) if origin == Origin::Json => a.parse().is_ok_and(|a| close(a, *b)),
        (Value::Complex(a, b), Value::Complex(c, d)) => close(*a, *c) && close(*b, *d),
        (Value::Bytes(a), Value::Bytes(b)) => a == b,
        (Value::List(a), Value::List(b)) | (Value::Tuple(a), Value::Tuple(b)) => sequences(a, b, origin),
        (Value::List(a), Value::Tuple(b)) if origin == Origin::Json => sequences(a, b, origin),
        (Value::Set(a), Value::Set(b)) | (Value::FrozenSet(a), Value::FrozenSet(b)) => sets(a, b),
        (Value::Dict(a), Value::Dict(b)) => dicts(a, b, origin),
        _ => false,
    }
}

fn close(a: f64, b: f64) -> bool {
    if a.is_nan() || b.is_nan() {
        return a.is_nan() && b.is_nan();
    }
    if a.is_infinite() || b.is_infinite() {
        return a.total_cmp(&b).is_eq();
    }
    (a - b).abs() <= TOLERANCE * a.abs().max(b.abs()).max(1.0)
}

fn sequences(a: &[Value], b: &[Value], origin: Origin) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| equal(a, b, origin))
}

/// Members are compared exactly: two floats that differ by rounding are two members.
fn sets(a: &[Value], b: &[Value]) -> bool {
    let keys = |items: &[Value]| {
        let mut keys: Vec<_> = items.iter().map(key).collect();
        keys.sort_unstable();
        keys
    };
    a.len() == b.len() && keys(a) == keys(b)
}

fn dicts(a: &[(Value, Value)], b: &[(Value, Value)], origin: Origin) -> bool {
    let index = |name: &Value| match (name, origin) {
        (Value::Int(digits), Origin::Json) => key(&Value::Str(digits.clone())),
        _ => key(name),
    };
    let actual: BTreeMap<String, &Value> = b.iter().map(|(name, value)| (index(name), value)).collect();
    a.len() == b.len()
        && actual.len() == b.len()
        && a.iter().all(|(name, value)| actual.get(&index(name)).is_some_and(|b| equal(value, b, origin)))
}

/// A text that two members or keys share exactly when they are the same.
fn key(value: &Value) -> String {
    match value {
        Value::Set(items) | Value::FrozenSet(items) => {
            let mut keys: Vec<_> = items.iter().map(key).collect();
            keys.sort_unstable();
            format!("set{keys:?}")
        }
        Value::Tuple(items) => format!("tuple{:?}", items.iter().map(key).collect::<Vec<_>>()),
        other => format!("{other:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(expected: &str, actual: &str, python: bool, json: bool) {
        let value = |text| serde_json::from_str::<Value>(text).unwrap();
        let (a, b) = (value(expected), value(actual));
        assert_eq!(equal(&a, &b, Origin::Python), python, "{expected} and {actual}, typed");
        assert_eq!(equal(&a, &b, Origin::Json), json, "{expected} and {actual}, from JSON");
    }

    #[test]
    fn numbers() {
        check("true", "true", true, true);
        check("true", "1", false, false);
        check("1", "true", false, false);
        check("0", "false", false, false);
        check("2", "2", true, true);
        check("2", "2.0", false, true);
        check("2.0", "2", true, true);
        check("2.0", "2.0000001", true, true);
        check("2.0", "2.1", false, false);
        check("0.0", "0.0000000001", true, true);
        check("1e300", "1.0000001e300", true, true);
        check(r#"{"$float": "nan"}"#, r#"{"$float": "nan"}"#, true, true);
        check(r#"{"$float": "nan"}"#, "1.0", false, false);
        check("1.0", r#"{"$float": "nan"}"#, false, false);
        check(r#"{"$float": "inf"}"#, r#"{"$float": "inf"}"#, true, true);
        check(r#"{"$float": "inf"}"#, r#"{"$float": "-inf"}"#, false, false);
        check(r#"{"$float": "inf"}"#, "1e308", false, false);
        check(r#"{"$int": "100000000000000000000"}"#, r#"{"$int": "100000000000000000000"}"#, true, true);
        check(r#"{"$int": "100000000000000000000"}"#, r#"{"$int": "100000000000000000001"}"#, false, false);
        check(r#"{"$complex": [1.0, 2.0]}"#, r#"{"$complex": [1.0, 2.0]}"#, true, true);
        check("null", "false", false, false);
        check("null", "null", true, true);
    }

    #[test]
    fn text_and_containers() {
        check(r#""a""#, r#""a""#, true, true);
        check(r#""a""#, r#"{"$bytes": "YQ=="}"#, false, false);
        check("[1, 2]", "[1, 2]", true, true);
        check("[1, 2]", "[2, 1]", false, false);
        check("[1, 2]", "[1]", false, false);
        check("[1, 2]", r#"{"$tuple": [1, 2]}"#, false, true);
        check("[[1], 2]", r#"{"$tuple": [{"$tuple": [1]}, 2]}"#, false, true);
        check(r#"{"$tuple": [1]}"#, "[1]", false, false);
        check(r#"{"$set": [1, 2]}"#, r#"{"$set": [2, 1]}"#, true, true);
        check(r#"{"$set": [1]}"#, r#"{"$set": [true]}"#, false, false);
        check(r#"{"$set": [1]}"#, r#"{"$frozenset": [1]}"#, false, false);
        check(r#"{"$set": [1]}"#, "[1]", false, false);
        check(r#"{"a": 1, "b": 2.0}"#, r#"{"b": 2.0000001, "a": 1}"#, true, true);
        check(r#"{"a": 1}"#, r#"{"a": 1, "b": 2}"#, false, false);
        check(r#"{"a": 1, "b": 1}"#, r#"{"a": 1, "c": 1}"#, false, false);
        check(r#"{"1": 1}"#, r#"{"$dict": [[1, 1]]}"#, false, true);
        check(r#"{"1": 1, "2": 2}"#, r#"{"$dict": [[1, 1], ["1", 2]]}"#, false, false);
        check("3", r#"{"$opaque": "int"}"#, false, false);
        check(r#"{"$opaque": "m.C"}"#, r#"{"$opaque": "m.C"}"#, false, false);
    }
}
