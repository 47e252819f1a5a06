//! `forebay doctor`: what is wrong now, and what to do about it.
//!
//! Looks twice: much is wrong only where it does not pass, an open transaction or a task that recovers. What the looks
//! mean is decided by [`verdict`], from facts alone.

mod verdict;

use std::time::Duration;

use forebay::api::client::Client;
use forebay::api::proto::{CheckRequest, ListJobsRequest, ListTopicsRequest};

use self::verdict::{Facts, Finding, Look};
use super::exit::Failure;
use super::output::{Format, table};

#[derive(clap::Args)]
pub struct Arguments {
    /// Time between the two looks, seconds; longer than any epoch should take.
    #[arg(long, default_value_t = 3, value_name = "SECONDS")]
    wait: u64,
}

pub async fn run(arguments: &Arguments, mut client: Client, format: Format) -> Result<(), Failure> {
    let before = look(&mut client).await?;
    tokio::time::sleep(Duration::from_secs(arguments.wait)).await;
    let after = look(&mut client).await?;
    let places = client.server.check(CheckRequest {}).await?.into_inner().places;
    let findings = verdict::judge(&Facts { before, after, places, waited_s: arguments.wait });
    format.write(&findings[..], summary)?;
    match findings.len() {
        0 => Ok(()),
        1 => Err(Failure::other("1 finding")),
        count => Err(Failure::other(format!("{count} findings"))),
    }
}

async fn look(client: &mut Client) -> Result<Look, Failure> {
    let jobs = client.jobs.list(ListJobsRequest {}).await?.into_inner();
    Ok(Look {
        jobs: jobs.jobs,
        at_ms: jobs.at_ms,
        topics: client.topics.list(ListTopicsRequest { internal: true }).await?.into_inner().topics,
    })
}

fn summary(findings: &[Finding]) -> String {
    if findings.is_empty() {
        return "nothing wrong found".to_owned();
    }
    table(["what", "found", "what to do"], findings.iter().map(|f| [f.what.clone(), f.found.clone(), f.remedy.clone()]))
}
