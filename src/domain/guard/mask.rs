//! Blots out what looks like a secret, an account or a place in a provider's error text (O3).
//!
//! The client needs the reason ("messages.0.content must not be empty"), not whose key was used or where. Masked are: keys by
//! their prefixes (`sk-…`, `AIza…`), what follows `Bearer` or `Basic`, tokens of 32 letters and digits or more, e-mail addresses,
//! URLs, host names and IP addresses, organisation, project, account and request ids, and UUIDs. Model names, parameter names, file
//! names and paths into the request stay; `host.rs` tells them from hosts. Meant for short texts: it allocates and takes no care
//! to be fast.

use super::host::{is_host, is_ipv6};

/// What stands in place of a masked text.
pub const MASK: &str = "*****";

/// Prefixes of secrets; four more characters make one.
const KEY_PREFIXES: [&str; 12] = ["sk-", "sk_", "pk-", "pk_", "rk_", "AIza", "AKIA", "ya29.", "eyJ", "xai-", "gsk_", "hf_"];

/// Prefixes of ids; six more characters with a digit or a capital among them make one.
const ID_PREFIXES: [&str; 13] =
    ["org-", "org_", "proj-", "proj_", "project-", "acct_", "acct-", "account-", "user-", "user_", "req_", "req-", "key_"];

/// An unbroken run of letters and digits this long is a token.
const TOKEN_CHARS: usize = 32;

const ENDS_A_SENTENCE: [char; 4] = ['.', ':', '!', '?'];

/// Replaces everything in the text that looks like a secret, an account or a place.
pub fn mask_identifiers(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut follows_scheme = false;
    for piece in text.split_inclusive(is_delimiter) {
        let word = piece.trim_end_matches(is_delimiter);
        let end = piece.strip_prefix(word).unwrap_or_default();
        let is_scheme = word.eq_ignore_ascii_case("bearer") || word.eq_ignore_ascii_case("basic");
        let follows = follows_scheme;
        follows_scheme = is_scheme || (follows && word.is_empty());
        let is_credential = follows && word.len() >= 8 && !word.bytes().all(|b| b.is_ascii_lowercase());
        if is_credential || word.contains("://") {
            out.push_str(MASK);
        } else if let address = word.trim_end_matches(ENDS_A_SENTENCE)
            && is_ipv6(address)
        {
            out.push_str(MASK);
            out.push_str(word.strip_prefix(address).unwrap_or_default());
        } else {
            word.split_inclusive(':').for_each(|part| mask_part(part, &mut out));
        }
        out.push_str(end);
    }
    out
}

fn is_delimiter(c: char) -> bool {
    let quotes_or_joins =
        matches!(c, '"' | '\'' | '`' | '“' | '”' | '‘' | '’' | '«' | '»' | ',' | ';' | '=' | '|' | '&' | '…' | '\\');
    c.is_whitespace() || quotes_or_joins || matches!(c, '(' | ')' | '<' | '>' | '[' | ']' | '{' | '}')
}

/// A part between colons; what is none as a whole may be a path that begins with a host.
fn mask_part(part: &str, out: &mut String) {
    let word = part.trim_end_matches(ENDS_A_SENTENCE);
    let end = part.strip_prefix(word).unwrap_or_default();
    if is_identifier(word) {
        out.push_str(MASK);
    } else {
        for step in word.split_inclusive('/') {
            let name = step.trim_end_matches('/');
            out.push_str(if is_identifier(name) { MASK } else { name });
            out.push_str(step.strip_prefix(name).unwrap_or_default());
        }
    }
    out.push_str(end);
}

fn is_identifier(word: &str) -> bool {
    is_key(word) || is_id(word) || is_email(word) || is_host(word) || is_uuid(word) || is_token(word)
}

fn is_key(word: &str) -> bool {
    KEY_PREFIXES.iter().any(|prefix| word.strip_prefix(prefix).is_some_and(|rest| rest.len() >= 4))
}

