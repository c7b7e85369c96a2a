//! What metering, rewriting and guarding cost per event of a stream, beside a JSON parse of every event as the reference.
//!
//! Every event comes as a chunk of its own, as it does from a provider. Time per element is time per event; `cargo bench --bench
//! meter`.

use std::hint::black_box;

use bytes::Bytes;
use criterion::{BenchmarkGroup, Criterion, Throughput, criterion_group, criterion_main, measurement::WallTime};
use trollbridge::domain::guard::KeyGuard;
use trollbridge::domain::json::rename::RenamePath;
use trollbridge::domain::secret::Secret;
use trollbridge::domain::usage::rewrite::SseRewrite;
use trollbridge::domain::usage::{Framing, Meter, Shape};

const EVENTS: usize = 1000;

struct Stream {
    name: &'static str,
    shape: Shape,
    path: RenamePath,
    chunks: Vec<Bytes>,
    events: usize,
}

fn chat() -> Stream {
    let event = |index: usize| {
        format!(
            "data: {{\"id\":\"chatcmpl-9x1\",\"object\":\"chat.completion.chunk\",\"created\":1700000000,\
             \"model\":\"gpt-4o-2024-08-06\",\
             \"service_tier\":\"default\",\"system_fingerprint\":\"fp_1\",\
             \"choices\":[{{\"index\":0,\"delta\":{{\"content\":\" word {index}\"}},\
             \"logprobs\":null,\"finish_reason\":null}}],\"usage\":null}}\n\n"
        )
    };
    let last = "data: {\"id\":\"chatcmpl-9x1\",\"choices\":[],\
                \"usage\":{\"prompt_tokens\":19,\"completion_tokens\":10,\"total_tokens\":29}}\n\n";
    let mut chunks: Vec<Bytes> = (2..EVENTS).map(|index| event(index).into()).collect();
    chunks.extend([Bytes::from_static(last.as_bytes()), Bytes::from_static(b"data: [DONE]\n\n")]);
    Stream { name: "chat", shape: Shape::OpenAiChat, path: RenamePath::TopLevel, chunks, events: EVENTS }
}

/// Chat events that differ in more than their text, as OpenAI's do.
fn chat_obfuscated() -> Stream {
    let padding = |index: usize| format!("null,\"obfuscation\":\"{}\"}}\n\n", "x7Rq2bKd".get(index % 8..).unwrap_or_default());
    let Stream { shape, path, chunks, events, .. } = chat();
    let pad = |(index, chunk): (usize, Bytes)| match chunk.strip_suffix(b"null}\n\n") {
        Some(event) => [event, padding(index).as_bytes()].concat().into(),
        None => chunk,
    };
    Stream { name: "chat_obfuscated", shape, path, chunks: chunks.into_iter().enumerate().map(pad).collect(), events }
}

/// The small events of Responses, which are numbered.
fn response_deltas() -> Stream {
    let delta = |index: usize| {
        format!(
            "event: response.output_text.delta\ndata: {{\"type\":\"response.output_text.delta\",\"sequence_number\":{index},\
             \"item_id\":\"msg_68af4030592c81938ec0a5fbab4a3e9f\",\"output_index\":0,\"content_index\":0,\
             \"delta\":\" word {index}\",\"logprobs\":[],\"obfuscation\":\"{}\"}}\n\n",
            "x7Rq2bKd".get(index % 8..).unwrap_or_default()
        )
    };
    let last = "event: response.completed\ndata: {\"type\":\"response.completed\",\"response\":{\"id\":\"resp_1\",\
                \"usage\":{\"input_tokens\":328,\"output_tokens\":52}}}\n\n";
    let mut chunks: Vec<Bytes> = (1..EVENTS).map(|index| delta(index).into()).collect();
    chunks.push(Bytes::from_static(last.as_bytes()));
    Stream { name: "response_deltas", shape: Shape::Responses, path: RenamePath::Nested("response"), chunks, events: EVENTS }
}

