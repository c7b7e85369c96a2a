"""The real SDKs against the real gateway: what a user's program sees."""

import anthropic
import openai
import pytest

# The provider counts so: 8 tokens for every prompt and one per word of it, one per word of the answer (see provider_mock/ask.rs).
PROMPT_BASE = 8
PROMPT = "what lives under the bridge"
PROMPT_TOKENS = PROMPT_BASE + len(PROMPT.split())
MESSAGES = [{"role": "user", "content": PROMPT}]

SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}, "days": {"type": "integer"}}, "required": ["city"]}
OPENAI_TOOLS = [{"type": "function", "function": {"name": "weather", "description": "Weather of a city", "parameters": SCHEMA}}]
ANTHROPIC_TOOLS = [{"name": "weather", "description": "Weather of a city", "input_schema": SCHEMA}]


# ---- OpenAI


def test_openai_text_and_usage(oai):
    answer = oai.chat.completions.create(model="mock-model", messages=MESSAGES)
    text = answer.choices[0].message.content
    assert answer.model == "mock-model"
    assert answer.choices[0].finish_reason == "stop"
    assert "橋" in text and "🧌" in text
    assert answer.usage.prompt_tokens == PROMPT_TOKENS
    assert answer.usage.completion_tokens == len(text.split())
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens


def test_openai_stream_equals_the_whole_text_and_shows_no_usage(oai):
    whole = oai.chat.completions.create(model="mock-model", messages=MESSAGES).choices[0].message.content
    chunks = list(oai.chat.completions.create(model="mock-model", messages=MESSAGES, stream=True))
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == whole
    assert all(chunk.usage is None for chunk in chunks)
    assert chunks[-1].choices[0].finish_reason == "stop"


def test_openai_stream_shows_usage_when_asked(oai):
    options = {"include_usage": True}
    chunks = list(oai.chat.completions.create(model="mock-model", messages=MESSAGES, stream=True, stream_options=options))
    assert chunks[-1].choices == []
    assert chunks[-1].usage.prompt_tokens == PROMPT_TOKENS
    assert chunks[-1].usage.completion_tokens > 0


def test_openai_tool_call_whole_and_streamed(oai):
    call = oai.chat.completions.create(model="mock-model", messages=MESSAGES, tools=OPENAI_TOOLS).choices[0]
    assert call.finish_reason == "tool_calls"
    assert call.message.tool_calls[0].function.name == "weather"
    arguments = call.message.tool_calls[0].function.arguments
    assert arguments == '{"city":"Trondheim","days":7}'

    stream = oai.chat.completions.create(model="mock-model", messages=MESSAGES, tools=OPENAI_TOOLS, stream=True)
    deltas = [delta for chunk in stream for delta in (chunk.choices[0].delta.tool_calls or [])]
    assert deltas[0].function.name == "weather"
    assert "".join(delta.function.arguments or "" for delta in deltas) == arguments


def test_openai_responses_text_stream_and_tool(oai):
    answer = oai.responses.create(model="mock-model", input=PROMPT)
    assert answer.status == "completed"
    assert answer.usage.input_tokens == PROMPT_TOKENS
    assert answer.usage.output_tokens == len(answer.output_text.split())

    events = list(oai.responses.create(model="mock-model", input=PROMPT, stream=True))
    assert [events[0].type, events[-1].type] == ["response.created", "response.completed"]
    assert "".join(event.delta for event in events if event.type == "response.output_text.delta") == answer.output_text
    assert events[-1].response.usage == answer.usage

    tools = [{"type": "function", "name": "weather", "parameters": SCHEMA, "strict": False}]
    call = oai.responses.create(model="mock-model", input=PROMPT, tools=tools).output[0]
    assert (call.type, call.name, call.arguments) == ("function_call", "weather", '{"city":"Trondheim","days":7}')


def test_openai_embeddings(oai):
    answer = oai.embeddings.create(model="mock-model", input=["one two", "three"])
    assert [row.index for row in answer.data] == [0, 1]
    assert answer.data[0].embedding[:2] == [0.5, -0.25]
    assert answer.usage.total_tokens == PROMPT_BASE + 3


def test_openai_completions(oai):
    answer = oai.completions.create(model="mock-model", prompt=PROMPT)
    assert answer.usage.prompt_tokens == PROMPT_TOKENS
    pieces = oai.completions.create(model="mock-model", prompt=PROMPT, stream=True)
    assert "".join(piece.choices[0].text for piece in pieces if piece.choices) == answer.choices[0].text


def test_openai_models(oai):
    assert "mock-model" in [model.id for model in oai.models.list()]


