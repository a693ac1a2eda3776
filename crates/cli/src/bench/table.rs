//! A measurement as a table in Markdown, for `docs/benchmarks.md`.

/// Where there is nothing to say.
pub(crate) const NOTHING: &str = "–";

/// The lines of a table of names and values.
pub(crate) fn markdown(rows: &[(&str, String)]) -> Vec<String> {
    let width = rows.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
    let mut lines = vec![format!("| {:width$} | value |", "measured"), format!("| {:-<width$} | --- |", "")];
    lines.extend(rows.iter().map(|(name, value)| format!("| {name:width$} | {value} |")));
    lines
}
