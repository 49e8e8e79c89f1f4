//! Figures over several rounds, and tables of them that are also Markdown.

/// The value below which this part of the values lies; zero if there are none.
pub(crate) fn percentile(values: &[f64], part: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let at = ((sorted.len() as f64 * part) as usize).min(sorted.len().saturating_sub(1));
    sorted.get(at).copied().unwrap_or_default()
}

/// The middle one, or the mean of the middle two.
pub(crate) fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut sorted: Vec<f64> = values.into_iter().collect();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => 0.0,
        odd if odd % 2 == 1 => sorted[odd / 2],
        even => f64::midpoint(sorted[even / 2 - 1], sorted[even / 2]),
    }
}

/// The median, and the lowest and highest beside it: `0.52 (0.48-0.55)`.
pub(crate) fn spread(values: &[f64]) -> String {
    let lowest = values.iter().copied().fold(f64::INFINITY, f64::min);
    let highest = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    format!("{:.2} ({lowest:.2}-{highest:.2})", median(values.iter().copied()))
}

/// A table whose rows are printed as they come.
pub(crate) struct Table {
    widths: Vec<usize>,
}

impl Table {
    /// Prints the head. A column is as wide as its title, or as is said beside it.
    pub(crate) fn new(columns: &[(&str, usize)]) -> Self {
        let widths: Vec<usize> = columns.iter().map(|(title, width)| title.len().max(*width)).collect();
        let table = Self { widths };
        println!();
        table.row(columns.iter().map(|(title, _)| (*title).to_owned()));
        let dashes: Vec<String> = table.widths.iter().map(|width| "-".repeat(*width)).collect();
        println!("| {} |", dashes.join(" | "));
        table
    }

    /// Prints a row.
    pub(crate) fn row(&self, cells: impl IntoIterator<Item = String>) {
        let cells: Vec<String> =
            cells.into_iter().zip(&self.widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        println!("| {} |", cells.join(" | "));
    }
}
