//! Counts the prompts of a text completion: a list of them gets answers for each, and each may cost as much as one alone.
//!
//! The peek passes over lists; this looks at one again, in a body that is known to be JSON.

use std::ops::Range;

/// Counts the texts and lists of tokens in the list at `span`; a list of token numbers is one prompt, and so is what holds none.
///
/// ```
/// use trollbridge::domain::json::prompts::count;
///
/// let body = br#"{"prompt":["a, b", "c"]}"#;
/// assert_eq!(count([&body[..12], &body[12..]], 10..23), 2);
/// ```
pub fn count<'b>(chunks: impl IntoIterator<Item = &'b [u8]>, span: Range<usize>) -> u64 {
    let (mut counter, mut start) = (Counter::default(), 0);
    for chunk in chunks {
        let place = |at: usize| at.saturating_sub(start).min(chunk.len());
        counter.push(chunk.get(place(span.start)..place(span.end)).unwrap_or_default());
        start += chunk.len();
    }
    counter.prompts.max(1)
}

#[derive(Default)]
struct Counter {
    prompts: u64,
    depth: u64,
    is_in_text: bool,
    is_escaped: bool,
}

impl Counter {
    fn push(&mut self, bytes: &[u8]) {
        for byte in bytes {
            match byte {
                _ if self.is_escaped => self.is_escaped = false,
                b'\\' if self.is_in_text => self.is_escaped = true,
                b'"' if self.is_in_text => self.is_in_text = false,
                _ if self.is_in_text => {}
                b'"' => {
                    self.prompts += u64::from(self.depth == 1);
                    self.is_in_text = true;
                }
                b'[' | b'{' => {
                    self.prompts += u64::from(self.depth == 1);
                    self.depth += 1;
                }
                b']' | b'}' => self.depth = self.depth.saturating_sub(1),
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn g4_every_text_and_every_list_of_tokens_is_a_prompt_however_the_body_is_cut() {
        for (list, prompts) in [
            (r#"[]"#, 1),
            (r#"["a"]"#, 1),
            (r#"["a","b" , "c"]"#, 3),
            (r#"["a, \"b\", [c]","\\",""]"#, 3),
            ("[1,2,3]", 1),
            ("[ [1,2], [3], [] ]", 3),
            (r#"[["a","b"],"c"]"#, 2),
            ("[-1]", 1),
        ] {
            let body = format!(r#"{{"a":["x","y"],"prompt":{list},"b":["z"]}}"#);
            let from = body.find("prompt").unwrap() + 8;
            let span = from..from + list.len();
            for cut in 0..=body.len() {
                let (left, right) = body.as_bytes().split_at(cut);
                assert_eq!(count([left, right], span.clone()), prompts, "{list}, cut at {cut}");
            }
        }
    }
}
