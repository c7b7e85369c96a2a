//! What is wrong or doubtful in a configuration: file, line, column, key path and a sentence that says what to do.
//!
//! All faults of a file are listed at once, in the file's order. No message holds a secret's text.

use std::fmt;

use serde::{Deserialize, Serialize};

/// One reason not to start, or not to take over a reloaded file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fault {
    pub file: String,
    /// From 1; `None` where the file itself could not be read.
    pub line: Option<usize>,
    /// In characters, from 1.
    pub column: Option<usize>,
    /// `models[3].upstream`; empty for the file as a whole.
    pub path: String,
    pub message: String,
}

/// Something that works and is probably not meant; shaped like a fault.
pub type Warning = Fault;

/// Every fault of a file, with the warnings that were met on the way. Never empty.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct Faults {
    pub faults: Vec<Fault>,
    pub warnings: Vec<Warning>,
}

/// Prints `config.json:12:5: models[3].upstream: …`.
impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if let (Some(line), Some(column)) = (self.line, self.column) {
            write!(f, ":{line}:{column}")?;
        }
        if !self.path.is_empty() {
            write!(f, ": {}", self.path)?;
        }
        write!(f, ": {}", self.message)
    }
}

/// Prints one fault a line.
impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, fault) in self.faults.iter().enumerate() {
            if number > 0 {
                f.write_str("\n")?;
            }
            fault.fmt(f)?;
        }
        Ok(())
    }
}

/// Collects faults and warnings about one text.
pub struct Report<'t> {
    file: String,
    text: &'t str,
    faults: Vec<(usize, Fault)>,
    warnings: Vec<(usize, Warning)>,
    /// How many of the faults are about the text's form.
    of_form: usize,
}

impl<'t> Report<'t> {
    pub fn new(file: &str, text: &'t str) -> Self {
        Self { file: file.into(), text, faults: Vec::new(), warnings: Vec::new(), of_form: 0 }
    }

    /// Notes a fault at a byte offset of the text.
    pub fn fault(&mut self, offset: usize, path: String, message: impl Into<String>) {
        let fault = self.at(offset, path, message.into());
        self.faults.push((offset, fault));
    }

    pub fn warn(&mut self, offset: usize, path: String, message: impl Into<String>) {
        let warning = self.at(offset, path, message.into());
        self.warnings.push((offset, warning));
    }

    pub fn has_faults(&self) -> bool {
        !self.faults.is_empty()
    }

    /// Marks the faults so far as those of the text's form; what follows is about its meaning.
    pub fn form_is_checked(&mut self) {
        self.of_form = self.faults.len();
    }

    /// Whether the form is at fault at this path or below it: what is said about the meaning there would only be its echo.
    pub fn form_is_wrong_below(&self, path: &str) -> bool {
        self.faults.iter().take(self.of_form).any(|(_, fault)| {
            fault.path.strip_prefix(path).is_some_and(|rest| rest.is_empty() || path.is_empty() || rest.starts_with(['.', '[']))
        })
    }

    /// The line of an offset, from 1.
    pub fn line(&self, offset: usize) -> usize {
        self.text.get(..offset).map_or(1, |before| before.matches('\n').count() + 1)
    }

    /// Gives the value if nothing is wrong, else all faults in the file's order.
    pub fn into_result<T>(self, value: Option<T>) -> Result<(T, Vec<Warning>), Faults> {
        let (faults, warnings) = (in_order(self.faults), in_order(self.warnings));
        match value {
            Some(value) if faults.is_empty() => Ok((value, warnings)),
            _ => Err(Faults { faults, warnings }),
        }
    }

    fn at(&self, offset: usize, path: String, message: String) -> Fault {
        let before = self.text.get(..offset).unwrap_or_default();
        let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
        Fault { file: self.file.clone(), line: Some(self.line(offset)), column: Some(column), path, message }
    }
}

fn in_order(mut found: Vec<(usize, Fault)>) -> Vec<Fault> {
    found.sort_by_key(|(offset, _)| *offset);
    found.into_iter().map(|(_, fault)| fault).collect()
}

/// Picks the candidate that is spelled most alike, whatever the distance.
pub fn nearest<'c>(written: &str, candidates: impl IntoIterator<Item = &'c str>) -> Option<&'c str> {
    candidates.into_iter().min_by_key(|candidate| strsim::damerau_levenshtein(written, candidate))
}

/// Says `; did you mean …?` when a candidate is close enough to be a slip.
pub fn did_you_mean<'c>(written: &str, candidates: impl IntoIterator<Item = &'c str>) -> String {
    nearest(written, candidates)
        .filter(|candidate| {
            let longer = written.chars().count().max(candidate.chars().count());
            strsim::damerau_levenshtein(written, candidate) <= (longer / 3).max(1)
        })
        .map_or_else(String::new, |candidate| format!("; did you mean `{candidate}`?"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prints_file_line_column_and_path() {
        let mut report = Report::new("config.json", "{\n  \"é\": 1\n}");
        report.fault(9, "b".to_owned(), "second");
        report.fault(4, String::new(), "first");
        let faults = report.into_result(Some(())).unwrap_err();
        assert_eq!(faults.to_string(), "config.json:2:3: first\nconfig.json:2:7: b: second");
    }

    #[test]
    fn suggests_a_slip_and_no_stranger() {
        assert_eq!(did_you_mean("base_ulr", ["key", "base_url"]), "; did you mean `base_url`?");
        assert_eq!(did_you_mean("flavour", ["key", "base_url"]), "");
        assert_eq!(nearest("x", []), None);
    }

    #[test]
    fn knows_what_lies_below_a_path() {
        let mut report = Report::new("f", "");
        report.fault(0, "models[1].id".to_owned(), "x");
        assert!(!report.form_is_wrong_below("models[1]"));
        report.form_is_checked();
        for path in ["models[1].id", "models[1]", "models", ""] {
            assert!(report.form_is_wrong_below(path), "{path}");
        }
        assert!(!report.form_is_wrong_below("models[11]") && !report.form_is_wrong_below("models[1].i"));
    }
}
