//! What an answer used, in the classes that have prices: tokens of each kind, and calls of the provider's own tools.

/// The largest count that is read as it stands; beyond it a count is clamped. What is believed of it, the configuration says.
pub const MAX_COUNT: u64 = 1_000_000_000_000;

/// The words for the classes of tokens in bills, labels and, with `_tokens`, in the ledger.
pub const CLASSES: [&str; 9] = [
    "input",
    "cache_write",
    "cache_write_1h",
    "cache_read",
    "output",
    "audio_input",
    "audio_output",
    "image_input",
    "image_output",
];

/// What one answer used of one model, in the classes that have prices. The classes never overlap: the sum of the tokens is what the
/// provider saw.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Input that came from no cache and went into none, and is neither audio nor an image that is counted apart.
    pub input_tokens: u64,
    /// Input written to a 5-minute cache.
    pub cache_write_tokens: u64,
    /// Input written to a 1-hour cache.
    pub cache_write_1h_tokens: u64,
    pub cache_read_tokens: u64,
    /// Reasoning included; without audio and images that are counted apart.
    pub output_tokens: u64,
    pub audio_input_tokens: u64,
    pub audio_output_tokens: u64,
    pub image_input_tokens: u64,
    pub image_output_tokens: u64,
    pub calls: Calls,
}

/// How often the provider's own tools were used, which are paid by the call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Calls([u64; Tool::ALL.len()]);

/// A tool that a provider runs itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Tool {
    WebSearch,
    WebFetch,
    CodeExecution,
    FileSearch,
    ImageGeneration,
    /// One that nobody here knows.
    Other,
}

impl Usage {
    /// Whether one of its counts is beyond `most`.
    pub fn is_beyond(&self, most: u64) -> bool {
        self.tokens().into_iter().chain(self.calls.0).any(|count| count > most)
    }

    /// All input, of every class.
    pub fn all_input(&self) -> u64 {
        let [input, write, write_1h, read, _, audio, _, image, _] = self.tokens();
        [input, write, write_1h, read, audio, image].into_iter().fold(0, u64::saturating_add)
    }

    /// The tokens of each class, in the order of [`CLASSES`].
    pub fn tokens(&self) -> [u64; CLASSES.len()] {
        [
            self.input_tokens,
            self.cache_write_tokens,
            self.cache_write_1h_tokens,
            self.cache_read_tokens,
            self.output_tokens,
            self.audio_input_tokens,
            self.audio_output_tokens,
            self.image_input_tokens,
            self.image_output_tokens,
        ]
    }

    pub fn from_tokens(tokens: [u64; CLASSES.len()], calls: Calls) -> Self {
        let [input_tokens, cache_write_tokens, cache_write_1h_tokens, cache_read_tokens, output_tokens, apart @ ..] = tokens;
        let [audio_input_tokens, audio_output_tokens, image_input_tokens, image_output_tokens] = apart;
        Self {
            input_tokens,
            cache_write_tokens,
            cache_write_1h_tokens,
            cache_read_tokens,
            output_tokens,
            audio_input_tokens,
            audio_output_tokens,
            image_input_tokens,
            image_output_tokens,
            calls,
        }
    }

    /// Both together; every sum saturates.
    pub fn plus(&self, other: &Self) -> Self {
        let (mine, mut sums) = (other.tokens(), self.tokens());
        sums.iter_mut().zip(mine).for_each(|(sum, more)| *sum = sum.saturating_add(more));
        let mut calls = self.calls;
        calls.0.iter_mut().zip(other.calls.0).for_each(|(sum, more)| *sum = sum.saturating_add(more));
        Self::from_tokens(sums, calls)
    }
}

impl Calls {
    pub fn of(&self, tool: Tool) -> u64 {
        self.0.get(tool as usize).copied().unwrap_or(0)
    }

    pub fn set(&mut self, tool: Tool, count: u64) {
        if let Some(slot) = self.0.get_mut(tool as usize) {
            *slot = count;
        }
    }

    /// The tools that were used, and how often.
    pub fn used(&self) -> impl Iterator<Item = (Tool, u64)> {
        Tool::ALL.into_iter().zip(self.0).filter(|(_, count)| *count > 0)
    }

    pub fn total(&self) -> u64 {
        self.0.into_iter().fold(0, u64::saturating_add)
    }
}

impl Tool {
    pub const ALL: [Self; 6] =
        [Self::WebSearch, Self::WebFetch, Self::CodeExecution, Self::FileSearch, Self::ImageGeneration, Self::Other];

    /// The word in configuration, bills and the ledger.
    pub fn label(self) -> &'static str {
        match self {
            Self::WebSearch => "web_search",
            Self::WebFetch => "web_fetch",
            Self::CodeExecution => "code_execution",
            Self::FileSearch => "file_search",
            Self::ImageGeneration => "image_generation",
            Self::Other => "other",
        }
    }

    pub fn of_label(label: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|tool| tool.label() == label)
    }
}
