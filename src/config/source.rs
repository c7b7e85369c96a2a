//! The text of the file as a tree that knows where each value stands, with its variables already replaced.
//!
//! JSON with comments: nothing else is added to the language. A key that stands twice is a fault, since readers differ in which
//! of the two they believe.

use jsonc_parser::common::Ranged;
use jsonc_parser::{CollectOptions, ParseOptions, ast, parse_to_ast};
use serde_json::value::RawValue;

use crate::config::fault::Report;
use crate::config::variable::{self, Text};

/// A value and the byte offset at which it begins.
#[derive(Clone, Debug)]
pub struct Node {
    pub offset: usize,
    pub value: Value,
}

#[derive(Clone, Debug)]
pub enum Value {
    Null,
    Bool(bool),
    /// The number's text, valid JSON.
    Number(String),
    Text(Text),
    /// Each item with its index in the file, which stays when others are taken out.
    List(Vec<(usize, Node)>),
    Map(Vec<Member>),
}

#[derive(Clone, Debug)]
pub struct Member {
    pub key: String,
    pub key_offset: usize,
    pub node: Node,
}

/// The way from the root to a value, as the parser of settings walks it.
#[derive(Clone, Copy)]
pub enum At<'a> {
    Root,
    Key(&'a At<'a>, &'a str),
    /// The n-th item that is left.
    Item(&'a At<'a>, usize),
}

/// Where a way ends: the value, if it stands in the file; the nearest offset; the path as people write it.
pub struct Place<'n> {
    pub node: Option<&'n Node>,
    pub offset: usize,
    pub path: String,
}

/// Parses the text; `None` and one fault where it is no JSON at all.
pub fn parse(text: &str, variable: &dyn Fn(&str) -> Option<String>, report: &mut Report<'_>) -> Option<Node> {
    let options = ParseOptions {
        allow_comments: true,
        allow_loose_object_property_names: false,
        allow_trailing_commas: false,
        allow_missing_commas: false,
        allow_single_quoted_strings: false,
        allow_hexadecimal_numbers: false,
        allow_unary_plus_numbers: false,
        allow_bare_decimal_point_numbers: false,
        allow_non_finite_numbers: false,
        allow_extended_string_escapes: false,
    };
    match parse_to_ast(text, &CollectOptions::default(), &options) {
        Ok(parsed) => match parsed.value {
            Some(value) => Some(Reader { variable, report }.node(&value, &At::Root)),
            None => {
                report.fault(0, String::new(), "the file is empty; the least that works is {\"models\": []}");
                None
            }
        },
        Err(error) => {
            report.fault(
                error.range().start,
                String::new(),
                format!("this is not valid JSON: {}", lower_first(&error.kind().to_string())),
            );
            None
        }
    }
}

impl Node {
    /// The value of a key, where this is a map that has it.
    pub fn member(&self, key: &str) -> Option<&Node> {
        match &self.value {
            Value::Map(members) => members.iter().find(|member| member.key == key).map(|member| &member.node),
            _ => None,
        }
    }

