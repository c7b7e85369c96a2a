//! Measures peek on request bodies as they come, against serde_json's typed parse of the same fields.
//!
//! Text is plain or escaped (code with `\n` and `\"`), `model` stands first or last, sizes are those of requirement Q1. The body arrives
//! in chunks of 16 KiB for peek and whole for serde_json, which cannot do otherwise. `other` bodies show what is not mostly ASCII text.
#![expect(clippy::expect_used, reason = "a sample that is refused must stop the benchmark")]

use std::borrow::Cow;
use std::hint::black_box;

use bytes::Bytes;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use serde::Deserialize;
use trollbridge::domain::json::rename::{ModelRename, RenamePath, model_span};
use trollbridge::domain::json::splice::splice;
use trollbridge::domain::json::{Peeked, Peeker};

const CHUNK: usize = 16 * 1024;
const PLAIN: &str = "The quick brown fox jumps over the lazy dog, again and again. ";
const CODE: &str = concat!(
    r#"fn main() {\n    let name = \"world\";\n    println!(\"hello {name}\");\n\tif let Some(found) = map.get(&key) {\n"#,
    r#"        return Err(\"no such key\".into());\n    }\n}\n\n// a comment that explains why\n"#,
);
/// JSON inside JSON: what tool calls and their results carry.
const NESTED: &str = r#"{\"path\":\"C:\\\\src\\\\main.rs\",\"content\":\"let a = \\\"b\\\";\\n\",\"ok\":true}\n"#;
const CHINESE: &str = "机器学习模型的网关需要逐字节地转发，不得改变任何内容。";
const CHINESE_ESCAPED: &str = r"\u673a\u5668\u5b66\u4e60\u6a21\u578b\u7684\u7f51\u5173 ";

#[derive(Deserialize)]
struct Typed<'a> {
    #[serde(borrow)]
    model: Option<Cow<'a, str>>,
    #[serde(default)]
    stream: bool,
    max_tokens: Option<u64>,
}

#[derive(Clone, Copy)]
enum ModelAt {
    First,
    Last,
}

fn chat(text: &str, size: usize, model_at: ModelAt) -> String {
    let model = r#""model":"gpt-4","stream":true,"max_tokens":1024"#;
    let text = text.repeat(size / text.len() + 1);
    let messages = format!(r#""messages":[{{"role":"system","content":"be brief"}},{{"role":"user","content":"{text}"}}]"#);
    match model_at {
        ModelAt::First => format!("{{{model},{messages}}}"),
        ModelAt::Last => format!("{{{messages},{model}}}"),
    }
}

/// Many small tokens: tool schemas, then token ids as an embeddings request has them.
fn structure(size: usize) -> String {
    let tool = r#"{"type":"function","function":{"name":"f","parameters":{"type":"object","properties":{"a":{"type":"string"}},"required":["a"]}}},"#;
    let tools = tool.repeat(size / 2 / tool.len());
    let ids = "1234, 567, 89012, ".repeat(size / 2 / 18);
    format!(r#"{{"tools":[{}],"input":[{}],"model":"gpt-4"}}"#, tools.trim_end_matches(','), ids.trim_end_matches(", "))
}

fn peeked(body: &[u8]) -> Peeked {
    let mut peeker = Peeker::new();
    for chunk in body.chunks(CHUNK) {
        peeker.push(chunk).expect("the sample is valid");
    }
    peeker.finish().expect("the sample is valid")
}

fn typed(body: &[u8]) -> (usize, bool, Option<u64>) {
    let typed: Typed<'_> = serde_json::from_slice(body).expect("the sample is valid");
    (typed.model.map_or(0, |model| model.len()), typed.stream, typed.max_tokens)
}

fn requests(criterion: &mut Criterion) {
    let kinds = [
        ("plain/model_first", PLAIN, ModelAt::First),
        ("plain/model_last", PLAIN, ModelAt::Last),
        ("escaped/model_first", CODE, ModelAt::First),
        ("escaped/model_last", CODE, ModelAt::Last),
    ];
    for (name, text, model_at) in kinds {
        let mut group = criterion.benchmark_group(name);
        for (label, size) in [("1KB", 1_000), ("100KB", 100_000), ("5MB", 5_000_000)] {
            let body = chat(text, size, model_at);
            compare(&mut group, label, body.as_bytes());
        }
        group.finish();
    }
}

fn others(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("other/100KB");
    for (label, text) in [("nested_json", NESTED), ("chinese", CHINESE), ("chinese_escaped", CHINESE_ESCAPED)] {
        compare(&mut group, label, chat(text, 100_000, ModelAt::Last).as_bytes());
    }
    compare(&mut group, "structure", structure(100_000).as_bytes());
    group.finish();
}

fn compare(group: &mut criterion::BenchmarkGroup<'_, criterion::measurement::WallTime>, label: &str, body: &[u8]) {
    group.throughput(Throughput::Bytes(body.len() as u64));
    group.bench_with_input(BenchmarkId::new("peek", label), body, |bencher, body| bencher.iter(|| peeked(black_box(body))));
    group.bench_with_input(BenchmarkId::new("serde_json", label), body, |bencher, body| bencher.iter(|| typed(black_box(body))));
}

fn edits(criterion: &mut Criterion) {
    let text = chat(CODE, 100_000, ModelAt::Last);
    let found = peeked(text.as_bytes());
    let chunks: Vec<Bytes> = text.as_bytes().chunks(CHUNK).map(Bytes::copy_from_slice).collect();
    criterion.bench_function("splice/two_edits_in_100KB", |bencher| {
        bencher.iter(|| {
            let mut body = chunks.clone();
            splice(&mut body, found.rename_model("claude-opus-4-5-20251101").into_iter().chain(found.ask_for_usage()).collect());
            body
        });
    });
}

fn answers(criterion: &mut Criterion) {
    let event = br#"{"id":"chatcmpl-1","object":"chat.completion.chunk","created":1,"model":"gpt-4","choices":[{"index":0,"delta":{"content":" word"},"finish_reason":null}]}"#;
    criterion.bench_function("rename/model_span_of_a_chunk", |bencher| {
        bencher.iter(|| model_span(black_box(event), RenamePath::TopLevel));
    });
    let chunks: Vec<Bytes> = chat(CODE, 100_000, ModelAt::Last).as_bytes().chunks(CHUNK).map(Bytes::copy_from_slice).collect();
    criterion.bench_function("rename/100KB_model_last", |bencher| {
        bencher.iter(|| {
            let mut rename = ModelRename::new(RenamePath::TopLevel, "alias");
            let mut out = Vec::with_capacity(16);
            for chunk in &chunks {
                rename.push(chunk.clone(), &mut out);
            }
            rename.finish(&mut out);
            out
        });
    });
}

criterion_group!(benches, requests, others, edits, answers);
criterion_main!(benches);
