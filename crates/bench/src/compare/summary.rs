//! Medians of rounds, and ratios between the systems.

use serde::Serialize;

use super::Comparison;
use super::cluster::System;
use super::sample::Sample;

/// A figure that is compared.
pub struct Figure {
    /// In tables and on plots.
    pub name: &'static str,
    /// Digits after the point.
    pub digits: usize,
    /// From one cell; None if it could not be measured.
    pub of: fn(&Cell) -> Option<f64>,
}

/// The figures, in the order they are printed.
pub const FIGURES: [Figure; 8] = [
    Figure { name: "ops/s", digits: 0, of: |cell| Some(cell.ops_per_s) },
    Figure { name: "p50 us", digits: 0, of: |cell| Some(cell.p50_us) },
    Figure { name: "p99 us", digits: 0, of: |cell| Some(cell.p99_us) },
    Figure { name: "p99.9 us", digits: 0, of: |cell| Some(cell.p999_us) },
    Figure { name: "cpu us/op", digits: 1, of: |cell| cell.cpu_us_per_op },
    Figure { name: "fsyncs/op", digits: 3, of: |cell| cell.fsyncs_per_op },
    Figure { name: "disk B/B", digits: 1, of: |cell| cell.disk_bytes_per_user_byte },
    Figure { name: "rss MiB", digits: 0, of: |cell| cell.rss_mib },
];

/// One system, operation and number of clients: the medians of its rounds.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Cell {
    /// The system.
    pub system: System,
    /// The operation's name.
    pub op: String,
    /// Clients.
    pub clients: usize,
    /// Operations a second.
    pub ops_per_s: f64,
    /// Median latency.
    pub p50_us: f64,
    /// See `RunReport`.
    pub p99_us: f64,
    /// See `RunReport`.
    pub p999_us: f64,
    /// See `Sample`.
    pub cpu_us_per_op: Option<f64>,
    /// See `Sample`.
    pub fsyncs_per_op: Option<f64>,
    /// See `Sample`.
    pub disk_bytes_per_user_byte: Option<f64>,
    /// Resident memory of all servers.
    pub rss_mib: Option<f64>,
    /// Failed operations of all rounds together.
    pub errors: u64,
}

/// A cell for each operation, number of clients and system, in that order and as they first come.
pub fn cells(samples: &[Sample]) -> Vec<Cell> {
    let mut runs: Vec<(&str, usize)> = Vec::new();
    for sample in samples {
        let run = (sample.report.op.as_str(), sample.report.clients);
        if !runs.contains(&run) {
            runs.push(run);
        }
    }
    let mut cells = Vec::new();
    for (op, clients) in runs {
        for system in [System::Flotilla, System::Etcd] {
            let same = |sample: &&Sample| {
                sample.system == system
                    && sample.report.op == op
                    && sample.report.clients == clients
            };
            let rounds: Vec<&Sample> = samples.iter().filter(same).collect();
            if !rounds.is_empty() {
                cells.push(cell(&rounds));
            }
        }
    }
    cells
}

fn cell(rounds: &[&Sample]) -> Cell {
    let middle = |of: fn(&Sample) -> Option<f64>| {
        let values: Option<Vec<f64>> = rounds.iter().map(|sample| of(sample)).collect();
        values.and_then(median)
    };
    let always = |of| middle(of).unwrap_or(0.0);
    let first = rounds[0];
    Cell {
        system: first.system,
        op: first.report.op.clone(),
        clients: first.report.clients,
        ops_per_s: always(|sample| Some(sample.report.ops_per_s)),
        p50_us: always(|sample| Some(sample.report.latency.p50_us)),
        p99_us: always(|sample| Some(sample.report.latency.p99_us)),
        p999_us: always(|sample| Some(sample.report.latency.p999_us)),
        cpu_us_per_op: middle(|sample| sample.cpu_us_per_op),
        fsyncs_per_op: middle(|sample| sample.fsyncs_per_op),
        disk_bytes_per_user_byte: middle(|sample| sample.disk_bytes_per_user_byte),
        rss_mib: middle(|sample| sample.rss_bytes.map(|bytes| bytes as f64 / (1 << 20) as f64)),
        errors: rounds.iter().map(|sample| sample.report.errors).sum(),
    }
}

/// The middle value, or the mean of the two in the middle.
fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let upper = *values.get(values.len() / 2)?;
    let lower = values[(values.len() - 1) / 2];
    Some((lower + upper) / 2.0)
}

