//! The explanation for people: one fact a line, its name before it.

use std::io::{self, Write};

use serde_json::{Map, Value};

use crate::ops::watch::line;

/// The names in the order in which a reader asks for them.
const ORDER: [&str; 22] = [
    "method",
    "path",
    "client",
    "model",
    "refused",
    "rule",
    "why",
    "upstream",
    "not_configured",
    "url",
    "connect_to",
    "upstream_model",
    "key",
    "headers",
    "dropped_headers",
    "body",
    "price",
    "reservation",
    "limits",
    "client_limits",
    "rules",
    "candidates",
];

/// The fields that stand first in an object, in this order; the others follow by name.
const FIRST: [&str; 16] = [
    "stand", "status", "attempt", "attempts", "id", "proxy", "key", "kind", "addr", "what", "from", "to", "code", "line",
    "column", "text",
];

/// Writes an explanation; what is long stands last.
pub fn write(told: &Value, out: &mut dyn Write) -> io::Result<()> {
    let Value::Object(told) = told else { return Ok(()) };
    for name in ORDER {
        match told.get(name) {
            Some(Value::Object(fields)) => {
                for (field, value) in in_order(fields) {
                    write_field(out, name, Some(field), value)?;
                }
            }
            Some(value) => write_field(out, name, None, value)?,
            None => {}
        }
    }
    Ok(())
}

fn write_field(out: &mut dyn Write, name: &str, field: Option<&str>, value: &Value) -> io::Result<()> {
    let lines = match value {
        Value::Array(items) if items.iter().any(Value::is_object) => items.iter().map(one_line).collect(),
        Value::Array(items) if items.is_empty() => Vec::new(),
        Value::Null => Vec::new(),
        other => vec![one_line(other)],
    };
    for line in lines {
        let field = field.map(|field| format!("{field}: ")).unwrap_or_default();
        writeln!(out, "{name:<17}{field}{}", clean(&line))?;
    }
    Ok(())
}

/// An object on one line.
fn one_line(value: &Value) -> String {
    let Value::Object(fields) = value else { return plain(value) };
    let text = |name: &str| fields.get(name).map(plain);
    match (text("rule"), text("fate"), text("why"), text("name")) {
        (Some(rule), Some(fate), Some(why), _) => format!("{rule:<18}{fate:<9}{why}"),
        (None, None, Some(why), Some(name)) => format!("{name}: {why}"),
        _ => pairs(fields),
    }
}

fn pairs(fields: &Map<String, Value>) -> String {
    let shown = in_order(fields).into_iter().filter(|(_, value)| !value.is_null());
    shown.map(|(name, value)| format!("{name} {}", plain(value))).collect::<Vec<_>>().join(", ")
}

fn in_order(fields: &Map<String, Value>) -> Vec<(&String, &Value)> {
    let mut fields: Vec<_> = fields.iter().collect();
    fields.sort_by_key(|(name, _)| FIRST.iter().position(|first| first == name).unwrap_or(FIRST.len()));
    fields
}

fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(items) => items.iter().map(plain).collect::<Vec<_>>().join(" "),
        Value::Null => "none".to_owned(),
        other => other.to_string(),
    }
}

/// A model's name may hold anything; nothing of it moves the terminal's cursor.
fn clean(text: &str) -> String {
    let mut out = Vec::new();
    line::message(&mut out, text);
    String::from_utf8_lossy(&out).into_owned()
}
