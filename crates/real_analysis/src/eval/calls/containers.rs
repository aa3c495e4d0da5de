//! Methods of lists, sets and dictionaries, and the functions that make them.
//!
//! Positions are followed through `append`, `insert`, `pop` and slices as long as the code is a straight line:
//!
//! ```python
//! parts = ["safe"]
//! parts.append(request.args["q"])
//! parts.append("safe")
//! parts.pop(0)
//! first = parts[0]      # from the request; parts[1] is "safe"
//! ```

use super::Site;
use crate::eval::Engine;
use crate::eval::heap::{Key, Role, key_of};
use crate::eval::strings::{Arguments, positional, positionals};
use crate::facts::Refinement;
use crate::ir::{ArgKind, Op};
use crate::text::Mask;
use crate::value::{HeapId, Object, Value};

impl Engine<'_> {
    /// A method of a list, set or dictionary. `None`: they have no such method.
    pub(super) fn container_method(
        &mut self,
        site: Site<'_>,
        heap: HeapId,
        name: &str,
        args: &Arguments,
    ) -> Option<Value> {
        let is_dict = self.heap[heap.0 as usize].is_dict;
        let of_list = if is_dict { None } else { self.list_method(heap, name, args) };
        let value = match (name, args.len()) {
            _ if let Some(value) = of_list => value,
            ("sort" | "reverse", _) => Value::none(),
            ("update", _) if is_dict => {
                for (kind, value) in args {
                    match kind {
                        ArgKind::Keyword(name) => {
                            let name = self.module.symbols.shared(*name);
                            self.store_key(heap, Some(Key::Name(name)), value);
                        }
                        _ => self.merge_into(heap, value),
                    }
                }
                Value::none()
            }
            ("extend" | "update" | "extendleft" | "__iadd__", 1) => {
                self.extend(heap, positional(args, 0)?);
                Value::none()
            }
            ("union" | "symmetric_difference", _) => {
                let all = self.copy(site.id, Role::Copy, heap);
                for (_, part) in args {
                    self.extend(all, part);
                }
                return Some(self.container(all));
            }
            ("set", 3) => {
                self.store_key(heap, option_key(args), positional(args, 2)?);
                Value::none()
            }
            ("get", 2..) if let Some(value) = self.option(heap, args) => value,
            ("read_string" | "read_file" | "read_dict", _) if is_dict => {
                let text = positional(args, 0)?.any_text();
                self.store_rest(heap, &text);
                Value::none()
            }
            ("get" | "pop" | "setdefault" | "__delitem__", 1 | 2) => {
                let found = self.look_up(heap, is_dict, args)?;
                let key = positional(args, 0).and_then(key_of);
                match (name, key) {
                    ("setdefault", key) => self.store_key(heap, key, &found),
                    ("pop" | "__delitem__", Some(key)) => self.remove(heap, &key),
                    _ => {}
                }
                found
            }
            ("items", 0) => {
                let (keys, values) = (self.iterated(heap), self.any_element(heap));
                return Some(self.pairs(&keys, &values));
            }
            ("popitem", 0) if is_dict => {
                let (keys, values) = (self.iterated(heap), self.any_element(heap));
                let pairs = self.pairs(&keys, &values);
                return Some(self.element(&pairs));
            }
            ("__getitem__", 1) => self.load_key(heap, key_of(positional(args, 0)?).as_ref()),
            ("keys", 0) => {
                let keys = self.iterated(heap);
                self.list_of(&keys)
            }
            ("values", 0) => {
                let values = self.any_element(heap);
                self.list_of(&values)
            }
            ("copy", 0) => {
                let copy = self.copy(site.id, Role::Copy, heap);
                self.container(copy)
            }
            ("clear", 0) => {
                self.clear(heap);
                Value::none()
            }
            ("index" | "count", _) => Value::number(),
            _ => return None,
        };
        if let Some(callee) = site.callee
            && let Op::Attribute { object, .. } = self.op(callee)
        {
            self.refresh_container(*object, heap);
        }
        Some(value)
    }

    /// A method of a list, a set or a queue.
    fn list_method(&mut self, heap: HeapId, name: &str, args: &Arguments) -> Option<Value> {
        Some(match (name, args.len()) {
            ("appendleft", 1) => {
                self.insert(heap, &Value::int(0), positional(args, 0)?);
                Value::none()
            }
            ("append" | "add", 1) | ("put" | "put_nowait", 1..) => {
                self.append(heap, positional(args, 0)?);
                Value::none()
            }
            ("insert", 2) => {
                self.insert(heap, positional(args, 0)?, positional(args, 1)?);
                Value::none()
            }
            ("intersection", _) => {
                let sides = positionals(args).cloned().collect::<Vec<_>>();
                let mut common = self.container(heap);
                for side in &sides {
                    common = self.intersection(&common, side);
                }
                common
            }
            ("pop" | "__delitem__", 0 | 1) => self.pop(heap, positional(args, 0)),
            ("popleft" | "get" | "get_nowait", 0) => self.pop(heap, Some(&Value::int(0))),
            ("reverse", 0) => {
                self.reverse(heap);
                Value::none()
            }
            ("remove", 1) if let Some(index) = self.index_of(heap, positional(args, 0)?) => {
                self.pop(heap, Some(&Value::int(index)));
                Value::none()
            }
            ("sort" | "reverse" | "remove" | "discard" | "rotate", _) => {
                self.forget_positions(heap);
                Value::none()
            }
            _ => return None,
        })
    }

    /// Where a list surely has a value: the first element that is known to be it, where no earlier one may be equal.
    fn index_of(&self, heap: HeapId, value: &Value) -> Option<i64> {
        let length = self.length(heap)?;
        let differ = |a: &Value| a.text.as_constant().is_some() != value.text.as_constant().is_some();
        let element = |index: i64| self.load_key(heap, Some(&Key::Index(index)));
        let found = (0..length).find(|index| element(*index) == *value)?;
        (0..found).all(|index| differ(&element(index))).then_some(found)
    }

    /// `a & b`: every element is one of both, so one of the constants of either.
    pub(in crate::eval) fn intersection(&mut self, left: &Value, right: &Value) -> Value {
        let right_says_more =
            self.constant_members(right).is_some() || (left.taint() != 0 && right.taint() == 0);
        let element = self.element(if right_says_more { right } else { left });
        self.list_of(&element)
    }

    pub(in crate::eval) fn extend(&mut self, heap: HeapId, with: &Value) {
        if self.heap[heap.0 as usize].is_dict {
            self.merge_into(heap, with);
        } else {
            if let Some(elements) = self.elements_of(with) {
                for element in &elements {
                    self.append(heap, element);
                }
                return;
            }
            let element = self.element(with);
            self.forget_positions(heap);
            self.store_rest(heap, &element);
        }
    }

    /// `d.get(key, default)`, `d.pop(key)`, `d.setdefault(key, value)`.
    fn look_up(&mut self, heap: HeapId, is_dict: bool, args: &Arguments) -> Option<Value> {
        let known = match key_of(positional(args, 0)?).filter(|_| is_dict) {
            Some(key) if self.heap[heap.0 as usize].has(&key) && !self.may_lack(heap, &key) => {
                return Some(self.load_key(heap, Some(&key)));
            }
            Some(key) if self.lacks(heap, &key) => {
                return Some(positional(args, 1).cloned().unwrap_or_else(Value::none));
            }
            Some(key) => self.load_key(heap, Some(&key)),
            None => self.any_element(heap),
        };
        Some(match positional(args, 1) {
            Some(default) => known.join(default),
            None => known,
        })
    }

    /// The option of a configuration that was set in this program: `config.get("section", "name")`.
    fn option(&self, heap: HeapId, args: &Arguments) -> Option<Value> {
        let key = option_key(args)?;
        if self.heap[heap.0 as usize].has(&key) {
            return Some(self.load_key(heap, Some(&key)));
        }
        let section = self.load_key(heap, Some(&key_of(positional(args, 0)?)?));
        match section.object {
            Object::Container(section) => Some(self.load_key(section, key_of(positional(args, 1)?).as_ref())),
            _ => None,
        }
    }

    /// `config["section"]`: the options of a section that were set one by one.
    pub(in crate::eval) fn section(&mut self, heap: HeapId, name: &Key) -> Option<Value> {
        let Key::Name(name) = name else { return None };
        let prefix = format!("{name}\0");
        let options = self.heap[heap.0 as usize].fields.iter().filter_map(|(key, value)| match key {
            Key::Name(key) => Some((Key::Name(key.strip_prefix(&*prefix)?.into()), value.clone())),
            Key::Index(_) => None,
        });
        let options: Vec<(Key, Value)> = options.collect();
        if options.is_empty() {
            return None;
        }
        let section = self.allocate_part(self.frame().inst, Role::Options, true);
        for (key, value) in options {
            self.store_key(section, Some(key), &value);
        }
        Some(self.container(section))
    }

    pub(in crate::eval) fn list_of(&mut self, element: &Value) -> Value {
        let at = self.frame().inst;
        let heap = self.allocate(at, false);
        self.heap[heap.0 as usize].next = None;
        self.store_rest(heap, element);
        self.container(heap)
    }

    fn pairs(&mut self, keys: &Value, values: &Value) -> Value {
        let at = self.frame().inst;
        let pair = self.allocate_part(at, Role::Pair, false);
        self.append(pair, keys);
        self.append(pair, values);
        let pair = self.container(pair);
        self.list_of(&pair)
    }

    pub(super) fn make_dict(&mut self, args: &Arguments) -> Value {
        let heap = self.allocate(self.frame().inst, true);
        for (kind, value) in args {
            match kind {
                ArgKind::Keyword(name) => {
                    let key = key_of(&Value::constant(self.module.symbols.shared(*name)));
                    self.store_key(heap, key, value);
                }
                _ => match self.pairs_of(value) {
                    Some(pairs) => {
                        for (key, value) in pairs {
                            self.store_key(heap, Some(key), &value);
                        }
                    }
                    None => self.merge_into(heap, value),
                },
            }
        }
        self.container(heap)
    }

    /// The pairs of a list of pairs whose keys are known: `dict([("a", 1)])`, `dict(zip(names, values))`.
    fn pairs_of(&self, value: &Value) -> Option<Vec<(Key, Value)>> {
        let Object::Container(list) = value.object else { return None };
        if self.heap[list.0 as usize].is_dict {
            return None;
        }
        let pair = |value: &Value| match value.object {
            Object::Container(pair) if self.length(pair) == Some(2) => {
                let part = |index| self.load_key(pair, Some(&Key::Index(index)));
                Some((key_of(&part(0))?, part(1)))
            }
            _ => None,
        };
        self.elements_of(value)?.iter().map(pair).collect()
    }

    /// `ChainMap(first, second)`: what the first has hides what the others have.
    pub(super) fn chained(&mut self, args: &Arguments) -> Value {
        let heap = self.allocate(self.frame().inst, true);
        for layer in positionals(args).cloned().collect::<Vec<_>>().iter().rev() {
            self.merge_into(heap, layer);
        }
        self.container(heap)
    }

    pub(super) fn zipped(&mut self, path: &str, args: &Arguments) -> Value {
        // `zip(*rows)`
        if let ([(ArgKind::Star, rows)], "builtins.zip") = (&args[..], path) {
            let rows = rows.clone();
            if let Some(rows) = self.elements_of(&rows) {
                let rows = rows.into_iter().map(|row| (ArgKind::Positional, row));
                return self.zipped(path, &rows.collect());
            }
            let row = self.element(&rows);
            let cell = self.element(&row);
            let column = self.list_of(&cell);
            return self.list_of(&column);
        }
        let columns: Option<Vec<Vec<Value>>> =
            positionals(args).map(|value| self.elements_of(value)).collect();
        if let (Some(columns), "builtins.zip") = (columns, path)
            && !self.is_in_loop()
        {
            return self.rows(&columns);
        }
        let mut parts: Vec<Value> = Vec::new();
        if path == "builtins.enumerate" {
            parts.push(Value::number());
        }
        for value in positionals(args) {
            let element = self.element(value);
            parts.push(element);
        }
        let at = self.frame().inst;
        let tuple = self.allocate_part(at, Role::Pair, false);
        for part in &parts {
            self.append(tuple, part);
        }
        let tuple = self.container(tuple);
        self.list_of(&tuple)
    }

    /// The rows of columns whose elements are known, as far as the shortest goes. Each is a tuple.
    fn rows(&mut self, columns: &[Vec<Value>]) -> Value {
        let at = self.frame().inst;
        let list = self.allocate(at, false);
        let length = columns.iter().map(Vec::len).min().unwrap_or(0);
        for index in 0..length {
            let row = self.allocate_part(at, Role::Row(index as u32), false);
            for column in columns {
                self.append(row, &column[index]);
            }
            let row = self.container(row);
            self.append(list, &row);
        }
        self.container(list)
    }

    pub(super) fn mapped(&mut self, args: &Arguments) -> Option<Value> {
        let function = positional(args, 0)?.clone();
        let iterable = positional(args, 1)?.clone();
        let element = self.element(&iterable);
        let result = self.call_value(&function, element);
        Some(self.list_of(&result))
    }

    /// `filter(test, x)`: the elements that pass, which for `str.isdigit` have only digits.
    pub(super) fn filtered(&mut self, args: &Arguments) -> Option<Value> {
        let test = positional(args, 0)?.clone();
        let iterable = positional(args, 1)?.clone();
        let element = self.element(&iterable);
        let mask = match test.path_name() {
            Some("builtins.str.isdigit" | "builtins.str.isdecimal") => Mask::DIGITS,
            Some("builtins.str.isalpha") => Mask::LETTERS.with_other(),
            Some("builtins.str.isalnum") => Mask::ALNUM.with_other(),
            _ => Mask::ANY,
        };
        let mut proof = Refinement::mask(mask);
        if let Object::Function(target, captured) = &test.object {
            let at = self.frame().inst;
            self.call_function(at, *target, captured, None, &vec![(ArgKind::Positional, element.clone())]);
            if let Some(summary) = self.frame_mut().summaries.remove(&at) {
                proof = summary.truthy.first().cloned().unwrap_or(proof);
            }
        }
        Some(self.list_of(&element.refined(&proof)))
    }
}

/// `config.set("section", "name", value)`: both names together.
fn option_key(args: &Arguments) -> Option<Key> {
    let part = |index| positional(args, index).and_then(|value| value.text.as_constant());
    Some(Key::Name(format!("{}\0{}", part(0)?, part(1)?).into()))
}
