//! One file of the golden corpus, read.

use std::path::Path;

use trollbridge::config;
use trollbridge::domain::billing::Price;
use trollbridge::domain::usage::{Framing, Meter, Report, Shape, Source, Usage};

/// A golden bill.
pub struct Bill {
    pub name: String,
    pub framing: Framing,
    pub price: Price,
    pub expected: Billed,
    shape: Shape,
    answer: String,
}

/// What an answer is billed, and on what ground.
#[derive(Debug, PartialEq, Eq)]
pub struct Billed {
    usage: Option<Usage>,
    source: Source,
    /// Counts that could not be believed.
    bent: u32,
    nano_usd: u64,
}

impl Bill {
    /// The whole corpus.
    pub fn all() -> Vec<Self> {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden_bills");
        let files = std::fs::read_dir(directory).unwrap().map(|file| file.unwrap().path());
        files.map(|path| Self::read(&path)).collect()
    }

    /// The corpus' answers hold no bytes but text.
    fn read(path: &Path) -> Self {
        let text = std::fs::read_to_string(path).unwrap();
        let (head, answer) = text.split_once("\nanswer:\n").unwrap();
        let field = |name: &str| {
            let fields = head.lines().filter_map(|line| line.split_once(": "));
            let mut values = fields.filter(|(field, _)| *field == name).map(|(_, value)| value);
            values.next().unwrap_or_else(|| panic!("{} has no {name}", path.display()))
        };
        let expected = Billed {
            usage: usage(field("tokens")),
            source: source(field("source")),
            bent: field("bent").parse().unwrap(),
            nano_usd: field("nano_usd").parse().unwrap(),
        };
        Self {
            name: path.file_stem().unwrap().to_string_lossy().into_owned(),
            framing: if field("framing") == "sse" { Framing::Sse } else { Framing::Json },
            price: price(field("price")),
            expected,
            shape: shape(field("shape")),
            answer: answer.to_owned(),
        }
    }

    pub fn answer(&self) -> &[u8] {
        self.answer.as_bytes()
    }

    /// Meters the answer in these pieces and prices what was read.
    pub fn of_chunks<'a>(&self, chunks: impl IntoIterator<Item = &'a [u8]>) -> Billed {
        let mut meter = Meter::new(self.shape, self.framing);
        chunks.into_iter().for_each(|chunk| meter.push(chunk));
        Billed::of(&meter.report(), &self.price)
    }
}

impl Billed {
    pub fn of(report: &Report, price: &Price) -> Self {
        let Report { usage, source, clamped: bent, .. } = *report;
        Self { usage, source, bent, nano_usd: price.cost(&usage.unwrap_or_default()).nanos() }
    }
}

/// The price of a model whose entry in the configuration has these keys.
pub fn price(keys: &str) -> Price {
    let keys = keys.trim_start_matches('{').trim_end_matches('}');
    let separator = if keys.is_empty() { "" } else { ", " };
    let text = format!(r#"{{"models": [{{"id": "m"{separator}{keys}}}]}}"#);
    let settings = config::load(Path::new("config.json"), &|_| None, &|_| Ok(text.clone())).unwrap().settings;
    settings.price_of(&settings.routing.by_model(Some("m")).unwrap()).clone()
}

fn usage(tokens: &str) -> Option<Usage> {
    if tokens == "none" {
        return None;
    }
    let classes: Vec<(&str, &str)> = tokens.split(", ").map(|class| class.rsplit_once(' ').unwrap()).collect();
    let count = |name: &str| classes.iter().find(|(class, _)| *class == name).unwrap().1.parse().unwrap();
    Some(Usage {
        input_tokens: count("input"),
        cache_write_tokens: count("cache write"),
        cache_write_1h_tokens: count("cache write 1h"),
        cache_read_tokens: count("cache read"),
        output_tokens: count("output"),
        ..Usage::default()
    })
}

fn source(label: &str) -> Source {
    let all = [Source::Final, Source::Partial, Source::Estimated, Source::None];
    all.into_iter().find(|source| source.label() == label).unwrap()
}

fn shape(name: &str) -> Shape {
    match name {
        "chat" => Shape::OpenAiChat,
        "messages" => Shape::Anthropic,
        "responses" => Shape::Responses,
        other => panic!("{other} is no shape"),
    }
}
