//! What a guest may use up. Plain data; the defaults live here and nowhere else.

use std::time::Duration;

use super::Limits;

/// Part of a module's identity: the same call gives the same answer only under the same limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EngineSettings {
    /// CPU time of the calling thread that one call may use. Higher: slow batches live longer;
    /// lower: an endless loop holds its task up for less.
    pub call_cpu_max: Duration,
    /// All linear memories of one instance together.
    pub memory_bytes_max: usize,
    /// Elements of one table. Interpreters compiled to Wasm need some ten thousand.
    pub table_elements_max: usize,
    /// Native stack of a guest. The calling thread needs this and 256 KiB more.
    pub stack_bytes_max: usize,
    /// An upload. Python's components have 18 MiB.
    pub upload_bytes_max: usize,
    /// Calls of host functions (log, metrics) inside one call.
    pub host_calls_max: u32,
    /// Log lines of one module a second, over all its instances.
    pub log_lines_per_second: u32,
    /// What one answer may hold.
    pub answer: Limits,
}

impl Default for EngineSettings {
    fn default() -> Self {
        Self {
            call_cpu_max: Duration::from_millis(1_000),
            memory_bytes_max: 256 << 20,
            table_elements_max: 200_000,
            stack_bytes_max: 512 << 10,
            upload_bytes_max: 64 << 20,
            host_calls_max: 65_536,
            log_lines_per_second: 100,
            answer: Limits::default(),
        }
    }
}
