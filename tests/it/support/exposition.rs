//! A strict reader of Prometheus' text format 0.0.4: fails on whatever a scraper could read in another way, or not at all.
//!
//! <https://prometheus.io/docs/instrumenting/exposition_formats/>

use std::collections::{BTreeMap, BTreeSet};

/// A page that was read without a fault.
#[derive(Debug)]
pub struct Exposition {
    kinds: BTreeMap<String, String>,
    pub samples: Vec<Sample>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    pub name: String,
    pub labels: BTreeMap<String, String>,
    pub value: f64,
}

impl Exposition {
    /// Reads a page.
    ///
    /// # Panics
    ///
    /// When a line is not to the letter of the format.
    pub fn parse(page: &str) -> Self {
        assert!(page.ends_with('\n'), "the last line has no end");
        let mut read = Self { kinds: BTreeMap::new(), samples: Vec::new() };
        let (mut family, mut helped) = (String::new(), String::new());
        let mut known = BTreeSet::new();
        for line in page.lines() {
            if let Some(help) = line.strip_prefix("# HELP ") {
                let (name, text) = help.split_once(' ').unwrap_or_else(|| panic!("no help: {line}"));
                assert!(is_name(name) && !text.trim().is_empty() && !read.kinds.contains_key(name), "{line}");
                helped = name.to_owned();
            } else if let Some(of_type) = line.strip_prefix("# TYPE ") {
                let (name, kind) = of_type.split_once(' ').unwrap_or_else(|| panic!("no type: {line}"));
                assert!(name == helped && ["counter", "gauge", "histogram", "summary"].contains(&kind), "{line}");
                assert_eq!(kind == "counter", name.ends_with("_total"), "{line}");
                read.kinds.insert(name.to_owned(), kind.to_owned());
                family = name.to_owned();
            } else {
                let sample = sample(line);
                read.belongs(&sample, &family, line);
                assert!(known.insert((sample.name.clone(), sample.labels.clone())), "twice: {line}");
                read.samples.push(sample);
            }
        }
        let families: Vec<_> = read.kinds.iter().filter(|(_, kind)| *kind == "histogram").map(|(name, _)| name.clone()).collect();
        families.iter().for_each(|family| read.check_histogram(family));
        read
    }

    /// The names of all families.
    pub fn families(&self) -> BTreeSet<&str> {
        self.kinds.keys().map(String::as_str).collect()
    }

    /// The samples of this name that have these labels among theirs.
    pub fn of<'e>(&'e self, name: &str, labels: &[(&str, &str)]) -> Vec<&'e Sample> {
        let fits = |sample: &Sample| labels.iter().all(|(label, text)| sample.labels.get(*label).is_some_and(|own| own == text));
        self.samples.iter().filter(|sample| sample.name == name && fits(sample)).collect()
    }

    /// The sum of such samples.
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        self.of(name, labels).iter().map(|sample| sample.value).sum()
    }

    /// All values that a label has.
    pub fn values(&self, label: &str) -> BTreeSet<&str> {
        self.samples.iter().filter_map(|sample| sample.labels.get(label)).map(String::as_str).collect()
    }

    fn belongs(&self, sample: &Sample, family: &str, line: &str) {
        let kind = self.kinds.get(family).unwrap_or_else(|| panic!("a sample without its type: {line}"));
        let suffix = sample.name.strip_prefix(family).unwrap_or_else(|| panic!("it stands under {family}: {line}"));
        let fits = match kind.as_str() {
            "histogram" => ["_bucket", "_sum", "_count"].contains(&suffix),
            "summary" => ["_sum", "_count"].contains(&suffix),
            _ => suffix.is_empty(),
        };
        assert!(fits, "{kind}: {line}");
        assert_eq!(suffix == "_bucket", sample.labels.contains_key("le"), "{line}");
        assert!(kind == "gauge" || sample.value >= 0.0, "{line}");
    }

    /// Buckets ascend, are cumulative, end in `+Inf`, and that one is the count.
    fn check_histogram(&self, family: &str) {
        let mut series: BTreeMap<BTreeMap<String, String>, Vec<(f64, f64)>> = BTreeMap::new();
        for bucket in self.of(&format!("{family}_bucket"), &[]) {
            let mut labels = bucket.labels.clone();
            let bound = labels.remove("le").unwrap();
            series.entry(labels).or_default().push((number(&bound), bucket.value));
        }
        for (labels, buckets) in &series {
            assert!(buckets.is_sorted_by(|a, b| a.0 < b.0 && a.1 <= b.1), "{family} {labels:?}: {buckets:?}");
            let (last, count) = buckets.last().unwrap();
            assert!(last.is_infinite(), "{family} {labels:?} has no +Inf");
            let labels: Vec<(&str, &str)> = labels.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect();
            let counts = self.of(&format!("{family}_count"), &labels);
            assert!(counts.len() == 1 && counts[0].value == *count, "{family} {labels:?}: {counts:?}");
            assert_eq!(self.of(&format!("{family}_sum"), &labels).len(), 1, "{family} {labels:?}");
        }
    }
}

fn sample(line: &str) -> Sample {
    let end = line.find(['{', ' ']).unwrap_or_else(|| panic!("no value: {line}"));
    let (name, mut rest) = line.split_at(end);
    assert!(is_name(name), "{line}");
    let mut labels = BTreeMap::new();
    if let Some(inner) = rest.strip_prefix('{') {
        rest = inner;
        loop {
            let (label, after) = rest.split_once("=\"").unwrap_or_else(|| panic!("a label without a value: {line}"));
            assert!(is_name(label) && !label.contains(':'), "{line}");
            let (text, after) = unescaped(after, line);
            assert!(labels.insert(label.to_owned(), text).is_none(), "{line}");
            match after.strip_prefix(',') {
                Some(next) => rest = next,
                None => {
                    rest = after.strip_prefix('}').unwrap_or_else(|| panic!("open braces: {line}"));
                    break;
                }
            }
        }
    }
    let value = rest.strip_prefix(' ').unwrap_or_else(|| panic!("no value: {line}"));
    Sample { name: name.to_owned(), labels, value: number(value) }
}

/// The text up to the closing quote, and what follows it.
fn unescaped<'l>(quoted: &'l str, line: &str) -> (String, &'l str) {
    let (mut text, mut chars) = (String::new(), quoted.char_indices());
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return (text, &quoted[at + 1..]),
            '\\' => text.push(match chars.next() {
                Some((_, 'n')) => '\n',
                Some((_, c @ ('\\' | '"'))) => c,
                other => panic!("an unknown escape {other:?}: {line}"),
            }),
            c => text.push(c),
        }
    }
    panic!("an open quote: {line}")
}

fn number(text: &str) -> f64 {
    match text {
        "+Inf" => f64::INFINITY,
        _ => text.parse().ok().filter(|value: &f64| value.is_finite()).unwrap_or_else(|| panic!("no number: {text}")),
    }
}

fn is_name(name: &str) -> bool {
    let is_begin = |c: char| c.is_ascii_alphabetic() || c == '_' || c == ':';
    name.starts_with(is_begin) && name.chars().all(|c| is_begin(c) || c.is_ascii_digit())
}
