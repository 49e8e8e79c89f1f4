//! What was aimed at and what was reached, as the last thing that is printed.

use crate::table::Table;

/// A target and the figure reached.
struct Line {
    what: String,
    wanted: String,
    reached: String,
    met: bool,
}

/// The targets of all scenarios that ran.
#[derive(Default)]
pub(crate) struct Summary(Vec<Line>);

impl Summary {
    /// A figure that should be at least so much.
    pub(crate) fn at_least(&mut self, what: impl Into<String>, wanted: f64, reached: f64, unit: &str) {
        self.add(what.into(), format!("at least {wanted}{unit}"), format!("{reached:.2}{unit}"), reached >= wanted);
    }

    /// A figure that should be at most so much.
    pub(crate) fn at_most(&mut self, what: impl Into<String>, wanted: f64, reached: f64, unit: &str) {
        self.add(what.into(), format!("at most {wanted:.4}{unit}"), format!("{reached:.2}{unit}"), reached <= wanted);
    }

    fn add(&mut self, what: String, wanted: String, reached: String, met: bool) {
        self.0.push(Line { what, wanted, reached, met });
    }

    /// Prints all of it.
    pub(crate) fn print(&self) {
        if self.0.is_empty() {
            return;
        }
        let width = |text: fn(&Line) -> &String| self.0.iter().map(|line| text(line).len()).max().unwrap_or(0);
        let columns = [
            ("target", width(|line| &line.what)),
            ("wanted", width(|line| &line.wanted)),
            ("reached", width(|line| &line.reached)),
            ("", 6),
        ];
        let table = Table::new(&columns);
        for Line { what, wanted, reached, met } in &self.0 {
            let met = if *met { "" } else { "missed" };
            table.row([what.clone(), wanted.clone(), reached.clone(), met.to_owned()]);
        }
    }
}