@pytest.mark.parametrize(
    ("status", "seen", "error"),
    [
        (400, 400, openai.BadRequestError),
        (404, 404, openai.NotFoundError),
        (413, 413, openai.APIStatusError),
        (422, 422, openai.UnprocessableEntityError),
        (429, 429, openai.RateLimitError),
        (500, 500, openai.InternalServerError),
        (503, 503, openai.InternalServerError),
        # The provider's 401, 402 and 403 are about the gateway's key, not the client's (O4).
        (401, 502, openai.InternalServerError),
        (402, 502, openai.InternalServerError),
        (403, 502, openai.InternalServerError),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_openai_error_classes(oai, leaks, status, seen, error, stream):
    with pytest.raises(error) as caught:
        oai.chat.completions.create(model=f"err-{status}", messages=MESSAGES, stream=stream)
    assert caught.value.status_code == seen
    assert caught.value.request_id
    assert caught.value.body["message"]
    leaks(caught.value.response.text + str(dict(caught.value.response.headers)))


def test_openai_wrong_key(gateway):
    client = openai.OpenAI(base_url=f"{gateway}/v1", api_key="wrong", max_retries=0)
    with pytest.raises(openai.AuthenticationError) as caught:
        client.chat.completions.create(model="mock-model", messages=MESSAGES)
    assert caught.value.status_code == 401
    assert caught.value.request_id


def test_openai_rate_limit_tells_when_to_come_back(oai):
    with pytest.raises(openai.RateLimitError) as caught:
        oai.chat.completions.create(model="err-late", messages=MESSAGES)
    assert caught.value.response.headers["retry-after"] == "7"


@pytest.mark.parametrize("model", ["cut-stream"])
def test_openai_broken_chat_stream_raises(oai, model):
    with pytest.raises(openai.APIError):
        list(oai.chat.completions.create(model=model, messages=MESSAGES, stream=True))


@pytest.mark.parametrize("model", ["cut-stream", "no-terminator"])
def test_openai_broken_responses_stream_fails(oai, model):
    events = list(oai.responses.create(model=model, input=PROMPT, stream=True))
    assert events[-1].type == "response.failed"
    assert events[-1].response.error.code == "server_error"


# ---- Anthropic


def test_anthropic_text_and_usage(ant):
    answer = ant.messages.create(model="mock-model", max_tokens=100, messages=MESSAGES)
    text = answer.content[0].text
    assert answer.model == "mock-model"
    assert answer.stop_reason == "end_turn"
    assert answer.usage.input_tokens == PROMPT_TOKENS
    assert answer.usage.output_tokens == len(text.split())


def test_anthropic_stream_equals_the_whole_text(ant):
    whole = ant.messages.create(model="mock-model", max_tokens=100, messages=MESSAGES)
    with ant.messages.stream(model="mock-model", max_tokens=100, messages=MESSAGES) as stream:
        assert "".join(stream.text_stream) == whole.content[0].text
        final = stream.get_final_message()
    assert final.usage.input_tokens == whole.usage.input_tokens
    assert final.usage.output_tokens == whole.usage.output_tokens


def test_anthropic_cache_usage_keeps_its_classes(ant):
    system = [{"type": "text", "text": "word " * 72, "cache_control": {"type": "ephemeral", "ttl": "1h"}}]
    messages = [{"role": "user", "content": ""}]
    usage = ant.messages.create(model="mock-model", max_tokens=100, system=system, messages=messages).usage
    assert (usage.input_tokens, usage.cache_read_input_tokens, usage.cache_creation_input_tokens) == (30, 40, 10)
    assert usage.cache_creation.ephemeral_1h_input_tokens == 10


def test_anthropic_thinking_streams_with_its_signature(ant):
    thinking = {"type": "enabled", "budget_tokens": 1024}
    with ant.messages.stream(model="mock-model", max_tokens=2000, thinking=thinking, messages=MESSAGES) as stream:
        final = stream.get_final_message()
    assert [block.type for block in final.content] == ["thinking", "text"]
    assert final.content[0].signature


def test_anthropic_tool_call_whole_and_streamed(ant):
    arguments = {"city": "Trondheim", "days": 7}
    call = ant.messages.create(model="mock-model", max_tokens=100, messages=MESSAGES, tools=ANTHROPIC_TOOLS)
    assert call.stop_reason == "tool_use"
    assert (call.content[0].name, call.content[0].input) == ("weather", arguments)
    with ant.messages.stream(model="mock-model", max_tokens=100, messages=MESSAGES, tools=ANTHROPIC_TOOLS) as stream:
        final = stream.get_final_message()
    assert (final.content[0].name, final.content[0].input) == ("weather", arguments)


def test_anthropic_count_tokens(ant):
    assert ant.messages.count_tokens(model="mock-model", messages=MESSAGES).input_tokens == PROMPT_TOKENS


def test_anthropic_models(ant):
    assert "mock-model" in [model.id for model in ant.models.list()]


@pytest.mark.parametrize(
    ("status", "seen", "error", "kind"),
    [
        (400, 400, anthropic.BadRequestError, "invalid_request_error"),
        (404, 404, anthropic.NotFoundError, "not_found_error"),
        (413, 413, anthropic.RequestTooLargeError, "request_too_large"),
        (429, 429, anthropic.RateLimitError, "rate_limit_error"),
        (500, 500, anthropic.InternalServerError, "api_error"),
        (529, 529, anthropic.OverloadedError, "overloaded_error"),
        # The provider's 401, 402 and 403 are about the gateway's key, not the client's (O4).
        (401, 502, anthropic.InternalServerError, "api_error"),
        (402, 502, anthropic.InternalServerError, "api_error"),
        (403, 502, anthropic.InternalServerError, "api_error"),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_anthropic_error_classes(ant, leaks, status, seen, error, kind, stream):
    with pytest.raises(error) as caught:
        ant.messages.create(model=f"err-{status}", max_tokens=100, messages=MESSAGES, stream=stream)
    assert caught.value.status_code == seen
    assert caught.value.body["error"]["type"] == kind
    assert caught.value.request_id
    leaks(caught.value.response.text + str(dict(caught.value.response.headers)))


def test_anthropic_wrong_key(gateway):
    client = anthropic.Anthropic(base_url=gateway, api_key="wrong", max_retries=0)
    with pytest.raises(anthropic.AuthenticationError) as caught:
        client.messages.create(model="mock-model", max_tokens=100, messages=MESSAGES)
    assert caught.value.body["error"]["type"] == "authentication_error"


@pytest.mark.parametrize("model", ["cut-stream"])
def test_anthropic_broken_stream_raises(ant, model):
    with pytest.raises(anthropic.APIError):
        with ant.messages.stream(model=model, max_tokens=100, messages=MESSAGES) as stream:
            list(stream.text_stream)
