//! Holds the file's tree against the JSON Schema of its types: unknown and missing keys, wrong kinds, numbers out of range.
//!
//! All faults are collected. What is faulty, and what is unset, is then taken out of the tree, so that the rest can still be read
//! and judged in the same run. The schema is the one that is shipped, so the two can't disagree about what is valid.
//!
//! Only what schemars writes for our types is understood; a test sees to it that the schema holds nothing else.

use serde_json::Value as Schema;

use crate::config::fault::{Report, did_you_mean};
use crate::config::source::{Member, Node, Value, push_key};

/// Checks the tree and takes out what is faulty or unset. `false`: the root itself is unusable.
pub fn check(root: &mut Node, schema: &Schema, report: &mut Report<'_>) -> bool {
    Walk { root: schema, report }.node(root, schema, "")
}

struct Walk<'w, 't> {
    root: &'w Schema,
    report: &'w mut Report<'t>,
}

impl<'w> Walk<'w, '_> {
    /// Whether the node may stay.
    fn node(&mut self, node: &mut Node, schema: &'w Schema, path: &str) -> bool {
        let choices = self.choices(schema);
        let fitting: Vec<_> = choices.iter().copied().filter(|choice| fits(&node.value, choice)).collect();
        if let Some(constant) = self.constant_fault(node, &fitting) {
            self.report.fault(node.offset, path.to_owned(), constant);
            return false;
        }
        let Some(schema) = fitting.first().copied() else {
            let expected: Vec<_> = choices.iter().filter_map(|choice| expected(choice)).collect();
            let message = format!("expected {}, found {}", expected.join(" or "), kind(&node.value));
            self.report.fault(node.offset, path.to_owned(), message);
            return false;
        };
        let offset = node.offset;
        match &mut node.value {
            Value::Map(members) => self.map(members, offset, schema, path),
            Value::List(items) => self.list(items, offset, schema, path),
            Value::Number(text) => self.number(text, offset, schema, path),
            Value::Null | Value::Bool(_) | Value::Text(_) => true,
        }
    }

    fn map(&mut self, members: &mut Vec<Member>, offset: usize, schema: &'w Schema, path: &str) -> bool {
        let properties = schema.get("properties").and_then(Schema::as_object);
        let required: Vec<_> =
            schema.get("required").and_then(Schema::as_array).into_iter().flatten().filter_map(Schema::as_str).collect();
        let others = schema.get("additionalProperties").filter(|others| others.is_object());
        let written: Vec<_> = members.iter().map(|member| member.key.clone()).collect();
        let mut is_usable = true;
        members.retain_mut(|member| {
            let mut path = path.to_owned();
            push_key(&mut path, &member.key);
            let known = properties.and_then(|properties| properties.get(&member.key));
            let Some(of_member) = known.or(others) else {
                let names = || properties.into_iter().flatten().map(|(name, _)| name.as_str());
                let mut message = format!("`{}` is not a key here{}", member.key, did_you_mean(&member.key, names()));
                if !message.ends_with('?') {
                    message.push_str(&format!("; known keys: {}", names().collect::<Vec<_>>().join(", ")));
                }
                self.report.fault(member.key_offset, path, message);
                return false;
            };
            let is_required = known.is_none() || required.contains(&member.key.as_str());
            if let Some(variable) = unset(&member.node) {
                // It stays where `null` may stand, so that "written, but unset" differs from "not written".
                if self.choices(of_member).iter().any(|choice| fits(&Value::Null, choice)) {
                    return true;
                }
                if is_required {
                    is_usable &= known.is_none();
                    self.report.fault(
                        member.node.offset,
                        path,
                        format!("the variable {variable} is not set, and a value is needed here"),
                    );
                }
                return false;
            }
            let stays = self.node(&mut member.node, of_member, &path);
            is_usable &= stays || known.is_none() || !is_required;
            stays
        });
        for name in required {
            if !written.iter().any(|key| key == name) {
                self.report.fault(offset, path.to_owned(), format!("the key `{name}` is missing"));
                is_usable = false;
            }
        }
        is_usable
    }

    fn list(&mut self, items: &mut Vec<(usize, Node)>, offset: usize, schema: &'w Schema, path: &str) -> bool {
        let least = schema.get("minItems").and_then(Schema::as_u64).unwrap_or(0);
        if u64::try_from(items.len()).is_ok_and(|length| length < least) {
            self.report.fault(offset, path.to_owned(), format!("the list needs at least {least} item"));
            return false;
        }
        let Some(of_items) = schema.get("items") else { return true };
        items.retain_mut(|(index, node)| {
            let path = format!("{path}[{index}]");
            if let Some(variable) = unset(node) {
                self.report.fault(node.offset, path, format!("the variable {variable} is not set, and a value is needed here"));
                return false;
            }
            self.node(node, of_items, &path)
        });
        true
    }

    fn number(&mut self, text: &str, offset: usize, schema: &'w Schema, path: &str) -> bool {
        let is_integer = schema.get("type").is_some_and(|of| has_type(of, "integer"));
        let fault = if is_integer { integer_fault(text, schema) } else { float_fault(text, schema) };
        match fault {
            Some(message) => {
                self.report.fault(offset, path.to_owned(), message);
                false
            }
            None => true,
        }
    }

    /// The alternatives of a schema, references followed.
    fn choices(&self, schema: &'w Schema) -> Vec<&'w Schema> {
        if let Some(reference) = schema.get("$ref").and_then(Schema::as_str) {
            let target = reference.strip_prefix('#').and_then(|pointer| self.root.pointer(pointer));
            return target.map_or_else(Vec::new, |target| self.choices(target));
        }
        let alternatives = schema.get("anyOf").or_else(|| schema.get("oneOf")).and_then(Schema::as_array);
        match alternatives {
            Some(alternatives) => alternatives.iter().flat_map(|alternative| self.choices(alternative)).collect(),
            None => vec![schema],
        }
    }

    /// What is wrong with a word that must be one of a closed set.
    fn constant_fault(&self, node: &Node, fitting: &[&'w Schema]) -> Option<String> {
        let Value::Text(text) = &node.value else { return None };
        let written = text.value.as_deref()?;
        let mut words = Vec::new();
        for schema in fitting {
            match (schema.get("enum").and_then(Schema::as_array), schema.get("const").and_then(Schema::as_str)) {
                (Some(several), _) => words.extend(several.iter().filter_map(Schema::as_str)),
                (None, Some(one)) => words.push(one),
                (None, None) => return None,
            }
        }
        if words.is_empty() || words.contains(&written) {
            return None;
        }
        let listed: Vec<_> = words.iter().map(|word| format!("`{word}`")).collect();
        Some(format!("must be {}{}", listed.join(" or "), did_you_mean(written, words)))
    }
}

fn unset(node: &Node) -> Option<&str> {
    match &node.value {
        Value::Text(text) => text.unset.as_deref(),
        _ => None,
    }
}

fn fits(value: &Value, schema: &Schema) -> bool {
    let Some(of) = schema.get("type") else { return true };
    match value {
        Value::Null => has_type(of, "null"),
        Value::Bool(_) => has_type(of, "boolean"),
        Value::Number(_) => has_type(of, "number") || has_type(of, "integer"),
        Value::Text(_) => has_type(of, "string"),
        Value::List(_) => has_type(of, "array"),
        Value::Map(_) => has_type(of, "object"),
    }
}

fn has_type(of: &Schema, name: &str) -> bool {
    of.as_str() == Some(name) || of.as_array().is_some_and(|names| names.iter().any(|of| of.as_str() == Some(name)))
}

fn integer_fault(text: &str, schema: &Schema) -> Option<String> {
    if !text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-') {
        return Some("expected a whole number".to_owned());
    }
    let bound = |name: &str| schema.get(name).and_then(Schema::as_u64).map(u128::from);
    let largest_of_type = match schema.get("format").and_then(Schema::as_str) {
        Some("uint8") => u128::from(u8::MAX),
        Some("uint16") => u128::from(u16::MAX),
        Some("uint32") => u128::from(u32::MAX),
        _ => u128::from(u64::MAX),
    };
    let (least, most) =
        (bound("minimum").unwrap_or(0), bound("maximum").map_or(largest_of_type, |most| most.min(largest_of_type)));
    match text.parse::<u128>() {
        Ok(number) if number < least => Some(format!("must be at least {least}")),
        Ok(number) if number > most => Some(format!("must be at most {most}")),
        Ok(_) => None,
        Err(_) if text.starts_with('-') => Some(format!("must be at least {least}")),
        Err(_) => Some(format!("must be at most {most}")),
    }
}

fn float_fault(text: &str, schema: &Schema) -> Option<String> {
    let number: f64 = text.parse().ok()?;
    let bound = |name: &str| schema.get(name).and_then(Schema::as_f64);
    if let Some(least) = bound("minimum").filter(|least| number < *least) {
        return Some(format!("must be at least {least}"));
    }
    if let Some(least) = bound("exclusiveMinimum").filter(|least| number <= *least) {
        return Some(format!("must be more than {least}"));
    }
    (!number.is_finite()).then(|| "is too large".to_owned())
}

fn expected(schema: &Schema) -> Option<String> {
    let of = schema.get("type")?;
    let names: Vec<_> = match of {
        Schema::Array(names) => names.iter().filter_map(Schema::as_str).collect(),
        other => other.as_str().into_iter().collect(),
    };
    let words: Vec<_> = names
        .into_iter()
        .map(|name| match name {
            "object" => "an object {…}",
            "array" => "a list […]",
            "string" => "a string",
            "boolean" => "true or false",
            "integer" => "a whole number",
            "number" => "a number",
            other => other,
        })
        .collect();
    Some(words.join(" or "))
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::Text(_) => "a string",
        Value::List(_) => "a list",
        Value::Map(_) => "an object",
    }
}