fn messages() -> Stream {
    let delta = |index: usize| {
        format!(
            "event: content_block_delta\ndata: {{\"type\":\"content_block_delta\",\"index\":0,\
             \"delta\":{{\"type\":\"text_delta\",\"text\":\" word {index}\"}}}}\n\n"
        )
    };
    let start = "event: message_start\ndata: {\"type\":\"message_start\",\
                 \"message\":{\"model\":\"claude-sonnet-4-5\",\"usage\":{\"input_tokens\":25,\"output_tokens\":1}}}\n\n";
    let end = "event: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{},\"usage\":{\"output_tokens\":15}}\n\n";
    let stop = "event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n";
    let mut chunks = vec![Bytes::from_static(start.as_bytes())];
    chunks.extend((3..EVENTS).map(|index| Bytes::from(delta(index))));
    chunks.extend([end, stop].map(|event| Bytes::from_static(event.as_bytes())));
    Stream { name: "messages", shape: Shape::Anthropic, path: RenamePath::Nested("message"), chunks, events: EVENTS }
}

/// One `response.completed` of 256 KB of escaped text, in network-sized chunks.
fn responses() -> Stream {
    let text = r#"fn main() {\n    println!(\"{}\", \"usage\");\n}\n"#.repeat(256 * 1024 / 48);
    let event = format!(
        "event: response.completed\ndata: {{\"type\":\"response.completed\",\"response\":{{\"id\":\"resp_1\",\"model\":\"gpt-5\",\
         \"output\":[{{\"type\":\"message\",\"content\":[{{\"type\":\"output_text\",\"text\":\"{text}\"}}]}}],\
         \"usage\":{{\"input_tokens\":328,\"output_tokens\":52}}}}}}\n\n"
    );
    let chunks = event.as_bytes().chunks(16 * 1024).map(Bytes::copy_from_slice).collect();
    let path = RenamePath::Nested("response");
    Stream { name: "response_completed_256k", shape: Shape::Responses, path, chunks, events: 1 }
}

fn keys() -> KeyGuard {
    let keys: Vec<Secret> = (0..8)
        .flat_map(|index| [format!("sk-ant-api03-planted-key-{index:032}"), format!("planted-upstream-key-{index:032}")])
        .filter_map(Secret::new)
        .collect();
    KeyGuard::new(keys.iter())
}

fn meter(stream: &Stream, counts_text: bool) {
    let meter = Meter::new(stream.shape, Framing::Sse);
    let mut meter = if counts_text { meter.counting_text() } else { meter };
    stream.chunks.iter().for_each(|chunk| meter.push(chunk));
    let report = meter.report();
    assert!(report.terminated && report.usage.is_some());
    black_box(report);
}

fn rewrite(stream: &Stream, mut rewrite: SseRewrite) {
    let mut out = Vec::with_capacity(8);
    for chunk in &stream.chunks {
        rewrite.push(chunk.clone(), &mut out);
        black_box(&out);
        out.clear();
    }
    rewrite.finish(&mut out);
}

fn guard(stream: &Stream, keys: &KeyGuard) {
    let mut guard = keys.stream();
    for chunk in &stream.chunks {
        assert!(black_box(guard.push(chunk.clone())).is_ok());
    }
}

/// The reference: what a gateway does that parses every event into a tree.
fn parse(stream: &Stream) {
    let mut pending = Vec::new();
    for chunk in &stream.chunks {
        pending.extend_from_slice(chunk);
        if !pending.ends_with(b"\n\n") {
            continue;
        }
        let payload = pending.split(|&byte| byte == b'\n').find_map(|line| line.strip_prefix(b"data: "));
        if let Some(payload) = payload {
            let _ = black_box(serde_json::from_slice::<serde_json::Value>(payload));
        }
        pending.clear();
    }
}

fn all(criterion: &mut Criterion) {
    let keys = keys();
    for stream in [chat(), chat_obfuscated(), messages(), response_deltas(), responses()] {
        let mut group: BenchmarkGroup<'_, WallTime> = criterion.benchmark_group(stream.name);
        group.throughput(Throughput::Elements(stream.events as u64)).sample_size(20);
        let name = || "alias".to_owned();
        group.bench_function("meter", |b| b.iter(|| meter(&stream, false)));
        group.bench_function("meter_with_text", |b| b.iter(|| meter(&stream, true)));
        group.bench_function("rewrite_drop", |b| b.iter(|| rewrite(&stream, SseRewrite::new(true, None))));
        group.bench_function("rewrite_rename", |b| {
            b.iter(|| rewrite(&stream, SseRewrite::new(false, Some((stream.path, name())))))
        });
        group.bench_function("guard_16_keys", |b| b.iter(|| guard(&stream, &keys)));
        group.bench_function("serde_json_value", |b| b.iter(|| parse(&stream)));
        group.finish();
    }
}

criterion_group!(benches, all);
criterion_main!(benches);
