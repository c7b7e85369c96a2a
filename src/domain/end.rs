//! How a request ended: one word that the bill is decided by and the books, the access line and the metrics repeat.

/// How a request ended (U7).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum End {
    Ok,
    ClientGone,
    UpstreamCut,
    UpstreamError,
    Refused,
    /// The gateway itself ended it: it was killed (found at the next start), its drain was cut, or the request was torn off.
    Interrupted,
}

impl End {
    pub const ALL: [Self; 6] =
        [Self::Ok, Self::ClientGone, Self::UpstreamCut, Self::UpstreamError, Self::Refused, Self::Interrupted];

    /// The word in ledger entries, access lines and metrics.
    pub fn label(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::ClientGone => "client_gone",
            Self::UpstreamCut => "upstream_cut",
            Self::UpstreamError => "upstream_error",
            Self::Refused => "refused",
            Self::Interrupted => "interrupted",
        }
    }

    /// Reads the word back.
    pub fn from_label(label: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|end| end.label() == label)
    }
}
