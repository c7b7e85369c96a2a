//! The model list that the gateway answers itself (M14), in either dialect's shape.
//!
//! OpenAI: `{"object":"list","data":[{"id","object":"model","created","owned_by"}]}`; Anthropic: `{"data":[{"type":"model","id",
//! "display_name","created_at"}],"has_more","first_id","last_id"}`. A configured model has no date of its own: both say the epoch.

use std::borrow::Cow;

use percent_encoding::percent_decode_str;
use serde_json::{Value, json};

use crate::domain::dialect::Dialect;

/// A model as the gateway's own list shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListedModel<'a> {
    pub id: &'a str,
    /// The name of its upstream.
    pub upstream: &'a str,
}

/// The whole list, in the configuration's order.
pub fn list<'a>(dialect: Dialect, models: impl Iterator<Item = ListedModel<'a>>) -> String {
    let data: Vec<Value> = models.map(|model| entry(dialect, &model)).collect();
    match dialect {
        Dialect::OpenAi => json!({ "object": "list", "data": data }),
        Dialect::Anthropic => {
            let id_of = |entry: Option<&Value>| entry.and_then(|entry| entry.get("id")).cloned().unwrap_or(Value::Null);
            let (first_id, last_id) = (id_of(data.first()), id_of(data.last()));
            json!({ "data": data, "has_more": false, "first_id": first_id, "last_id": last_id })
        }
    }
    .to_string()
}

/// Reads the id out of `/v1/models/{id}` (or `/models/{id}`); ids may hold slashes, plain or percent-encoded. `None`: the list is asked for.
///
/// An encoding that is no UTF-8 names no model, whatever it is read as.
pub fn asked_id(path: &str) -> Option<Cow<'_, str>> {
    let id = path.strip_prefix("/v1").unwrap_or(path).strip_prefix("/models/")?;
    Some(percent_decode_str(id).decode_utf8_lossy())
}

/// One model by its id.
pub fn one<'a>(dialect: Dialect, mut models: impl Iterator<Item = ListedModel<'a>>, id: &str) -> Option<String> {
    models.find(|model| model.id == id).map(|model| entry(dialect, &model).to_string())
}

fn entry(dialect: Dialect, model: &ListedModel<'_>) -> Value {
    match dialect {
        Dialect::OpenAi => json!({ "id": model.id, "object": "model", "created": 0, "owned_by": model.upstream }),
        Dialect::Anthropic => {
            json!({ "type": "model", "id": model.id, "display_name": model.id, "created_at": "1970-01-01T00:00:00Z" })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MODELS: [ListedModel<'static>; 2] =
        [ListedModel { id: "a", upstream: "main" }, ListedModel { id: "b", upstream: "troll" }];

    #[test]
    fn m14_lists_in_the_openai_shape() {
        assert_eq!(
            list(Dialect::OpenAi, MODELS.into_iter()),
            r#"{"data":[{"created":0,"id":"a","object":"model","owned_by":"main"},{"created":0,"id":"b","object":"model","owned_by":"troll"}],"object":"list"}"#
        );
    }

    #[test]
    fn m14_lists_in_the_anthropic_shape() {
        let text = list(Dialect::Anthropic, MODELS.into_iter());
        let value: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(value["first_id"], "a");
        assert_eq!(value["last_id"], "b");
        assert_eq!(value["has_more"], false);
        assert_eq!(value["data"][1]["type"], "model");
    }

    #[test]
    fn m14_reads_the_id_out_of_the_path() {
        for (path, id) in [
            ("/v1/models", None),
            ("/models", None),
            ("/v1/models/gpt-4", Some("gpt-4")),
            ("/models/gpt-4", Some("gpt-4")),
            ("/v1/models/accounts/x/models/llama", Some("accounts/x/models/llama")),
            ("/v1/models/accounts%2Fx", Some("accounts/x")),
            ("/v1/models/gr%C3%B6%C3%9Fer+x", Some("größer+x")),
            ("/v1/models/50%", Some("50%")),
        ] {
            assert_eq!(asked_id(path).as_deref(), id, "{path}");
        }
    }

    #[test]
    fn finds_one_by_id() {
        assert!(one(Dialect::OpenAi, MODELS.into_iter(), "b").is_some_and(|text| text.contains("\"b\"")));
        assert_eq!(one(Dialect::OpenAi, MODELS.into_iter(), "c"), None);
    }
}
