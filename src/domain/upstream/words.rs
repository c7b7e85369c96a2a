//! What the body of a refusal says it is about: the account's money, one model, the size of one request, or none that we know.
//!
//! | word | where | about |
//! |---|---|---|
//! | `insufficient_quota`, `billing_hard_limit_reached`, `billing_not_active` | OpenAI | money |
//! | `billing_error`; a message that begins with `Your credit balance is too low` | Anthropic | money |
//! | `Arrearage` · `AccountOverdueError` · `exceeded_current_quota_error` · `1113` | DashScope · Volcengine · Moonshot · Zhipu | money |
//! | `insufficient_user_quota`, `insufficient_balance` | relays | money |
//! | `model_not_found`, `model_not_available`, `DeploymentNotFound`, … | OpenAI, relays, Azure | the model |
//! | the name that the upstream was asked for, as a word of its own, in a 403, 404 or 429 | all | the model |
//! | `missing_scope`, `insufficient_permissions`; `You have insufficient permissions for this operation` | OpenAI's restricted keys | what the key may do: taken as the model |
//! | a message that begins with `Request too large`; `Limit 10000, Requested 50000` | OpenAI | the request's size |
//! | `Extra usage is required for long context` | Anthropic | the request's size |
//! | the type `tokens`, or `tokens` in the message, where the headers say that some are left | OpenAI, Anthropic | the request's size |
//!
//! Codes are compared whole and messages by their beginning, because providers quote a client's own text in the middle of theirs: nobody may
//! write an account's trouble into a prompt. What can't be read says nothing.
//!
//! <https://platform.openai.com/docs/guides/error-codes>, <https://docs.anthropic.com/en/api/errors>,
//! <https://www.alibabacloud.com/help/en/model-studio/error-code>

use serde_json::Value;

/// Enough for any provider's codes and a message; what is longer is no such document.
const MOST_CODE_BYTES: usize = 64;

/// The words of one error's body.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Words {
    /// `error.code`, `error.type`, `error.status`, and those beside it.
    codes: Vec<Box<str>>,
    message: Box<str>,
    /// A page for people: it comes from what stands before the provider, and not from the provider.
    is_page: bool,
}

/// Codes of an account that must be paid for.
const MONEY: [&str; 10] = [
    "insufficient_quota",
    "billing_hard_limit_reached",
    "billing_not_active",
    "billing_error",
    "arrearage",
    "accountoverdueerror",
    "exceeded_current_quota_error",
    "insufficient_user_quota",
    "insufficient_balance",
    "1113",
];

const MONEY_MESSAGES: [&str; 2] = ["Your credit balance is too low", "Insufficient Balance"];

/// Codes of a model that this account may not use, or that is not there.
const MODEL: [&str; 8] = [
    "model_not_found",
    "modelnotfound",
    "model_not_available",
    "model_not_allowed",
    "model_not_exist",
    "invalid_model",
    "deploymentnotfound",
    "accessdenied.unpurchased",
];

/// Of a key that may do some things and not others.
const RIGHTS: [&str; 2] = ["missing_scope", "insufficient_permissions"];
const RIGHTS_MESSAGES: [&str; 1] = ["You have insufficient permissions for this operation"];

const SIZE_MESSAGES: [&str; 2] = ["Request too large", "Extra usage is required for long context"];

impl Words {
    /// Reads the body of an error, or the data of an error event.
    pub fn of(body: &[u8]) -> Self {
        let Ok(document) = serde_json::from_slice::<Value>(body) else {
            let is_page = body.trim_ascii_start().first() == Some(&b'<');
            return Self { is_page, ..Self::default() };
        };
        // Google wraps the error of a stream into a list.
        let document = document.get(0).unwrap_or(&document);
        let inner = ["error", "response"].iter().find_map(|key| document.get(key)).unwrap_or(&Value::Null);
        let inner = inner.get("error").unwrap_or(inner);
        let field = |key: &'static str| [inner, document].into_iter().filter_map(move |place| place.get(key));
        let code = |value: &Value| match value {
            Value::String(text) if text.len() <= MOST_CODE_BYTES => Some(text.to_ascii_lowercase().into()),
            Value::Number(number) => Some(number.to_string().into()),
            _ => None,
        };
        let messages = field("message").chain([inner]).chain(field("detail"));
        Self {
            codes: ["code", "type", "status"].into_iter().flat_map(field).filter_map(code).collect(),
            message: messages.into_iter().find_map(Value::as_str).unwrap_or_default().into(),
            is_page: false,
        }
    }

