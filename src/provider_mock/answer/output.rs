//! What the model says to a request, whatever the dialect, and the tokens that it takes.

use crate::provider_mock::ask::{Ask, Tool, Usage};

/// The text that is answered when a script names no other; it holds characters of one to four bytes.
const TEXT: &str =
    "The troll under the bridge counts every token: eins, zwei, drei, naïve, 橋, 🧌, and lets each byte pass unchanged.";
const THOUGHT: &str = "The user wants an answer. Short is best.";

/// A text and a number of deltas that a script asks for.
#[derive(Clone, Debug, Default)]
pub struct Wish {
    pub text: Option<String>,
    pub deltas: Option<usize>,
    pub thinking: bool,
}

/// What the model says, cut into the deltas that a stream carries.
#[derive(Clone, Debug)]
pub struct Output {
    pub thought: Vec<String>,
    pub text: Vec<String>,
    pub tool: Option<(Tool, Vec<String>)>,
    pub stop: Stop,
    pub usage: Usage,
}

/// Why the model says no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    Natural,
    Length,
    Tool,
}

impl Output {
    pub fn whole_text(&self) -> String {
        self.text.concat()
    }
}

/// Composes what the model says to `ask`; what `wish` names is said in place of the usual.
pub fn compose(ask: &Ask, wish: &Wish) -> Output {
    let thought = if ask.thinking || wish.thinking { deltas(THOUGHT) } else { Vec::new() };
    let tool = ask.tool.clone().filter(|_| wish.text.is_none()).map(|tool| {
        let pieces = fragments(&tool.arguments);
        (tool, pieces)
    });
    let mut text = if tool.is_some() { Vec::new() } else { deltas(wish.text.as_deref().unwrap_or(TEXT)) };
    if let Some(count) = wish.deltas {
        text = text.into_iter().cycle().take(count).collect();
    }
    let room = ask.max_output_tokens.and_then(|most| usize::try_from(most).ok()).unwrap_or(usize::MAX);
    let stop = match tool {
        Some(_) => Stop::Tool,
        None if text.len() > room => Stop::Length,
        None => Stop::Natural,
    };
    text.truncate(room);
    let spoken = thought.len() + text.len() + tool.as_ref().map_or(0, |(_, pieces)| pieces.len());
    let usage = Usage { output_tokens: u64::try_from(spoken).unwrap_or(u64::MAX), ..ask.prompt };
    Output { thought, text, tool, stop, usage }
}

/// One delta per word, each with the space that follows it.
fn deltas(text: &str) -> Vec<String> {
    text.split_inclusive(' ').map(str::to_owned).collect()
}

/// Pieces of a tool's arguments: valid JSON only when joined, as providers send them.
fn fragments(text: &str) -> Vec<String> {
    const CHARS: usize = 7;
    let chars: Vec<char> = text.chars().collect();
    chars.chunks(CHARS).map(|piece| piece.iter().collect()).collect()
}
