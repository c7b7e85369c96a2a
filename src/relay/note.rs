//! What a step has to say to whoever runs the gateway: text for the program's log, which a room without a log hands out instead.

/// How grave it is; the log's level.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gravity {
    /// The operator has to act.
    Error,
    /// Something failed and was dealt with.
    Warning,
}

/// One line for the log. Holds no secret: what comes from outside was masked where the note was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    pub gravity: Gravity,
    pub text: String,
}

impl Note {
    pub fn error(text: String) -> Self {
        Self { gravity: Gravity::Error, text }
    }

    pub fn warning(text: String) -> Self {
        Self { gravity: Gravity::Warning, text }
    }
}
