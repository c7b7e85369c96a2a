//! A JSON value whose fields may or may not be there, and numbers as people read them.

use serde_json::Value;

/// One value of the document.
#[derive(Clone, Copy)]
pub struct View<'v>(pub &'v Value);

impl<'v> View<'v> {
    /// A field; of what is no object, nothing.
    pub fn at(self, name: &str) -> Self {
        Self(self.0.get(name).unwrap_or(&Value::Null))
    }

    /// A field's text, without characters that would move the terminal's cursor.
    pub fn text(self, name: &str) -> Option<String> {
        self.at(name).0.as_str().map(printable)
    }

    pub fn number(self, name: &str) -> Option<u64> {
        self.at(name).0.as_u64()
    }

    pub fn flag(self, name: &str) -> Option<bool> {
        self.at(name).0.as_bool()
    }

    /// The items of a field that is a list.
    pub fn list(self, name: &str) -> impl Iterator<Item = View<'v>> {
        self.at(name).0.as_array().into_iter().flatten().map(View)
    }

    /// The fields that are counts.
    pub fn numbers(self) -> impl Iterator<Item = (String, u64)> {
        let fields = self.0.as_object().into_iter().flatten();
        fields.filter_map(|(name, value)| Some((printable(name), value.as_u64()?)))
    }
}

fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c }).collect()
}

/// Seconds as days, hours, minutes: the two largest that there are.
pub fn duration(seconds: u64) -> String {
    match (seconds / 86_400, seconds / 3_600 % 24, seconds / 60 % 60, seconds % 60) {
        (0, 0, 0, s) => format!("{s} s"),
        (0, 0, m, s) => format!("{m} min {s} s"),
        (0, h, m, _) => format!("{h} h {m} min"),
        (d, h, ..) => format!("{d} d {h} h"),
    }
}

/// Bytes in the largest unit that keeps them at 1 or more, with one decimal.
pub fn amount(bytes: u64) -> String {
    let units = [(1u64 << 40, "TiB"), (1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
    match units.into_iter().find(|(unit, _)| bytes >= *unit) {
        Some((unit, name)) => {
            let tenths = u128::from(bytes) * 10 / u128::from(unit);
            format!("{}.{} {name}", tenths / 10, tenths % 10)
        }
        None => format!("{bytes} B"),
    }
}