fn is_id(word: &str) -> bool {
    ID_PREFIXES
        .iter()
        .filter_map(|prefix| word.strip_prefix(prefix))
        .any(|rest| rest.len() >= 6 && rest.bytes().any(|b| b.is_ascii_digit() || b.is_ascii_uppercase() || b == b'*'))
}

fn is_email(word: &str) -> bool {
    word.split_once('@').is_some_and(|(name, domain)| !name.is_empty() && domain.contains('.'))
}

fn is_uuid(word: &str) -> bool {
    let mut groups = word.split('-');
    [8, 4, 4, 4, 12].iter().all(|&len| groups.next().is_some_and(|group| group.len() == len && is_hex(group)))
        && groups.next().is_none()
}

fn is_hex(text: &str) -> bool {
    text.bytes().all(|b| b.is_ascii_hexdigit())
}

fn is_token(word: &str) -> bool {
    word.split(|c: char| !c.is_ascii_alphanumeric()).any(|run| {
        run.len() >= TOKEN_CHARS && run.bytes().any(|b| b.is_ascii_digit()) && run.bytes().any(|b| b.is_ascii_alphabetic())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn o3_secrets_accounts_and_places_are_masked() {
        for (text, masked) in [
            ("Incorrect API key provided: sk-ab***************cd. Try again.", "Incorrect API key provided: *****. Try again."),
            ("Find it at https://platform.openai.com/account/api-keys.", "Find it at *****"),
            ("Authorization: Bearer aB3-xyz_99 was refused", "Authorization: Bearer ***** was refused"),
            ("basic  dXNlcjpwYXNz!", "basic  *****"),
            (
                "Rate limit reached for gpt-4o in organization org-AbC123xyz on tokens",
                "Rate limit reached for gpt-4o in organization ***** on tokens",
            ),
            ("contact ops+billing@corp.example.com, please", "contact *****, please"),
            ("request req_011CQ3d8fT failed (id: 123e4567-e89b-12d3-a456-426614174000)", "request ***** failed (id: *****)"),
            ("no route to api.internal.example.com:443 via 10.0.0.7:3128", "no route to *****:443 via *****:3128"),
            (r#"{"key":"0123456789abcdef0123456789abcdef"}"#, r#"{"key":"*****"}"#),
            ("api_key=AIzaSyD4x9", "api_key=*****"),
            ("served by gpu-canary-12.internal.provider.example, sorry", "served by *****, sorry"),
            ("see api.internal.example.com/v1/models/gpt-4.1", "see *****/v1/models/gpt-4.1"),
            ("dial tcp [2001:db8::17]:443: refused; ::1 too, 2001:db8::17.", "dial tcp [*****]:443: refused; ***** too, *****."),
            (r#"{"message":"from “node-7.pool.provider”\nnext"}"#, r#"{"message":"from “*****”\nnext"}"#),
        ] {
            assert_eq!(mask_identifiers(text), masked);
        }
    }

    #[test]
    fn o3_what_a_developer_needs_stays() {
        for text in [
            "messages.0.content: Input should be a valid list",
            "The model `gpt-3.5-turbo` does not exist",
            "claude-opus-4-5-20251101 is limited to 200000 tokens; max_tokens: 300000 > 64000",
            "user-defined tools need an org-level setting (sk-1)",
            "tool_use ids must match: toolu_01A09q90qw90lq917835lq9",
            "Bearer authentication is required, Basic access is not",
            "ungültige Anfrage – „x“",
            "Unsupported value: 'temperature' with gpt-4.1, claude-3.5-sonnet, zai-glm-4.6 and meta-llama/llama-3.1-8b-instruct:free",
            "messages.0.content.1.text, tools.0.input_schema.properties and max_tokens: 1.5 is more than 1.0",
            "generationConfig.thinkingConfig.thinkingBudget or text.format.schema is missing... wait, e.g. i.e. U.S.A. etc.",
            "could not read report.final.pdf or archive.tar.gz at 12:30:45",
            "pydantic.errors.ValidationError in std::sync of version 2.10.3",
            "",
        ] {
            assert_eq!(mask_identifiers(text), text);
        }
    }
}
