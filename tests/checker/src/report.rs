//! What was found, for people.

use std::fmt::Write;

use crate::produce::Sent;
use crate::verify::Report;

/// A few lines: what was compared, then every kind of finding with its first coordinates.
pub fn verified(report: &Report) -> String {
    let mut text = String::new();
    let verdict = &report.verdict;
    let told = writeln!(
        text,
        "input {} records of {} keys; output {} committed ({} of them ticks) and {} aborted; {} dead letters; {} timers open",
        verdict.inputs,
        verdict.keys,
        verdict.outputs,
        verdict.ticks,
        report.aborted,
        verdict.dead_letters,
        verdict.timers_open
    );
    let mut told = told.is_ok();
    if let Some(agreed) = report.third_opinion {
        told &= writeln!(text, "the console consumer reads {agreed} records").is_ok();
    }
    for (kind, findings) in &verdict.findings {
        told &= writeln!(text, "{kind}: {}", findings.count).is_ok();
        for line in &findings.told {
            told &= writeln!(text, "  {line}").is_ok();
        }
        if findings.count > findings.told.len() as u64 {
            text.push_str("  …\n");
        }
    }
    debug_assert!(told, "writing to a string cannot fail");
    text.push_str(if report.is_good { "good: nothing lost, nothing twice, nothing different" } else { "NOT good" });
    text
}

pub fn sent(sent: &Sent) -> String {
    format!(
        "producer {}: {} records ({} malformed) acknowledged and read back, {} of them sent again; {} records/s",
        sent.producer, sent.records, sent.malformed, sent.resent, sent.records_per_second
    )
}
