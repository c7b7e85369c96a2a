//! `${VAR}` and `${VAR:-default}` in the string values of the file (K8, K9).
//!
//! A variable that is unset or empty, without a default, makes the whole value unset: half a URL is no URL. `$${` is a plain `${`.

/// A string value after its variables were replaced.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Text {
    /// `None`: unset, because a variable is.
    pub value: Option<String>,
    /// Whether a variable delivered part of the value: it is not in the file for all to read.
    pub from_environment: bool,
    /// The first variable that is unset and has no default.
    pub unset: Option<String>,
    /// Whether the value is one variable and nothing else.
    pub whole: bool,
}

/// Replaces the variables of `written`.
///
/// # Errors
///
/// A `${` without its `}`, and a name that is none.
pub fn expand(written: &str, variable: &dyn Fn(&str) -> Option<String>) -> Result<Text, String> {
    let mut value = String::with_capacity(written.len());
    let mut text = Text { whole: written.starts_with("${") && written.find('}') == Some(written.len() - 1), ..Text::default() };
    let mut rest = written;
    while let Some((before, after)) = rest.split_once("${") {
        if let Some(before) = before.strip_suffix('$') {
            value.push_str(before);
            value.push_str("${");
            rest = after;
            continue;
        }
        value.push_str(before);
        let Some((inside, after)) = after.split_once('}') else {
            return Err("a `${` has no `}`; write `$${` for a plain `${`".to_owned());
        };
        let (name, default) = match inside.split_once(":-") {
            Some((name, default)) => (name, Some(default)),
            None => (inside, None),
        };
        if !is_name(name) {
            return Err("`${…}` takes the name of a variable: letters, digits and `_`, not beginning with a digit".to_owned());
        }
        match (variable(name).filter(|value| !value.is_empty()), default) {
            (Some(set), _) => {
                value.push_str(&set);
                text.from_environment = true;
            }
            (None, Some(default)) => value.push_str(default),
            (None, None) => {
                text.unset.get_or_insert_with(|| name.to_owned());
            }
        }
        rest = after;
    }
    value.push_str(rest);
    text.value = text.unset.is_none().then_some(value);
    Ok(text)
}

fn is_name(text: &str) -> bool {
    let mut bytes = text.bytes();
    bytes.next().is_some_and(|first| first.is_ascii_alphabetic() || first == b'_')
        && bytes.all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expanded(written: &str) -> Text {
        let variable = |name: &str| match name {
            "SET" => Some("value".to_owned()),
            "EMPTY" => Some(String::new()),
            "ODD" => Some("${SET}".to_owned()),
            _ => None,
        };
        expand(written, &variable).unwrap()
    }

    /// K8, K9
    #[test]
    fn replaces_set_variables_and_defaults() {
        for (written, value) in [
            ("plain", Some("plain")),
            ("", Some("")),
            ("${SET}", Some("value")),
            ("a-${SET}-${SET}", Some("a-value-value")),
            ("${UNSET:-./state}", Some("./state")),
            ("${EMPTY:-default}", Some("default")),
            ("${SET:-default}", Some("value")),
            ("${UNSET:-}", Some("")),
            ("${UNSET}", None),
            ("${EMPTY}", None),
            ("https://${UNSET}/v1", None),
            ("$${SET} costs $5", Some("${SET} costs $5")),
            ("${ODD}", Some("${SET}")),
        ] {
            assert_eq!(expanded(written).value.as_deref(), value, "{written}");
        }
    }

    #[test]
    fn tells_where_a_value_came_from() {
        assert!(expanded("${SET}").from_environment && expanded("${SET}").whole);
        assert!(!expanded("${UNSET:-sk-in-the-file}").from_environment);
        assert!(!expanded("sk-in-the-file").from_environment);
        assert_eq!(expanded("x${EMPTY}${UNSET}").unset.as_deref(), Some("EMPTY"));
        assert!(!expanded("x${EMPTY}").whole);
    }

    #[test]
    fn refuses_what_only_looks_like_a_variable() {
        for written in ["${SET", "${}", "${1X}", "${A B}", "${:-x}", "${A-B}"] {
            assert!(expand(written, &|_| None).is_err(), "{written}");
        }
    }
}
