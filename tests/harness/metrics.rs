//! What a server tells at `/metrics`, read as strictly as the format asks for.

use std::collections::BTreeMap;

use crate::http;

/// All that a server told at one moment.
#[derive(Clone, Debug, Default)]
pub struct Exposition {
    /// By name, without the suffixes of samples.
    pub families: BTreeMap<String, Family>,
    /// Each sample: its name and labels, as they were written, and its value.
    pub samples: BTreeMap<String, f64>,
    /// Bytes of the text.
    pub bytes: usize,
}

/// What is said about a family.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Family {
    /// What it means.
    pub help: String,
    /// counter, gauge or histogram.
    pub kind: String,
    /// seconds, bytes, or nothing.
    pub unit: String,
}

/// Asks the server at `addr`.
pub fn scrape(addr: &str) -> Exposition {
    let response = http::request(addr, "GET /metrics", &[], b"").expect("an answer").expect(200);
    let kind = response.header("content-type").unwrap_or_default();
    assert!(kind.starts_with("application/openmetrics-text; version=1.0.0"), "{kind}");
    parse(&String::from_utf8(response.body).expect("text"))
}

/// Fails if anything is told twice, without help, outside of its family, or without end.
pub fn parse(text: &str) -> Exposition {
    let mut told = Exposition { bytes: text.len(), ..Exposition::default() };
    let mut family = String::new();
    let text = text.strip_suffix("# EOF\n").expect("the end is told");
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, help) = rest.split_once(' ').expect("a help");
            family = name.to_string();
            let new = Family { help: help.to_string(), ..Family::default() };
            assert!(told.families.insert(family.clone(), new).is_none(), "{name} is told twice");
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').expect("a kind");
            told.families.get_mut(name).expect("help comes first").kind = kind.to_string();
        } else if let Some(rest) = line.strip_prefix("# UNIT ") {
            let (name, unit) = rest.split_once(' ').expect("a unit");
            told.families.get_mut(name).expect("help comes first").unit = unit.to_string();
        } else {
            let (series, value) = line.rsplit_once(' ').expect("a value");
            assert!(series.starts_with(&family), "{line} stands under {family}");
            let value = value.parse().unwrap_or_else(|error| panic!("{line}: {error}"));
            let earlier = told.samples.insert(series.to_string(), value);
            assert!(earlier.is_none(), "{series} is told twice");
        }
    }
    told
}

/// The name and the labels of a sample.
pub fn labels(series: &str) -> (&str, Vec<(&str, &str)>) {
    let Some((name, labels)) = series.split_once('{') else { return (series, vec![]) };
    let labels = labels.strip_suffix('}').expect("labels end");
    let pairs = labels.split("\",").map(|pair| {
        let (name, value) = pair.split_once("=\"").expect("a label");
        (name, value.strip_suffix('"').unwrap_or(value))
    });
    (name, pairs.collect())
}

impl Exposition {
    /// The sum of the samples of this name that have these labels; None if there are none.
    pub fn sum(&self, name: &str, wanted: &[(&str, &str)]) -> Option<f64> {
        let found = self.samples.iter().filter(|(series, _)| {
            let (known, labels) = labels(series);
            known == name && wanted.iter().all(|label| labels.contains(label))
        });
        found.map(|(_, value)| *value).reduce(|sum, value| sum + value)
    }
}