    /// Follows a way as far as the file goes.
    pub fn locate(&self, at: &At<'_>) -> Place<'_> {
        match at {
            At::Root => Place { node: Some(self), offset: self.offset, path: String::new() },
            At::Key(parent, key) => {
                let mut place = self.locate(parent);
                push_key(&mut place.path, key);
                place.step(|node| node.member(key))
            }
            At::Item(parent, nth) => {
                let mut place = self.locate(parent);
                let item = place.node.and_then(|node| match &node.value {
                    Value::List(items) => items.get(*nth),
                    _ => None,
                });
                place.path.push_str(&format!("[{}]", item.map_or(*nth, |(index, _)| *index)));
                place.step(|_| item.map(|(_, node)| node))
            }
        }
    }

    /// Writes the tree as JSON without what is unset.
    pub fn to_json(&self) -> String {
        let mut out = String::new();
        self.write(&mut out);
        out
    }

    fn write(&self, out: &mut String) {
        match &self.value {
            Value::Null => out.push_str("null"),
            Value::Bool(value) => out.push_str(if *value { "true" } else { "false" }),
            Value::Number(text) => out.push_str(text),
            Value::Text(text) => match &text.value {
                Some(value) => out.push_str(&quoted(value)),
                None => out.push_str("null"),
            },
            Value::List(items) => {
                out.push('[');
                separated(out, items, |out, (_, node)| node.write(out));
                out.push(']');
            }
            Value::Map(members) => {
                out.push('{');
                separated(out, members, |out, member| {
                    out.push_str(&quoted(&member.key));
                    out.push(':');
                    member.node.write(out);
                });
                out.push('}');
            }
        }
    }
}

impl<'a> At<'a> {
    pub fn key(&'a self, key: &'a str) -> At<'a> {
        At::Key(self, key)
    }

    pub fn item(&'a self, nth: usize) -> At<'a> {
        At::Item(self, nth)
    }
}

impl<'n> Place<'n> {
    fn step(self, next: impl FnOnce(&'n Node) -> Option<&'n Node>) -> Self {
        let node = self.node.and_then(next);
        Self { node, offset: node.map_or(self.offset, |node| node.offset), path: self.path }
    }
}

/// Appends a key to a path: `models[3].upstream`, or `["gpt-3.5-turbo"]` where the key has characters of its own.
pub fn push_key(path: &mut String, key: &str) {
    let is_plain = !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'$'));
    if !is_plain {
        path.push_str(&format!("[{}]", quoted(key)));
        return;
    }
    if !path.is_empty() {
        path.push('.');
    }
    path.push_str(key);
}

struct Reader<'r, 't> {
    variable: &'r dyn Fn(&str) -> Option<String>,
    report: &'r mut Report<'t>,
}

impl Reader<'_, '_> {
    fn node(&mut self, value: &ast::Value<'_>, at: &At<'_>) -> Node {
        let offset = value.start();
        let value = match value {
            ast::Value::NullKeyword(_) => Value::Null,
            ast::Value::BooleanLit(literal) => Value::Bool(literal.value),
            ast::Value::NumberLit(literal) => self.number(literal.value, offset, at),
            ast::Value::StringLit(literal) => self.text(&literal.value, offset, at),
            ast::Value::Array(array) => {
                let items = array.elements.iter().enumerate();
                Value::List(items.map(|(index, element)| (index, self.node(element, &at.item(index)))).collect())
            }
            ast::Value::Object(object) => Value::Map(self.members(object, at)),
        };
        Node { offset, value }
    }

    fn members(&mut self, object: &ast::Object<'_>, at: &At<'_>) -> Vec<Member> {
        let mut seen = std::collections::HashMap::with_capacity(object.properties.len());
        let mut members = Vec::with_capacity(object.properties.len());
        for property in &object.properties {
            let (key, key_offset) = (property.name.as_str().to_owned(), property.name.start());
            if let Some(first) = seen.insert(key.clone(), key_offset) {
                let line = self.report.line(first);
                self.report.fault(
                    key_offset,
                    written_path(&at.key(&key)),
                    format!("this key stands here twice, first on line {line}"),
                );
                seen.insert(key, first);
                continue;
            }
            let node = self.node(&property.value, &at.key(&key));
            members.push(Member { key, key_offset, node });
        }
        members
    }

    fn number(&mut self, text: &str, offset: usize, at: &At<'_>) -> Value {
        if serde_json::from_str::<&RawValue>(text).is_err() {
            self.report.fault(offset, written_path(at), "this is not a JSON number");
            return Value::Null;
        }
        Value::Number(text.to_owned())
    }

