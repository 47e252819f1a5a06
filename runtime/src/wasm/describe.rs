//! What a module says of itself, believed only after it was validated.
//!
//! Turns `module-description` into [`Description`]. Refuses by name what the contract has as a draft,
//! and every name, count and version that later layers build keys, labels and topics from.

use std::collections::HashSet;

use super::bindings::description as wit;
use super::contract::{Description, MetricDecl, Needs, ParameterDecl, StateDecl, TimerDecl};
use super::error::Rejected;

const COUNT_MAX: usize = 64;
const NAME_BYTES_MAX: usize = 64;
const TEXT_BYTES_MAX: usize = 4_096;
const VERSIONS_MAX: usize = 64;
const ENCODINGS: [&str; 5] = ["json", "postcard", "protobuf", "msgpack", "opaque"];

pub(super) fn description(told: wit::ModuleDescription) -> Result<Description, Rejected> {
    let mut faults = Faults::default();
    faults.drafts(&told);
    faults.names(&told);
    for state in &told.states {
        faults.state(state);
    }
    for parameter in &told.parameters {
        faults.parameter(parameter);
    }
    faults.shape(&told);
    if faults.reasons.is_empty() { Ok(translate(told)) } else { Err(Rejected { reasons: faults.reasons }) }
}

#[derive(Default)]
struct Faults {
    reasons: Vec<String>,
}

impl Faults {
    fn add(&mut self, reason: String) {
        self.reasons.push(format!("describe: {reason}"));
    }

    fn draft(&mut self, what: String, instead: &str) {
        self.add(format!("{what}, which is a draft that this host does not run yet; {instead}"));
    }

    fn drafts(&mut self, told: &wit::ModuleDescription) {
        for input in told.inputs.iter().filter(|i| !i.fields.is_empty() || i.payload) {
            let what = format!("input {} asks for typed fields", quoted(&input.name));
            self.draft(what, "leave `fields` empty and `payload` false and decode the bytes in the module");
        }
        for output in told.outputs.iter().filter(|o| !o.fields.is_empty()) {
            let what = format!("output {} asks for typed fields", quoted(&output.name));
            self.draft(what, "leave `fields` empty and encode the bytes in the module");
        }
        told.states.iter().for_each(|state| self.state_drafts(state));
        for timer in told.timers.iter().filter(|t| matches!(t.domain, wit::Domain::ProcessingTime)) {
            self.draft(format!("timer {} runs on processing time", quoted(&timer.name)), "use event time");
        }
        for table in &told.tables {
            let what = format!("table {} is declared", quoted(&table.name));
            self.draft(what, "read the table's topic as an input and keep it in state");
        }
    }

    fn state_drafts(&mut self, state: &wit::StateDecl) {
        let name = quoted(&state.name);
        match state.kind {
            wit::StateKind::Value => {}
            wit::StateKind::ListOf => self.draft(format!("state {name} is a list"), "keep the list in a value"),
            wit::StateKind::MapOf => self.draft(format!("state {name} is a map"), "keep the map in a value"),
        }
        if state.ttl.is_some() {
            self.draft(format!("state {name} has a ttl"), "clear it by a timer");
        }
        if !state.travels {
            self.draft(format!("state {name} does not travel"), "set `travels`");
        }
    }

    fn names(&mut self, told: &wit::ModuleDescription) {
        self.name("module", &told.name);
        self.all_names("input", told.inputs.iter().map(|i| &i.name));
        self.all_names("output", told.outputs.iter().map(|o| &o.name));
        self.all_names("state", told.states.iter().map(|s| &s.name));
        self.all_names("timer", told.timers.iter().map(|t| &t.name));
        self.all_names("parameter", told.parameters.iter().map(|p| &p.name));
        self.all_names("metric", told.metrics.iter().map(|m| &m.name));
        self.all_names("refusal code", told.refusal_codes.iter());
        let version_is_fine = !told.version.is_empty()
            && told.version.len() <= NAME_BYTES_MAX
            && told.version.bytes().all(|b| b.is_ascii_alphanumeric() || b".-+_".contains(&b));
        if !version_is_fine {
            let found = quoted(&told.version);
            self.add(format!("version {found} is no version: use up to {NAME_BYTES_MAX} of 0-9 A-Z a-z . - + _"));
        }
        self.text("about", &told.about);
        self.text("sdk", &told.sdk);
        for metric in &told.metrics {
            self.text("metric unit", &metric.unit);
            self.text("metric about", &metric.about);
        }
    }

