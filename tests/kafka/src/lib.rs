//! A real Apache Kafka on loopback, for tests, benchmarks and people.
//!
//! Owns where the jars come from (Maven, once, into the cache folder), which settings a broker of tests has, and
//! that no broker outlives the process that started it, however that ends.
//! Never uses a Kafka client of ours, nor any code of the runtime: it stands beside what is tested. What it asks a
//! broker it asks by hand (`probe`) or by Kafka's own tools.
//!
//! Most tests want [`Target::for_tests`], the cluster that all tests of a process share. Those that kill brokers
//! or need other settings want [`Cluster::for_tests`]; programs want [`Cluster::start`].

mod archive;
mod cluster;
mod config;
mod installation;
mod java;
mod place;
mod probe;
mod process;
mod security;
mod target;

pub use cluster::{Cluster, Options, Proxied};
pub use installation::{Installation, cache_dir, version};
pub use probe::{Metadata, Partition};
pub use security::{Credentials, Listener, Security};
pub use target::Target;
