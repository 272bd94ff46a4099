//! A comparison as an SVG picture: for each operation a row of bar charts, one chart for each
//! figure that decides, one group of bars for each number of clients.

use std::fmt::Write;

use super::Comparison;
use super::cluster::System;
use super::summary::{Cell, FIGURES, Figure};

/// Figures that are drawn, by name.
const DRAWN: [&str; 3] = ["ops/s", "p99 us", "cpu us/op"];

const CHART_WIDTH: f64 = 360.0;
const CHART_HEIGHT: f64 = 240.0;
const MARGIN: f64 = 30.0;
const TITLE_HEIGHT: f64 = 70.0;
/// Height of the longest bar: below it are the clients, above it its value and the chart's title.
const BAR_HEIGHT_MAX: f64 = 150.0;

/// The picture.
pub fn svg(comparison: &Comparison) -> String {
    let mut ops: Vec<&str> = comparison.cells.iter().map(|cell| cell.op.as_str()).collect();
    ops.dedup();
    let width = CHART_WIDTH * DRAWN.len() as f64 + MARGIN;
    let height = TITLE_HEIGHT + CHART_HEIGHT * ops.len() as f64;
    let mut out = Picture::default();
    let name_space = r#"xmlns="http://www.w3.org/2000/svg""#;
    let font = r#"font-family="sans-serif" font-size="11""#;
    out.line(format_args!(r#"<svg {name_space} viewBox="0 0 {width} {height}" {font}>"#));
    out.line(format_args!(r#"<rect width="{width}" height="{height}" fill="white"/>"#));
    draw_title(&mut out, comparison);
    for (row, op) in ops.iter().enumerate() {
        let cells: Vec<&Cell> = comparison.cells.iter().filter(|cell| cell.op == *op).collect();
        for (column, name) in DRAWN.iter().enumerate() {
            let Some(figure) = FIGURES.iter().find(|figure| figure.name == *name) else { continue };
            let left = MARGIN + CHART_WIDTH * column as f64;
            let top = TITLE_HEIGHT + CHART_HEIGHT * row as f64;
            draw_chart(&mut out, (left, top), figure, &cells);
        }
    }
    out.line(format_args!("</svg>"));
    out.0
}

fn draw_title(out: &mut Picture, comparison: &Comparison) {
    let machine = &comparison.machine;
    let versions: Vec<String> = comparison.versions.iter().map(|(_, text)| text.clone()).collect();
    let what = format!(
        "{} replicas, {}-byte values, {} keys; median of {} rounds of {} s; {} cores, {}",
        super::cluster::SERVERS,
        comparison.value_bytes,
        comparison.keys,
        comparison.rounds,
        comparison.seconds,
        machine.cores,
        machine.cpu
    );
    out.text((MARGIN, 20.0), "start", &versions.join(" and "));
    out.text((MARGIN, 36.0), "start", &what);
    for (number, system) in [System::Flotilla, System::Etcd].into_iter().enumerate() {
        let left = MARGIN + 90.0 * number as f64;
        out.bar((left, 46.0), (10.0, 10.0), color(system));
        out.text((left + 15.0, 55.0), "start", system.name());
    }
}

fn draw_chart(out: &mut Picture, (left, top): (f64, f64), figure: &Figure, cells: &[&Cell]) {
    let title = format!("{}: {}", cells.first().map_or("", |cell| &cell.op), figure.name);
    out.text((left, top + 16.0), "start", &title);
    let mut clients: Vec<usize> = cells.iter().map(|cell| cell.clients).collect();
    clients.dedup();
    let known = cells.iter().filter_map(|cell| (figure.of)(cell));
    let most = known.fold(0.0, f64::max);
    let group = (CHART_WIDTH - MARGIN) / clients.len().max(1) as f64;
    let bar = (group * 0.35).min(60.0);
    let base = top + CHART_HEIGHT - 40.0;
    for (number, clients) in clients.iter().enumerate() {
        let middle = left + group * (number as f64 + 0.5);
        out.text((middle, base + 15.0), "middle", &format!("{clients} clients"));
        for cell in cells.iter().filter(|cell| cell.clients == *clients) {
            let start = if cell.system == System::Flotilla { middle - bar } else { middle };
            let value = (figure.of)(cell);
            let share = value.filter(|_| most > 0.0).map_or(0.0, |value| value / most);
            let height = BAR_HEIGHT_MAX * share;
            out.bar((start, base - height), (bar - 2.0, height), color(cell.system));
            let label = value.map_or("-".into(), |value| format!("{value:.*}", figure.digits));
            out.text((start + bar / 2.0, base - height - 4.0), "middle", &label);
        }
    }
}

fn color(system: System) -> &'static str {
    match system {
        System::Flotilla => "#1f6f8b",
        System::Etcd => "#d98e32",
    }
}

/// The SVG so far.
#[derive(Default)]
struct Picture(String);

impl Picture {
    fn line(&mut self, line: std::fmt::Arguments<'_>) {
        // A string takes everything.
        let _ = writeln!(self.0, "{line}");
    }

    fn text(&mut self, (x, y): (f64, f64), anchor: &str, text: &str) {
        let text = escaped(text);
        self.line(format_args!(
            r#"<text x="{x:.1}" y="{y:.1}" text-anchor="{anchor}">{text}</text>"#
        ));
    }

    fn bar(&mut self, (x, y): (f64, f64), (width, height): (f64, f64), color: &str) {
        let place = format!(r#"x="{x:.1}" y="{y:.1}""#);
        let size = format!(r#"width="{width:.1}" height="{height:.1}""#);
        self.line(format_args!(r#"<rect {place} {size} fill="{color}"/>"#));
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::summary::tests::comparison;

    /// The names of open elements at the end; panics at a tag that closes another than the last.
    fn open_elements(xml: &str) -> Vec<String> {
        let mut open: Vec<String> = Vec::new();
        let mut rest = xml;
        while let Some((text, tail)) = rest.split_once('<') {
            assert!(!text.contains('>'), "a stray > in {text:?}");
            let (tag, after) = tail.split_once('>').expect("every < has its >");
            assert_eq!(tag.matches('"').count() % 2, 0, "quotes pair up in {tag}");
            let name = tag.trim_start_matches('/').split([' ', '/']).next().unwrap_or_default();
            match (tag.starts_with('/'), tag.ends_with('/')) {
                (true, _) => assert_eq!(open.pop().as_deref(), Some(name)),
                (false, false) => open.push(name.to_string()),
                (false, true) => {}
            }
            rest = after;
        }
        open
    }

    #[test]
    fn the_picture_is_well_formed_and_has_a_bar_for_each_figure() {
        let comparison = comparison();
        let svg = svg(&comparison);
        assert_eq!(open_elements(&svg), Vec::<String>::new());
        assert!(svg.contains("etcd &lt;3&gt;"), "what comes from outside is escaped");
        let bars = svg.matches("<rect").count();
        assert_eq!(bars, 1 + 2 + DRAWN.len() * comparison.cells.len());
        assert!(!svg.contains("NaN") && !svg.contains("inf"));
    }

    #[test]
    fn nothing_measured_is_an_empty_picture() {
        let mut comparison = comparison();
        comparison.cells.clear();
        assert_eq!(open_elements(&svg(&comparison)), Vec::<String>::new());
    }

    #[test]
    fn every_drawn_figure_exists() {
        let known = |name: &&str| FIGURES.iter().any(|figure| figure.name == *name);
        assert!(DRAWN.iter().all(known));
    }
}