    fn text(&mut self, written: &str, offset: usize, at: &At<'_>) -> Value {
        let text = variable::expand(written, self.variable).unwrap_or_else(|message| {
            self.report.fault(offset, written_path(at), message);
            Text { value: Some(String::new()), ..Text::default() }
        });
        if let (Some(name), false) = (&text.unset, text.whole) {
            self.report.warn(
                offset,
                written_path(at),
                format!("the variable {name} is not set, so this whole value counts as unset"),
            );
        }
        Value::Text(text)
    }
}

/// The path of a way before anything was taken out of the tree.
fn written_path(at: &At<'_>) -> String {
    match at {
        At::Root => String::new(),
        At::Key(parent, key) => {
            let mut path = written_path(parent);
            push_key(&mut path, key);
            path
        }
        At::Item(parent, nth) => format!("{}[{nth}]", written_path(parent)),
    }
}

fn separated<T>(out: &mut String, items: &[T], mut write: impl FnMut(&mut String, &T)) {
    for (number, item) in items.iter().enumerate() {
        if number > 0 {
            out.push(',');
        }
        write(out, item);
    }
}

fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

fn lower_first(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| first.to_lowercase().chain(chars).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Result<Node, String> {
        let mut report = Report::new("f", text);
        let node = parse(text, &|name| (name == "SET").then(|| "v".to_owned()), &mut report);
        report.into_result(node).map(|(node, _)| node).map_err(|faults| faults.to_string())
    }

    #[test]
    fn keeps_numbers_as_written_and_replaces_variables() {
        let node = parsed("{ // note\n \"a\": [0.30, 1e2, null, true], \"b\": \"${SET}${SET}\", \"c\": \"${UNSET}\" }").unwrap();
        assert_eq!(node.to_json(), r#"{"a":[0.30,1e2,null,true],"b":"vv","c":null}"#);
    }

    /// K6, K13
    #[test]
    fn a_key_that_stands_twice_is_named_with_both_places() {
        let faults = parsed("{\"x\": {\n \"a.b\": 1,\n \"a.b\": 2,\n \"a.b\": 3}}").unwrap_err();
        assert_eq!(
            faults,
            "f:3:2: x[\"a.b\"]: this key stands here twice, first on line 2\nf:4:2: x[\"a.b\"]: this key stands here twice, first on line 2"
        );
    }

    #[test]
    fn says_where_the_text_stops_being_json() {
        for (text, place) in [
            ("{\"a\": 1,}", "f:1:8"),
            ("{\n\"a\" 1}", "f:2:5"),
            ("{'a': 1}", "f:1:2"),
            ("{a: 1}", "f:1:2"),
            ("[1, 2", "f:1:1"),
            ("{} {}", "f:1:4"),
            ("", "f:1:1"),
            ("{\"a\": 0x10}", "f:1:7"),
            ("{\"a\": 01}", "f:1:"),
            ("{\"a\": .5}", "f:1:7"),
        ] {
            let faults = parsed(text).unwrap_err();
            assert!(faults.starts_with(place), "{text}: {faults}");
        }
    }

    #[test]
    fn a_very_deep_file_is_refused() {
        assert!(parsed(&"[".repeat(100_000)).is_err());
        let deepest = format!("{}{}", "[".repeat(500), "]".repeat(500));
        assert_eq!(parsed(&deepest).unwrap().to_json(), deepest);
    }

    #[test]
    fn places_are_found_and_printed() {
        let node = parsed("{\"models\": [{\"id\": \"a\"},\n {\"id\": \"b\"}]}").unwrap();
        let (root, models) = (At::Root, At::Key(&At::Root, "models"));
        let place = node.locate(&models.item(1).key("id"));
        assert_eq!((place.offset, place.path.as_str()), (33, "models[1].id"));
        let place = node.locate(&models.item(1).key("upstream"));
        assert_eq!((place.offset, place.path.as_str(), place.node.is_none()), (26, "models[1].upstream", true));
        assert_eq!(node.locate(&root.key("x y")).path, "[\"x y\"]");
    }
}
