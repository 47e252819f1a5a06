//! A module as an operator runs it: which code, under which parameters.
//!
//! A secret is looked up when an instance is opened, and nowhere else: what is planned, stored and shown says where it
//! stands.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::model::Digest;
use crate::wasm::contract::{Context, Description, Guest, GuestError, GuestFactory};

/// A secret is a password or a token: a larger file is something else.
const SECRET_BYTES_MAX: usize = 64 << 10;

/// A module with the parameters it runs under.
#[derive(Clone)]
pub struct ModuleRef {
    pub name: String,
    pub version: String,
    pub digest: Digest,
    pub factory: Arc<dyn GuestFactory>,
    /// Declared parameters with presets filled in, in declared order.
    pub parameters: Vec<(String, Parameter)>,
}

/// What a module is given under a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Parameter {
    Text(String),
    Secret(Secret),
}

/// Where a secret stands; never what it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Secret {
    /// A variable of the server's environment.
    Env(String),
    /// A file on the server's machine, without the end of its last line.
    File(PathBuf),
}

impl Secret {
    /// # Errors
    /// What could not be read, and what to do.
    pub fn read(&self) -> Result<String, String> {
        match self {
            Self::Env(name) => std::env::var(name)
                .map_err(|_| format!("${name} is not set to text in the server's environment: set it, start it again")),
            Self::File(path) => {
                let failed = |why: &dyn fmt::Display| {
                    format!("read {} on the server's machine: {why}: put the secret there", path.display())
                };
                let text = std::fs::read_to_string(path).map_err(|error| failed(&error))?;
                if text.len() > SECRET_BYTES_MAX {
                    return Err(failed(&format!(
                        "it has {} bytes, at most {SECRET_BYTES_MAX} are allowed",
                        text.len()
                    )));
                }
                Ok(text.trim_end_matches(['\r', '\n']).to_owned())
            }
        }
    }
}

impl ModuleRef {
    pub fn description(&self) -> &Arc<Description> {
        self.factory.description()
    }

    /// A fresh, opened instance for the operator `operator_id` of `job`.
    pub fn instantiate(&self, job: &str, operator_id: &str, connected: &[u8]) -> Result<Box<dyn Guest>, GuestError> {
        let mut secrets = Vec::new();
        let mut parameters = Vec::with_capacity(self.parameters.len());
        for (name, parameter) in &self.parameters {
            let value = match parameter {
                Parameter::Text(text) => text.clone(),
                Parameter::Secret(secret) => {
                    let value = secret.read().map_err(|why| GuestError::Secret(format!("{name}: {why}")))?;
                    secrets.push(value.clone());
                    value
                }
            };
            parameters.push((name.clone(), value));
        }
        let context = Context {
            job: job.to_owned(),
            operator_id: operator_id.to_owned(),
            parameters,
            connected_outputs: connected.to_owned(),
        };
        self.factory.instantiate(&context).map_err(|error| without(&secrets, error))
    }
}

/// A module that does not like its parameters may repeat them.
fn without(secrets: &[String], error: GuestError) -> GuestError {
    let GuestError::Open(message) = error else { return error };
    let shown = secrets.iter().filter(|secret| !secret.is_empty());
    GuestError::Open(shown.fold(message, |message, secret| message.replace(secret.as_str(), "***")))
}

impl fmt::Display for ModuleRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{} ({})", self.name, self.version, self.digest.short())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Refuses to open, with all its parameters in the message.
    struct Talkative(Arc<Description>);

    impl GuestFactory for Talkative {
        fn description(&self) -> &Arc<Description> {
            &self.0
        }

        fn instantiate(&self, context: &Context) -> Result<Box<dyn Guest>, GuestError> {
            Err(GuestError::Open(format!("{:?}", context.parameters)))
        }
    }

    fn opened(secret: Secret) -> GuestError {
        let parameters = vec![
            ("venue".to_owned(), Parameter::Text("bitstamp".to_owned())),
            ("token".to_owned(), Parameter::Secret(secret)),
        ];
        let factory = Arc::new(Talkative(Arc::default()));
        let module = ModuleRef { name: "m".into(), version: "1".into(), digest: Digest([0; 32]), factory, parameters };
        module.instantiate("job", "op", &[]).map(drop).unwrap_err()
    }

    #[test]
    fn a_secret_reaches_the_module_and_is_in_no_message() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("token");
        std::fs::write(&file, "hunter2\n").unwrap();
        let error = opened(Secret::File(file.clone()));
        assert_eq!(error, GuestError::Open(r#"[("venue", "bitstamp"), ("token", "***")]"#.to_owned()));
        std::fs::write(&file, "another").unwrap();
        assert_eq!(opened(Secret::File(file)), error, "it is read anew for every instance, and as little shown");
    }

    #[test]
    fn a_secret_that_is_not_there_is_the_hosts_trouble_and_may_pass() {
        for secret in [Secret::Env("FOREBAY_NOT_SET_ANYWHERE".into()), Secret::File("/nowhere/at/all".into())] {
            let error = opened(secret);
            assert_eq!(error.kind(), crate::error::Kind::Retry);
            assert!(error.to_string().starts_with("cannot be given its parameter token: "), "{error}");
        }
    }
}