    fn all_names<'a>(&mut self, what: &str, names: impl ExactSizeIterator<Item = &'a String>) {
        if names.len() > COUNT_MAX {
            self.add(format!("there are {} of `{what}`, at most {COUNT_MAX} are allowed", names.len()));
            return;
        }
        let mut seen = HashSet::new();
        for name in names {
            self.name(what, name);
            if !seen.insert(name) {
                self.add(format!("{what} {} is declared twice", quoted(name)));
            }
        }
    }

    fn name(&mut self, what: &str, name: &str) {
        if !is_name(name) {
            let rule = format!("a letter, then letters, digits, `-`, `_` or `.`, at most {NAME_BYTES_MAX}");
            self.add(format!("{what} name {} is not allowed: use {rule}", quoted(name)));
        }
    }

    fn text(&mut self, what: &str, text: &str) {
        if text.len() > TEXT_BYTES_MAX {
            self.add(format!("`{what}` has {} bytes, at most {TEXT_BYTES_MAX} are allowed", text.len()));
        }
    }

    fn state(&mut self, state: &wit::StateDecl) {
        let name = quoted(&state.name);
        if state.version == 0 {
            self.add(format!("state {name} has version 0: versions count from 1"));
        }
        for (list, versions) in [("reads", &state.reads), ("reverts-to", &state.reverts_to)] {
            let distinct: HashSet<_> = versions.iter().collect();
            if distinct.len() != versions.len() || versions.len() > VERSIONS_MAX {
                let rule = format!("distinct, and at most {VERSIONS_MAX}");
                self.add(format!("state {name}: the versions in `{list}` must be {rule}"));
            }
            if distinct.contains(&0) || distinct.contains(&state.version) {
                self.add(format!("state {name}: `{list}` holds version 0 or its own version {}", state.version));
            }
        }
        if !ENCODINGS.contains(&state.encoding.as_str()) {
            let found = quoted(&state.encoding);
            self.add(format!("state {name}: encoding {found} is unknown: use one of {}", ENCODINGS.join(", ")));
        }
        self.text("fingerprint", &state.fingerprint);
    }

    fn parameter(&mut self, parameter: &wit::ParameterDecl) {
        self.text("parameter about", &parameter.about);
        self.text("parameter preset", parameter.preset.as_deref().unwrap_or_default());
        if parameter.required && parameter.preset.is_some() {
            self.add(format!("parameter {} is required and has a preset: choose one", quoted(&parameter.name)));
        }
    }

    fn shape(&mut self, told: &wit::ModuleDescription) {
        if told.inputs.is_empty() {
            self.add("there is no input: declare at least one".to_owned());
        }
        let keeps = !told.states.is_empty() || !told.timers.is_empty();
        if keeps && !told.keyed {
            self.add("states or timers are declared but `keyed` is false: both belong to keys, set it".to_owned());
        }
    }
}

/// A name that may become part of a state's place, a metric's label or a path.
fn is_name(name: &str) -> bool {
    name.len() <= NAME_BYTES_MAX
        && name.starts_with(|c: char| c.is_ascii_alphabetic())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
}

/// A guest's string in a message: escaped and short.
fn quoted(text: &str) -> String {
    let cut = text.floor_char_boundary(NAME_BYTES_MAX);
    format!("`{}`{}", text[..cut].escape_debug(), if cut < text.len() { "…" } else { "" })
}

fn translate(told: wit::ModuleDescription) -> Description {
    Description {
        name: told.name,
        version: told.version,
        about: told.about,
        sdk: told.sdk,
        keyed: told.keyed,
        inputs: told.inputs.into_iter().map(|i| i.name).collect(),
        outputs: told.outputs.into_iter().map(|o| o.name).collect(),
        states: told.states.into_iter().map(state).collect(),
        timers: told.timers.into_iter().map(|t| TimerDecl { name: t.name }).collect(),
        parameters: told.parameters.into_iter().map(parameter).collect(),
        metrics: told.metrics.into_iter().map(metric).collect(),
        refusal_codes: told.refusal_codes,
        needs: Needs {
            headers: told.needs.contains(wit::Needs::HEADERS),
            coordinates: told.needs.contains(wit::Needs::COORDINATES),
            seeds: told.needs.contains(wit::Needs::SEEDS),
            processing_time: told.needs.contains(wit::Needs::PROCESSING_TIME),
        },
        viewable: told.viewable,
    }
}

fn state(state: wit::StateDecl) -> StateDecl {
    StateDecl {
        name: state.name,
        version: state.version,
        reads: state.reads,
        reverts_to: state.reverts_to,
        encoding: state.encoding,
        fingerprint: state.fingerprint,
    }
}

fn parameter(parameter: wit::ParameterDecl) -> ParameterDecl {
    ParameterDecl {
        name: parameter.name,
        about: parameter.about,
        required: parameter.required,
        preset: parameter.preset,
        secret: parameter.secret,
    }
}

fn metric(metric: wit::MetricDecl) -> MetricDecl {
    let kind = match metric.kind {
        wit::MetricKind::Counter => "counter",
        wit::MetricKind::Gauge => "gauge",
        wit::MetricKind::Histogram => "histogram",
    };
    MetricDecl { name: metric.name, kind: kind.to_owned(), unit: metric.unit, about: metric.about }
}
