//! What a step has to say to whoever runs the gateway: text for the program's log, which a room without a log hands out instead.

/// How grave it is; the log's level.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gravity {
    /// The operator has to act.
    Error,
    /// Something failed and was dealt with.
    Warning,
}

/// What it is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject {
    /// A key that rests or is dead.
    Key,
    Proxy,
    /// A stream's first event.
    FirstEvent,
    /// The body of an answer.
    Answer,
    /// What an answer reports and no price covers.
    Price,
    /// A request that failed.
    Failure,
}

/// One line for the log. Holds no secret: what comes from outside was masked where the note was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    pub gravity: Gravity,
    pub subject: Subject,
    pub text: String,
}

impl Note {
    pub fn error(subject: Subject, text: String) -> Self {
        Self { gravity: Gravity::Error, subject, text }
    }

    pub fn warning(subject: Subject, text: String) -> Self {
        Self { gravity: Gravity::Warning, subject, text }
    }
}

impl Subject {
    /// What the log's lines about it are called. People grep and filter by these names, so they stay, whatever file speaks.
    pub fn log_name(self) -> &'static str {
        match self {
            Self::Key => "trollbridge::edge::rotation",
            Self::Proxy => "trollbridge::edge::checks",
            Self::FirstEvent => "trollbridge::edge::hold",
            Self::Answer => "trollbridge::edge::deliver",
            Self::Price => "trollbridge::relay::books",
            Self::Failure => "trollbridge::edge::fail",
        }
    }
}