impl Comparison {
    /// Column names of [`Comparison::rows`].
    pub fn header() -> Vec<&'static str> {
        let figures = FIGURES.iter().map(|figure| figure.name);
        ["op", "clients", "system"].into_iter().chain(figures).chain(["errors"]).collect()
    }

    /// One row for each cell, and under two that differ in the system alone their ratio: what
    /// Flotilla has of etcd's.
    pub fn rows(&self) -> Vec<Vec<String>> {
        let mut rows = Vec::new();
        let mut previous: Option<&Cell> = None;
        for cell in &self.cells {
            rows.push(row(cell));
            let pair =
                previous.filter(|first| first.op == cell.op && first.clients == cell.clients);
            if let Some(first) = pair {
                rows.push(ratio_row(first, cell));
            }
            previous = Some(cell);
        }
        rows
    }
}

fn row(cell: &Cell) -> Vec<String> {
    let mut row = vec![cell.op.clone(), cell.clients.to_string(), cell.system.name().to_string()];
    row.extend(FIGURES.iter().map(|figure| {
        (figure.of)(cell).map_or("-".into(), |value| format!("{value:.*}", figure.digits))
    }));
    row.push(cell.errors.to_string());
    row
}

fn ratio_row(first: &Cell, second: &Cell) -> Vec<String> {
    let mut row = vec![String::new(), String::new(), "ratio".to_string()];
    row.extend(FIGURES.iter().map(|figure| match (figure.of)(first).zip((figure.of)(second)) {
        Some((first, second)) if second != 0.0 => format!("{:.2}x", first / second),
        _ => "-".into(),
    }));
    row.push(String::new());
    row
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::compare::machine::Machine;
    use crate::report::{Latencies, RunReport};

    fn sample(system: System, round: usize, ops_per_s: f64, fsyncs: Option<f64>) -> Sample {
        let report = RunReport {
            op: "put".into(),
            clients: 64,
            ops_per_s,
            latency: Latencies { p50_us: 1.0, ..Latencies::default() },
            errors: 1,
            ..RunReport::default()
        };
        Sample {
            system,
            round,
            report,
            cpu_us_per_op: Some(100.0),
            server_cpu_us_per_op: Some(80.0),
            fsyncs_per_op: fsyncs,
            disk_bytes_per_user_byte: None,
            rss_bytes: Some(3 << 20),
        }
    }

    pub fn comparison() -> Comparison {
        let samples = vec![
            sample(System::Flotilla, 0, 900.0, Some(0.5)),
            sample(System::Etcd, 0, 100.0, Some(0.5)),
            sample(System::Etcd, 1, 300.0, None),
            sample(System::Flotilla, 1, 100.0, Some(0.7)),
            sample(System::Flotilla, 2, 500.0, Some(0.6)),
            sample(System::Etcd, 2, 200.0, Some(0.5)),
        ];
        let dir = tempfile::tempdir().expect("a directory");
        Comparison {
            machine: Machine::measure(dir.path()).expect("it can be written to"),
            versions: vec![("etcd".into(), "etcd <3>".into())],
            rounds: 3,
            seconds: 10.0,
            value_bytes: 256,
            keys: 1000,
            cells: cells(&samples),
            samples,
        }
    }

    #[test]
    fn a_cell_is_the_median_of_its_rounds() {
        assert_eq!(median(vec![3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(vec![4.0, 1.0, 2.0, 3.0]), Some(2.5));
        assert_eq!(median(Vec::new()), None);
        let cells = comparison().cells;
        assert_eq!(cells.len(), 2);
        assert_eq!((cells[0].system, cells[0].ops_per_s), (System::Flotilla, 500.0));
        assert_eq!((cells[1].system, cells[1].ops_per_s), (System::Etcd, 200.0));
        assert_eq!(cells[0].fsyncs_per_op, Some(0.6));
        assert_eq!(cells[1].fsyncs_per_op, None, "not known in one round");
        assert_eq!(cells[0].errors, 3, "errors are summed");
    }

    #[test]
    fn ratios_stand_under_their_pair_and_unknown_figures_are_dashes() {
        let rows = comparison().rows();
        assert_eq!(rows.len(), 3);
        assert!(rows.iter().all(|row| row.len() == Comparison::header().len()));
        assert_eq!(rows[0][..4], ["put", "64", "flotilla", "500"]);
        assert_eq!(rows[2][2..4], ["ratio", "2.50x"]);
        assert_eq!((rows[1][8].as_str(), rows[2][8].as_str()), ("-", "-"));
    }
}
