//! Tables for people, with the conditions under which they were measured.

use comfy_table::{CellAlignment, ContentArrangement, Table, presets};

/// Prints `rows` under `header`; all columns but the first are numbers.
pub fn print(title: &str, header: &[&str], rows: Vec<Vec<String>>) {
    let mut table = Table::new();
    table.load_style(presets::ASCII_MARKDOWN).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(header).add_rows(rows);
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    println!("\n{title}\n\n{table}");
}

/// Says on what the figures were measured, and what else ran beside it.
pub fn print_conditions(what: &str) {
    let cpu = field("/proc/cpuinfo", "model name").unwrap_or_else(|| "unknown CPU".into());
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load = load.split(' ').take(2).collect::<Vec<_>>().join(", ");
    let profile = if cfg!(debug_assertions) { "DEBUG BUILD: the figures mean nothing" } else { "release build" };
    println!("\nConditions: {what}; {cores} cores ({cpu}), load over 1 and 5 minutes at the end {load}; {profile}.");
}

fn field(file: &str, name: &str) -> Option<String> {
    let text = std::fs::read_to_string(file).ok()?;
    let line = text.lines().find(|line| line.starts_with(name))?;
    line.split_once(':').map(|(_, value)| value.trim().to_owned())
}
