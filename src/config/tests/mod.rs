//! The configuration as operators meet it: whole files in, settings or the list of all faults out. No process environment.

mod examples;
mod faults;
mod meaning;
mod secrets;

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::*;
use crate::domain::upstream::Upstream;

/// A machine with variables and files.
#[derive(Default)]
struct Machine {
    variables: HashMap<&'static str, String>,
    files: HashMap<PathBuf, String>,
}

impl Machine {
    fn set(mut self, name: &'static str, value: &str) -> Self {
        self.variables.insert(name, value.to_owned());
        self
    }

    fn file(mut self, path: &str, content: &str) -> Self {
        self.files.insert(path.into(), content.to_owned());
        self
    }

    /// Loads a text as `config.json`.
    fn load(&self, text: &str) -> Result<Loaded, Faults> {
        load_text("config.json", text, &|name| self.variables.get(name).cloned(), &|path| self.read(path), &Registry::default())
    }

    /// Loads a file of the repository.
    fn load_shipped(&self, path: &str) -> Result<Loaded, Faults> {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
        load(&path, &|name| self.variables.get(name).cloned(), &|asked| {
            if asked == path { std::fs::read_to_string(asked) } else { self.read(asked) }
        })
    }

    fn read(&self, path: &Path) -> io::Result<String> {
        self.files.get(path).cloned().ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))
    }
}

/// Loads a text where no variable is set and no file exists.
fn loaded(text: &str) -> Loaded {
    Machine::default().load(text).unwrap_or_else(|faults| panic!("{faults}"))
}

/// The faults of a text, one a line.
fn faults(text: &str) -> String {
    Machine::default().load(text).expect_err("the file is at fault").to_string()
}

fn upstream<'s>(settings: &'s Settings, name: &str) -> &'s Arc<Upstream> {
    settings.upstreams.iter().find(|upstream| &*upstream.name == name).unwrap_or_else(|| panic!("no upstream {name}"))
}

fn warnings(loaded: &Loaded) -> String {
    loaded.warnings.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

fn keys(upstream: &Upstream) -> Vec<(&str, &str)> {
    upstream.credentials.iter().map(|credential| (&*credential.id, credential.key.expose())).collect()
}

const CERT: &str = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n";
const KEY: &str = "-----BEGIN PRIVATE KEY-----\nMIIB\n-----END PRIVATE KEY-----\n";
