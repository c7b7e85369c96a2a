//! The answers that never stream: token counts, embeddings and model lists.

use serde_json::{Value, json};

use super::content::{CREATED, Content};
use crate::provider_mock::ask::{Ask, Dialect};

/// The vector of every embedding; each number is exact in 32 bits.
const VECTOR: [f32; 8] = [0.5, -0.25, 0.125, 0.0625, -0.5, 0.25, -0.125, 1.0];
const MODELS: [&str; 3] = ["mock-large", "mock-small", "mock-embedding"];

/// Answers `/messages/count_tokens`.
pub fn count_tokens(ask: &Ask) -> Content {
    Content::json(&json!({ "input_tokens": ask.prompt.prompt_tokens() }), None)
}

/// Answers `/embeddings`, as numbers or as base64 of little-endian floats (what the Python SDK asks for).
pub fn embeddings(ask: &Ask) -> Content {
    let vector = if ask.embeddings.base64 {
        let bytes: Vec<u8> = VECTOR.iter().flat_map(|number| number.to_le_bytes()).collect();
        Value::from(base64(&bytes))
    } else {
        json!(VECTOR)
    };
    let rows: Vec<Value> =
        (0..ask.embeddings.inputs).map(|index| json!({ "object": "embedding", "index": index, "embedding": vector })).collect();
    let tokens = ask.prompt.prompt_tokens();
    let body = json!({
        "object": "list", "data": rows, "model": ask.model, "usage": { "prompt_tokens": tokens, "total_tokens": tokens },
    });
    Content::json(&body, Some(ask.prompt))
}

/// Answers `/models` and `/models/{id}`.
pub fn models(dialect: Dialect, path: &str) -> Content {
    let model = |id: &str| match dialect {
        Dialect::OpenAi => json!({ "id": id, "object": "model", "created": CREATED, "owned_by": "mock" }),
        Dialect::Anthropic => json!({ "type": "model", "id": id, "display_name": id, "created_at": "2025-06-15T15:06:40Z" }),
    };
    if let Some((_, id)) = path.rsplit_once("/models/") {
        return Content::json(&model(id), None);
    }
    let rows = MODELS.map(model);
    let body = match dialect {
        Dialect::OpenAi => json!({ "object": "list", "data": rows }),
        Dialect::Anthropic => json!({
            "data": rows, "has_more": false, "first_id": MODELS.first(), "last_id": MODELS.last(),
        }),
    };
    Content::json(&body, None)
}

fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let bits = (0..3).fold(0u32, |bits, at| (bits << 8) | u32::from(group.get(at).copied().unwrap_or(0)));
        for place in 0..4usize {
            let sextet = usize::try_from((bits >> (18 - 6 * place)) & 63).unwrap_or(0);
            let letter = ALPHABET.get(sextet).copied().unwrap_or(b'=');
            text.push(if place <= group.len() { char::from(letter) } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_pads_as_rfc_4648_says() {
        for (bytes, text) in [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foobar", "Zm9vYmFy")] {
            assert_eq!(base64(bytes.as_bytes()), text);
        }
    }
}
