//! What every part of the parser shares: the tree for places, the report, the environment and the files.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use crate::config::fault::Report;
use crate::config::raw;
use crate::config::source::{At, Node, Value};
use crate::domain::billing::Price;
use crate::domain::secret::Secret;
use crate::domain::upstream::registry::Registry;

pub struct Context<'a, 't> {
    pub root: &'a Node,
    pub report: &'a mut Report<'t>,
    pub variable: &'a dyn Fn(&str) -> Option<String>,
    pub read: &'a dyn Fn(&Path) -> io::Result<String>,
    pub registry: &'a Registry,
    pub catalogue: Lists,
}

/// The catalogue of list prices, as far as a configuration can ask for it.
#[derive(Clone, Copy)]
pub struct Lists {
    pub price: fn(&str) -> Option<Price>,
    pub names: fn() -> Vec<&'static str>,
}

impl Context<'_, '_> {
    /// Notes a fault of meaning, unless the form is already at fault there.
    pub fn fault(&mut self, at: &At<'_>, message: impl Into<String>) {
        let place = self.root.locate(at);
        if !self.report.form_is_wrong_below(&place.path) {
            self.report.fault(place.offset, place.path, message);
        }
    }

    pub fn warn(&mut self, at: &At<'_>, message: impl Into<String>) {
        let place = self.root.locate(at);
        self.report.warn(place.offset, place.path, message);
    }

    /// Whether the key stands in the file, even with an unset variable or `null` as its value.
    pub fn is_written(&self, at: &At<'_>) -> bool {
        self.root.locate(at).node.is_some()
    }

    /// The path of a place, as messages about another place name it.
    pub fn path(&self, at: &At<'_>) -> String {
        self.root.locate(at).path
    }

    /// A variable of the environment; an empty one counts as unset (K8).
    pub fn variable(&self, name: &str) -> Option<String> {
        (self.variable)(name).filter(|value| !value.is_empty())
    }

    /// Reads a secret from where it is (K9). `None`: unset, or a fault was noted.
    pub fn secret(&mut self, at: &At<'_>, raw: Option<&raw::Secret>) -> Option<Secret> {
        match raw? {
            raw::Secret::Text(text) => {
                let secret = self.sendable(at, text, "the value")?;
                if !self.is_from_environment(at) {
                    self.warn(at, "the secret stands in the file in plain text; write \"${VARIABLE}\" or {\"file\": \"…\"}");
                }
                Some(secret)
            }
            raw::Secret::File(raw::SecretFile { file }) => match (self.read)(Path::new(file)) {
                Ok(text) => {
                    let secret = self.sendable(at, text.trim_end_matches(['\r', '\n']), &format!("the content of {file}"));
                    if text.trim().is_empty() {
                        self.warn(at, format!("{file} is empty, so this secret counts as unset"));
                    }
                    secret
                }
                Err(error) => {
                    self.fault(at, format!("{file} can't be read: {error}"));
                    None
                }
            },
        }
    }

    /// A secret that the environment gives in place of the file's.
    pub fn secret_variable(&mut self, at: &At<'_>, name: &str) -> Option<Secret> {
        let text = self.variable(name)?;
        self.sendable(at, &text, &format!("the variable {name}"))
    }

    /// Reads `ip:port`.
    pub fn address(&mut self, at: &At<'_>, text: &str) -> Option<SocketAddr> {
        let address = text.parse().ok();
        if address.is_none() {
            self.fault(at, "must be an IP address and a port: `127.0.0.1:8080` or `[::1]:8080`");
        }
        address
    }

    /// Sees to it that a PEM file is there and holds what is asked for: a TLS library may panic on it, or fail much later.
    pub fn pem(&mut self, at: &At<'_>, file: &str, what: &str) -> PathBuf {
        match (self.read)(Path::new(file)) {
            Ok(text) if has_block(&text, what) => {}
            Ok(_) => self.fault(at, format!("{file} holds no PEM block of a {}", what.to_lowercase())),
            Err(error) => self.fault(at, format!("{file} can't be read: {error}")),
        }
        PathBuf::from(file)
    }

    /// A key goes into a header: visible ASCII only. The message never repeats it.
    fn sendable(&mut self, at: &At<'_>, text: &str, from: &str) -> Option<Secret> {
        if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            self.fault(at, format!("{from} holds a space, a line break or another character that no key has"));
            return None;
        }
        Secret::new(text)
    }

    fn is_from_environment(&self, at: &At<'_>) -> bool {
        matches!(self.root.locate(at).node.map(|node| &node.value), Some(Value::Text(text)) if text.from_environment)
    }
}

fn has_block(pem: &str, what: &str) -> bool {
    pem.lines().any(|line| {
        let label = line.trim().strip_prefix("-----BEGIN ").and_then(|rest| rest.strip_suffix("-----"));
        label.is_some_and(|label| label.ends_with(what))
    })
}