    pub fn are_a_page(&self) -> bool {
        self.is_page
    }

    /// The account has no money, or is not paid for.
    pub fn are_about_money(&self) -> bool {
        self.has_code(&MONEY) || self.begins(&MONEY_MESSAGES)
    }

    /// A code says that the model is not there, for this account or at all.
    pub fn say_no_such_model(&self) -> bool {
        self.has_code(&MODEL)
    }

    /// The message has this name as a word of its own.
    pub fn name(&self, model: &str) -> bool {
        let is_part = |c: char| c.is_alphanumeric() || matches!(c, '-' | '_');
        !model.is_empty()
            && self.message.match_indices(model).any(|(at, _)| {
                let before = self.message.get(..at).and_then(|text| text.chars().next_back());
                let mut after = self.message.get(at + model.len()..).unwrap_or_default().chars();
                let (next, one_more) = (after.next(), after.next());
                // `gpt-4.` ends a sentence, `gpt-4.1` and `qwen:7b` are other models.
                let goes_on = match next {
                    Some('.' | ':' | '/') => one_more.is_some_and(char::is_alphanumeric),
                    Some(next) => is_part(next),
                    None => false,
                };
                !goes_on && !before.is_some_and(|c| is_part(c) || c == '.')
            })
    }

    /// The key may not do this one thing: it is a restricted one, and does others.
    pub fn are_about_rights(&self) -> bool {
        self.has_code(&RIGHTS) || self.begins(&RIGHTS_MESSAGES)
    }

    /// This one request asks for more than the account's limit ever allows.
    pub fn are_about_size(&self) -> bool {
        self.begins(&SIZE_MESSAGES) || self.requested_beyond_limit()
    }

    /// The limit that was hit is one of tokens.
    pub fn speak_of_tokens(&self) -> bool {
        self.has_code(&["tokens"]) || self.message.contains("tokens")
    }

    fn has_code(&self, known: &[&str]) -> bool {
        self.codes.iter().any(|code| known.contains(&&**code))
    }

    fn begins(&self, beginnings: &[&str]) -> bool {
        beginnings.iter().any(|beginning| self.message.starts_with(beginning))
    }

