//! One figure of one bar, and its verdict.

use serde::Serialize;

/// The verdict on a figure: its value against floor and goal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// As good as the goal, or better.
    Goal,
    /// As good as the floor, or better.
    Floor,
    /// Worse than the floor.
    Missed,
    /// There is no floor: the figure explains others.
    Told,
    /// It could not be measured.
    Failed,
}

impl Verdict {
    fn name(self) -> &'static str {
        match self {
            Verdict::Goal => "goal",
            Verdict::Floor => "floor",
            Verdict::Missed => "MISSED",
            Verdict::Told => "",
            Verdict::Failed => "FAILED",
        }
    }
}

/// A figure.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Row {
    /// The bar's name.
    pub bar: String,
    /// What was measured, with its unit.
    pub figure: String,
    /// None if it could not be measured.
    pub measured: Option<f64>,
    /// The value that the figure must reach.
    pub floor: Option<f64>,
    /// The value that the figure should reach.
    pub goal: Option<f64>,
    /// The verdict.
    pub verdict: Verdict,
    /// Further facts.
    pub note: String,
}

impl Row {
    /// A figure without a floor.
    pub fn told(bar: &str, figure: &str, measured: Option<f64>) -> Row {
        let verdict = if measured.is_some() { Verdict::Told } else { Verdict::Failed };
        let (bar, figure) = (bar.to_string(), figure.to_string());
        Row { bar, figure, measured, floor: None, goal: None, verdict, note: String::new() }
    }

    /// A bar that could not be measured.
    pub fn failed(bar: &str, reason: &str) -> Row {
        Row::told(bar, "-", None).note(reason)
    }

    /// The figure is to be at least `floor`, better `goal`.
    pub fn at_least(self, floor: f64, goal: f64) -> Row {
        self.judged(floor, goal, |measured, bound| measured >= bound)
    }

    /// The figure is to be at most `floor`, better `goal`.
    pub fn at_most(self, floor: f64, goal: f64) -> Row {
        self.judged(floor, goal, |measured, bound| measured <= bound)
    }

    /// Adds further facts.
    pub fn note(mut self, note: impl Into<String>) -> Row {
        self.note = note.into();
        self
    }

    fn judged(mut self, floor: f64, goal: f64, is_good: fn(f64, f64) -> bool) -> Row {
        (self.floor, self.goal) = (Some(floor), Some(goal));
        self.verdict = match self.measured {
            None => Verdict::Failed,
            Some(measured) if is_good(measured, goal) => Verdict::Goal,
            Some(measured) if is_good(measured, floor) => Verdict::Floor,
            Some(_) => Verdict::Missed,
        };
        self
    }

    /// Column names of [`Row::cells`].
    pub fn header() -> [&'static str; 7] {
        ["bar", "figure", "measured", "floor", "goal", "reaches", "note"]
    }

    /// The row of a table.
    pub fn cells(&self) -> Vec<String> {
        let number = |value: Option<f64>| value.map_or("-".into(), written);
        let (bar, figure) = (self.bar.clone(), self.figure.clone());
        let numbers = [number(self.measured), number(self.floor), number(self.goal)];
        let mut cells = vec![bar, figure];
        cells.extend(numbers);
        cells.extend([self.verdict.name().to_string(), self.note.clone()]);
        cells
    }
}

/// The figure with as many digits as are meaningful.
fn written(value: f64) -> String {
    let digits = match value.abs() {
        size if size >= 100.0 || size == size.trunc() => 0,
        size if size >= 10.0 => 1,
        size if size >= 0.1 => 2,
        _ => 4,
    };
    format!("{value:.digits$}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_figure_reaches_its_goal_its_floor_or_neither() {
        let most = |value| Row::told("b", "f", value).at_most(2.0, 1.0).verdict;
        assert_eq!(most(Some(1.0)), Verdict::Goal);
        assert_eq!(most(Some(2.0)), Verdict::Floor);
        assert_eq!(most(Some(2.1)), Verdict::Missed);
        assert_eq!(most(None), Verdict::Failed, "what is not known reaches nothing");
        let least = |value| Row::told("b", "f", Some(value)).at_least(0.7, 0.95).verdict;
        assert_eq!(least(0.95), Verdict::Goal);
        assert_eq!(least(0.7), Verdict::Floor);
        assert_eq!(least(0.69), Verdict::Missed);
    }

    #[test]
    fn a_row_has_a_cell_for_each_column() {
        let row = Row::told("b", "f", Some(1234.5)).at_most(2.0, 0.5).note("n");
        let cells = ["b", "f", "1234", "2", "0.50", "MISSED", "n"];
        assert_eq!(row.cells(), cells);
        assert_eq!(Row::header().len(), cells.len());
        assert_eq!(Row::failed("b", "why").cells()[5..], ["FAILED", "why"]);
    }
}
