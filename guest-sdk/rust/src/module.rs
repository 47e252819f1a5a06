//! What a module says of itself: declarations, and the handles that stand for them in the code.
//!
//! A handle is a position in declared order, so it is small, `Copy`, and cannot be misspelt.

use std::fmt;
use std::marker::PhantomData;
use std::str::FromStr;

use crate::state::{Encoding, State};
use crate::value::Value;
use crate::{Refuse, Transform};

/// One of the declared inputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Input(pub(crate) u8);

/// One of the declared outputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Output(pub(crate) u8);

/// One of the declared event-time timers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timer(pub(crate) u8);

/// One of the declared metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Metric(pub(crate) u8);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetricKind {
    Counter,
    Gauge,
    Histogram,
}

/// A declared parameter of the job spec.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parameter {
    pub name: String,
    pub about: String,
    pub required: bool,
    pub preset: Option<String>,
    pub secret: bool,
}

impl Parameter {
    pub fn new(name: &str, about: &str) -> Self {
        Self { name: name.into(), about: about.into(), required: false, preset: None, secret: false }
    }

    /// The job spec must give it.
    pub fn required(mut self) -> Self {
        self.required = true;
        self
    }

    /// Its value where the job spec does not give it.
    pub fn preset(mut self, value: impl fmt::Display) -> Self {
        self.preset = Some(value.to_string());
        self
    }

    /// Never shown in plans, logs and answers.
    pub fn secret(mut self) -> Self {
        self.secret = true;
        self
    }
}

/// `module-description` of the contract.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Description {
    pub name: String,
    pub version: String,
    pub about: String,
    pub sdk: String,
    pub keyed: bool,
    pub inputs: Vec<String>,
    pub outputs: Vec<String>,
    pub states: Vec<StateDecl>,
    pub timers: Vec<String>,
    pub parameters: Vec<Parameter>,
    pub metrics: Vec<MetricDecl>,
    pub refusal_codes: Vec<String>,
    pub needs: Needs,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateDecl {
    pub name: String,
    pub version: u32,
    pub reads: Vec<u32>,
    pub reverts_to: Vec<u32>,
    pub encoding: Encoding,
    pub fingerprint: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MetricDecl {
    pub name: String,
    pub kind: MetricKind,
    pub unit: String,
    pub about: String,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Needs {
    pub headers: bool,
    pub coordinates: bool,
    pub seeds: bool,
    pub processing_time: bool,
}

/// Takes a transform's declarations.
#[derive(Debug)]
pub struct Module {
    description: Description,
}

impl Module {
    /// Lets a transform declare itself; an input that it left out is called `input`.
    pub(crate) fn define<T: Transform>() -> (T, Description) {
        let mut module = Self {
            description: Description {
                name: T::NAME.into(),
                version: T::VERSION.into(),
                about: T::ABOUT.into(),
                sdk: concat!("forebay-sdk/", env!("CARGO_PKG_VERSION")).into(),
                refusal_codes: [Refuse::BAD_PAYLOAD, Refuse::BAD_OUTPUT, Refuse::NO_KEY].map(String::from).into(),
                ..Description::default()
            },
        };
        let transform = T::define(&mut module);
        if module.description.inputs.is_empty() {
            module.input("input");
        }
        let keyed = !module.description.states.is_empty() || !module.description.timers.is_empty();
        module.description.keyed |= keyed;
        (transform, module.description)
    }

    pub fn input(&mut self, name: &str) -> Input {
        Input(add(&mut self.description.inputs, name.into()))
    }

    pub fn output(&mut self, name: &str) -> Output {
        Output(add(&mut self.description.outputs, name.into()))
    }

    /// A value per key. Its name is part of where the bytes lie: renaming it makes a new, empty state.
    pub fn state<T: State>(&mut self, name: &'static str) -> Value<T> {
        let index = add(&mut self.description.states, crate::state::declare::<T>(name));
        Value::new(index, name, PhantomData)
    }

    /// A timer in event time.
    pub fn timer(&mut self, name: &str) -> Timer {
        Timer(add(&mut self.description.timers, name.into()))
    }

    pub fn parameter(&mut self, parameter: Parameter) -> &mut Self {
        self.description.parameters.push(parameter);
        self
    }

    pub fn metric(&mut self, name: &str, kind: MetricKind, unit: &str, about: &str) -> Metric {
        let metric = MetricDecl { name: name.into(), kind, unit: unit.into(), about: about.into() };
        Metric(add(&mut self.description.metrics, metric))
    }

    /// Codes that the transform's own refusals use.
    pub fn refusals(&mut self, codes: &[&str]) -> &mut Self {
        self.description.refusal_codes.extend(codes.iter().map(|&code| code.into()));
        self
    }

    /// The job spec must key the operator, though it has neither state nor timers.
    pub fn keyed(&mut self) -> &mut Self {
        self.description.keyed = true;
        self
    }

    /// Asks for [`Record::headers`](crate::Record::headers).
    pub fn needs_headers(&mut self) -> &mut Self {
        self.description.needs.headers = true;
        self
    }

    /// Asks for [`Record::coordinates`](crate::Record::coordinates).
    pub fn needs_coordinates(&mut self) -> &mut Self {
        self.description.needs.coordinates = true;
        self
    }

    /// Asks for [`Record::seed`](crate::Record::seed).
    pub fn needs_seeds(&mut self) -> &mut Self {
        self.description.needs.seeds = true;
        self
    }

    /// Asks for [`Ctx::processing_time`](crate::Ctx::processing_time).
    pub fn needs_processing_time(&mut self) -> &mut Self {
        self.description.needs.processing_time = true;
        self
    }
}

/// Positions are bytes in the contract, and 255 of a kind are more than anyone declares.
fn add<D>(declared: &mut Vec<D>, declaration: D) -> u8 {
    declared.push(declaration);
    u8::try_from(declared.len() - 1)
        .unwrap_or_else(|_| crate::refuse::fault(format_args!("more than 256 declarations")))
}

/// Where an instance stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Context {
    pub job: String,
    pub operator_id: String,
    /// As declared, presets filled in.
    pub parameters: Vec<(String, String)>,
    pub connected_outputs: Vec<u8>,
}

/// Where the instance stands, and the parameters of its job.
#[derive(Clone, Copy, Debug)]
pub struct Parameters<'a> {
    pub(crate) context: &'a Context,
}

impl<'a> Parameters<'a> {
    pub fn job(&self) -> &'a str {
        &self.context.job
    }

    pub fn operator_id(&self) -> &'a str {
        &self.context.operator_id
    }

    /// Emitting to an output that is not connected is allowed and goes nowhere.
    pub fn is_connected(&self, output: Output) -> bool {
        self.context.connected_outputs.contains(&output.0)
    }

    pub fn get(&self, name: &str) -> Option<&'a str> {
        self.context.parameters.iter().find(|(given, _)| given == name).map(|(_, value)| value.as_str())
    }

    /// # Errors
    /// The parameter is missing or does not parse, said with its name and value.
    pub fn parse<T: FromStr<Err: fmt::Display>>(&self, name: &str) -> Result<T, String> {
        let value = self.get(name).ok_or_else(|| format!("parameter `{name}` is not given"))?;
        value.parse().map_err(|error| format!("parameter `{name}` = `{value}`: {error}"))
    }
}
