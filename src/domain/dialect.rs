//! Which provider's language a request speaks, read from its path (for models and `/` also from `anthropic-version`).
//!
//! The dialect decides the shape of every answer of ours. An [`Api`] is met twice: what the client *asked* decides which fields of its request
//! count and what its errors look like, what the upstream has *spoken* decides how usage is read and how a stream must end. Arguments say
//! which of the two they are.

/// The two shapes of error bodies and model lists.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Dialect {
    OpenAi,
    Anthropic,
}

/// What a path asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Api {
    /// `/v1/chat/completions`
    ChatCompletions,
    /// `/v1/completions`, the older text form; its usage and its stream look like the chat form's.
    Completions,
    /// `/v1/messages`
    Messages,
    /// `/v1/messages/count_tokens`: answered by the model's upstream, never billed as a completion.
    CountTokens,
    /// `/v1/responses`
    Responses,
    /// `/v1/embeddings`
    Embeddings,
    /// `/v1/models` and `/v1/models/{id}`: answered by the gateway itself.
    Models,
    /// `/`: a probe for life, answered by the gateway itself.
    Root,
    /// Any other path under `/v1/`.
    Other,
    /// A path that no route covers.
    Unknown,
}

impl Api {
    /// Reads the path (without its query). The `/v1` prefix may be missing on the named paths: an SDK whose base URL has no `/v1`
    /// sends `/chat/completions`.
    pub fn of(path: &str) -> Self {
        let rest = match path.strip_prefix("/v1") {
            Some(rest) if rest.starts_with('/') => rest,
            _ => path,
        };
        match rest {
            "/chat/completions" => Self::ChatCompletions,
            "/completions" => Self::Completions,
            "/messages" => Self::Messages,
            "/messages/count_tokens" => Self::CountTokens,
            "/responses" => Self::Responses,
            "/embeddings" => Self::Embeddings,
            "/models" => Self::Models,
            "/" if path == "/" => Self::Root,
            _ if rest.strip_prefix("/models/").is_some_and(|id| !id.is_empty()) => Self::Models,
            _ if path.len() > "/v1/".len() && path.starts_with("/v1/") => Self::Other,
            _ => Self::Unknown,
        }
    }

    /// Whether a path that names no API here is a known one in another spelling: escaped letters, doubled or reversed slashes, a slash
    /// or a parameter at the end, other case. A provider may read it as the known one; metered and answered as something else it
    /// would go unbilled.
    pub fn is_disguised(path: &str) -> bool {
        let Ok(decoded) = percent_encoding::percent_decode_str(path).decode_utf8() else { return true };
        if decoded.chars().any(char::is_control) {
            return true;
        }
        let decoded = decoded.to_ascii_lowercase().replace('\\', "/");
        let plain = decoded.split([';', '?', '#']).next().unwrap_or_default();
        let segments: Vec<&str> = plain.split('/').map(str::trim).filter(|segment| !segment.is_empty()).collect();
        let plain = format!("/{}", segments.join("/"));
        plain != path && !matches!(Self::of(&plain), Self::Other | Self::Unknown)
    }

    /// Whether the path takes `POST` with a JSON body and nothing else.
    pub fn is_post_only(self) -> bool {
        matches!(
            self,
            Self::ChatCompletions | Self::Completions | Self::Messages | Self::CountTokens | Self::Responses | Self::Embeddings
        )
    }
}

impl Dialect {
    /// `/v1/messages*` speaks Anthropic, `/v1/models` too when the request carries `anthropic-version`; all else speaks OpenAI.
    pub fn of(api: Api, path: &str, has_anthropic_version: bool) -> Self {
        match api {
            Api::Messages | Api::CountTokens => Self::Anthropic,
            Api::Models | Api::Root if has_anthropic_version => Self::Anthropic,
            Api::Other if path.starts_with("/v1/messages/") => Self::Anthropic,
            _ => Self::OpenAi,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn named_paths_with_and_without_v1() {
        for (path, api) in [
            ("/v1/chat/completions", Api::ChatCompletions),
            ("/chat/completions", Api::ChatCompletions),
            ("/v1/messages", Api::Messages),
            ("/v1/messages/count_tokens", Api::CountTokens),
            ("/v1/responses", Api::Responses),
            ("/v1/embeddings", Api::Embeddings),
            ("/v1/models", Api::Models),
            ("/v1/models/gpt-4", Api::Models),
            ("/v1/audio/speech", Api::Other),
            ("/v1/messages/batches", Api::Other),
            ("/", Api::Root),
            ("/v1", Api::Unknown),
            ("/v1/", Api::Unknown),
            ("/v1//", Api::Other),
            ("/v12/messages", Api::Unknown),
            ("/admin", Api::Unknown),
            ("", Api::Unknown),
        ] {
            assert_eq!(Api::of(path), api, "{path}");
        }
    }

    #[test]
    fn m15_a_known_path_in_another_spelling_is_seen_through() {
        for path in [
            "/v1/%63hat/completions",
            "/v1//chat/completions",
            "/v1/chat/completions/",
            "/v1/%6dessages",
            "//v1/messages",
            "/v1/messages;x",
            "/v1/messages%00",
            "/v1\\messages",
            "/v1/Messages",
            "/v1/messages%20",
            "/v1/a%0d%0ab",
            "/v1/%ff",
            "/v1/messages%3fbeta",
            "/v1/messages%2fcount_tokens",
        ] {
            assert!(Api::is_disguised(path), "{path}");
        }
        for path in ["/v1/audio/speech", "/v1/files/a%20b", "/v1/messages/batches", "/v1/images/generations", "/v1/Files"] {
            assert!(!Api::is_disguised(path), "{path}");
        }
    }

    #[test]
    fn the_models_list_follows_the_version_header() {
        assert_eq!(Dialect::of(Api::Models, "/v1/models", true), Dialect::Anthropic);
        assert_eq!(Dialect::of(Api::Models, "/v1/models", false), Dialect::OpenAi);
        assert_eq!(Dialect::of(Api::Other, "/v1/messages/batches", false), Dialect::Anthropic);
        assert_eq!(Dialect::of(Api::ChatCompletions, "/v1/chat/completions", true), Dialect::OpenAi);
    }
}