    /// `… (TPM): Limit 10000, Used 0, Requested 50000.`
    fn requested_beyond_limit(&self) -> bool {
        let number = |label: &str| {
            let (_, after) = self.message.rsplit_once(label)?;
            let digits: String = after.chars().take_while(char::is_ascii_digit).take(18).collect();
            digits.parse::<u64>().ok()
        };
        matches!((number("Limit "), number("Requested ")), (Some(limit), Some(requested)) if requested > limit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(body: &str) -> Words {
        Words::of(body.as_bytes())
    }

    #[test]
    fn a2_money_is_known_by_its_code_whoever_says_it() {
        for body in [
            r#"{"error":{"message":"You exceeded your current quota","type":"insufficient_quota","param":null,"code":"insufficient_quota"}}"#,
            r#"{"type":"error","error":{"type":"billing_error","message":"m"}}"#,
            r#"{"type":"error","error":{"type":"invalid_request_error","message":"Your credit balance is too low to access the Anthropic API."}}"#,
            r#"{"code":"Arrearage","message":"Access denied, please make sure your account is in good standing.","request_id":"r"}"#,
            r#"{"error":{"code":"Arrearage","message":"m"}}"#,
            r#"{"error":{"code":"AccountOverdueError","message":"m","type":"Forbidden"}}"#,
            r#"{"error":{"type":"exceeded_current_quota_error","message":"m"}}"#,
            r#"{"error":{"code":1113,"message":"m"}}"#,
            r#"{"error":{"code":"1113","message":"m"}}"#,
            r#"{"error":{"message":"Insufficient Balance","type":"unknown_error"}}"#,
            r#"[{"error":{"code":"insufficient_balance","message":"m"}}]"#,
            r#"{"type":"response.failed","response":{"error":{"code":"insufficient_quota","message":"m"}}}"#,
        ] {
            assert!(words(body).are_about_money(), "{body}");
        }
    }

    #[test]
    fn a1_a_client_can_not_write_an_accounts_trouble_into_its_request() {
        for body in [
            r#"{"error":{"message":"Invalid value: 'insufficient_quota'. Your credit balance is too low","type":"invalid_request_error","code":null}}"#,
            r#"{"error":{"message":"Invalid value: 'Request too large'","type":"invalid_request_error","code":"invalid_value"}}"#,
            r#"{"error":{"message":"m","param":"insufficient_quota","code":"invalid"}}"#,
            r#"{"error":{"message":"m","code":"not insufficient_quota"}}"#,
            r#"{"choices":[{"code":"insufficient_quota"}]}"#,
            "insufficient_quota",
            "",
            "<html>insufficient_quota</html>",
        ] {
            let words = words(body);
            assert!(!words.are_about_money() && !words.are_about_size(), "{body}");
        }
    }

    #[test]
    fn a2_a_model_is_named_as_a_word_of_its_own() {
        let names = |message: &str, model: &str| words(&format!(r#"{{"error":{{"message":"{message}"}}}}"#)).name(model);
        for message in [
            "Rate limit reached for gpt-4 in organization org-x on tokens per min (TPM): Limit 1, Used 1, Requested 1.",
            "The model `gpt-4` does not exist",
            "model: gpt-4",
            "models/gpt-4 is not found",
            "you may not use gpt-4.",
            "gpt-4",
            "gpt-4o and gpt-4",
        ] {
            assert!(names(message, "gpt-4"), "{message}");
        }
        for message in ["for gpt-4o in", "gpt-4.1 is", "gpt-4-turbo", "my-gpt-4", "gpt-4:7b", "nothing", ""] {
            assert!(!names(message, "gpt-4"), "{message}");
        }
        assert!(!names("anything", ""));
    }

    #[test]
    fn a2_a_missing_model_is_known_by_its_code() {
        for code in ["model_not_found", "DeploymentNotFound", "invalid_model"] {
            assert!(words(&format!(r#"{{"error":{{"code":"{code}"}}}}"#)).say_no_such_model(), "{code}");
        }
        assert!(!words(r#"{"error":{"code":"not_found"}}"#).say_no_such_model());
    }

    #[test]
    fn a2_a_request_beyond_every_limit_is_about_its_size() {
        for (message, is_size) in [
            ("Request too large for gpt-4 on tokens per min (TPM): Limit 10000, Requested 50000.", true),
            ("Rate limit reached for gpt-4 on TPM: Limit 10000, Used 0, Requested 50000.", true),
            ("Rate limit reached for gpt-4 on TPM: Limit 10000, Used 9000, Requested 5000.", false),
            ("Extra usage is required for long context requests.", true),
            ("Limit x, Requested y", false),
            ("Limit 99999999999999999999999, Requested 1", false),
        ] {
            assert_eq!(words(&format!(r#"{{"error":{{"message":"{message}"}}}}"#)).are_about_size(), is_size, "{message}");
        }
    }

    #[test]
    fn a_page_is_nobodys_error() {
        assert!(words("\n <!DOCTYPE html><title>Access denied</title>").are_a_page());
        assert!(!words("{}").are_a_page() && !words("Forbidden").are_a_page() && !words("").are_a_page());
    }
}
