//! Tells the names and addresses of machines from what else has dots in an error text.
//!
//! A name with one of the usual endings is a host; without one it takes two dots. `messages.0.content`, `text.format.schema`,
//! `gpt-3.5-turbo`, `report.final.pdf` and `errors.ValidationError` have dots as well, and a developer needs them.

use std::net::{Ipv4Addr, Ipv6Addr};

/// Endings by which one dot is enough.
const ENDINGS: [&str; 34] = [
    "com",
    "net",
    "org",
    "io",
    "ai",
    "dev",
    "app",
    "cloud",
    "co",
    "cn",
    "eu",
    "us",
    "uk",
    "de",
    "fr",
    "jp",
    "ru",
    "ch",
    "sg",
    "edu",
    "gov",
    "info",
    "biz",
    "xyz",
    "tech",
    "internal",
    "intranet",
    "local",
    "localdomain",
    "localhost",
    "lan",
    "corp",
    "home",
    "arpa",
];

/// Endings of files that errors name.
const FILE_ENDINGS: [&str; 34] = [
    "pdf", "txt", "md", "json", "jsonl", "csv", "tsv", "xml", "html", "htm", "yaml", "yml", "toml", "py", "js", "ts", "rs", "go",
    "gz", "zip", "tar", "png", "jpg", "jpeg", "gif", "webp", "svg", "mp", "wav", "webm", "ogg", "flac", "docx", "xlsx",
];

/// What a path into a request or an answer begins with.
const REQUEST_FIELDS: [&str; 34] = [
    "audio",
    "body",
    "choices",
    "contents",
    "content",
    "data",
    "error",
    "extra",
    "file",
    "files",
    "format",
    "function",
    "image",
    "images",
    "input",
    "instructions",
    "messages",
    "metadata",
    "model",
    "modalities",
    "output",
    "parameters",
    "params",
    "prediction",
    "prompt",
    "properties",
    "query",
    "reasoning",
    "request",
    "schema",
    "system",
    "text",
    "thinking",
    "tools",
];

/// Whether a word names a machine: `api.example.com`, `gpu-12.pool.provider`, `localhost`, `10.0.0.7`.
pub fn is_host(word: &str) -> bool {
    if word.eq_ignore_ascii_case("localhost") || word.parse::<Ipv4Addr>().is_ok() {
        return true;
    }
    let labels: Vec<&str> = word.split('.').collect();
    let [first, .., last] = labels.as_slice() else { return false };
    if !labels.iter().all(|label| is_label(label)) {
        return false;
    }
    if is_one_of(&ENDINGS, last) {
        return true;
    }
    labels.len() >= 3
        && ends_a_name(last)
        && !is_one_of(&REQUEST_FIELDS, first)
        && !labels.iter().any(|label| is_of_a_path(label))
}

/// Whether a word is an IPv6 address; `a::b` in some program's error is none.
pub fn is_ipv6(word: &str) -> bool {
    word.bytes().any(|b| b.is_ascii_digit()) && word.parse::<Ipv6Addr>().is_ok()
}

fn is_label(label: &str) -> bool {
    !label.is_empty() && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
}

/// A top-level domain has letters only, or is an encoded one.
fn ends_a_name(label: &str) -> bool {
    let is_word = label.len() >= 2 && label.bytes().all(|b| b.is_ascii_alphabetic()) && !is_one_of(&FILE_ENDINGS, label);
    is_word || label.starts_with("xn--")
}

/// An index, a snake_case or a camelCase name.
fn is_of_a_path(label: &str) -> bool {
    let is_mixed = label.bytes().any(|b| b.is_ascii_lowercase()) && label.bytes().any(|b| b.is_ascii_uppercase());
    is_mixed || label.contains('_') || label.bytes().all(|b| b.is_ascii_digit())
}

fn is_one_of(words: &[&str], label: &str) -> bool {
    words.iter().any(|word| word.eq_ignore_ascii_case(label))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn o3_names_and_addresses_of_machines_are_hosts() {
        for word in [
            "api.example.com",
            "example.io",
            "gpu-canary-12.internal.provider.example",
            "GPU-12.POOL.PROVIDER",
            "node7.cluster.svc",
            "my_svc.ns.svc.cluster.local",
            "messages.provider.com",
            "ip-10-0-0-7.ec2.internal",
            "a.b.xn--p1ai",
            "localhost",
            "10.0.0.7",
        ] {
            assert!(is_host(word), "{word}");
        }
        for word in ["::1", "2001:db8::17", "fe80::1"] {
            assert!(is_ipv6(word), "{word}");
        }
    }

    #[test]
    fn o3_what_a_developer_needs_is_no_host() {
        for word in [
            "",
            "a",
            "...",
            "1.5",
            "2.10.3",
            "gpt-4.1",
            "gpt-3.5-turbo",
            "claude-3.5-sonnet",
            "zai-glm-4.6",
            "us.anthropic.claude-3-5-sonnet-20241022-v2",
            "messages.0.content.1.text",
            "messages.content.text",
            "tools.0.input_schema.properties",
            "generationConfig.thinkingConfig.thinkingBudget",
            "text.format.schema",
            "max_tokens",
            "stream_options.include_usage",
            "report.final.pdf",
            "archive.tar.gz",
            "pydantic.errors.ValidationError",
            "e.g",
            "U.S.A",
            "wait...what",
        ] {
            assert!(!is_host(word), "{word}");
        }
        for word in ["12:30:45", "std::sync", "::", "a::b", "1:2"] {
            assert!(!is_ipv6(word), "{word}");
        }
    }
}
