//! `forebay doctor`: what is wrong now, and what to do about it.
//!
//! Looks twice, since an open transaction is nothing wrong: only one that does not end is.

use std::time::Duration;

use forebay::api::client::Client;
use forebay::api::proto::{JobState, ListJobsRequest, ListTopicsRequest, Topic};
use serde::Serialize;

use super::exit::Failure;
use super::output::{Format, table};

#[derive(clap::Args)]
pub struct Arguments {
    /// Time between the two looks, seconds; longer than any epoch should take.
    #[arg(long, default_value_t = 3, value_name = "SECONDS")]
    wait: u64,
}

/// One thing that is wrong.
#[derive(Serialize)]
struct Finding {
    what: String,
    found: String,
    remedy: &'static str,
}

pub async fn run(arguments: &Arguments, mut client: Client, format: Format) -> Result<(), Failure> {
    let mut findings = jobs(&mut client).await?;
    let before = topics(&mut client).await?;
    tokio::time::sleep(Duration::from_secs(arguments.wait)).await;
    let after = topics(&mut client).await?;
    findings.extend(held_back(&before, &after, arguments.wait));
    format.write(&findings[..], summary)?;
    match findings.len() {
        0 => Ok(()),
        count => Err(Failure::other(format!("{count} findings"))),
    }
}

async fn jobs(client: &mut Client) -> Result<Vec<Finding>, Failure> {
    let jobs = client.jobs.list(ListJobsRequest {}).await?.into_inner().jobs;
    let failed = jobs.into_iter().filter(|job| job.state == JobState::Failed as i32);
    Ok(failed
        .map(|job| {
            let of_tasks = job.tasks.into_iter().map(|task| task.error);
            let errors = std::iter::once(job.error).chain(of_tasks).filter(|error| !error.is_empty());
            Finding {
                what: format!("job {}", job.name),
                found: errors.collect::<Vec<_>>().join("; "),
                remedy: "mend what it says, then apply the job again",
            }
        })
        .collect())
}

async fn topics(client: &mut Client) -> Result<Vec<Topic>, Failure> {
    Ok(client.topics.list(ListTopicsRequest { internal: true }).await?.into_inner().topics)
}

/// Partitions whose stable end has stood still before the same open transaction.
fn held_back(before: &[Topic], after: &[Topic], waited: u64) -> Vec<Finding> {
    let mut findings = Vec::new();
    for topic in after {
        let Some(earlier) = before.iter().find(|earlier| earlier.id == topic.id) else { continue };
        for (now, then) in topic.partitions.iter().zip(&earlier.partitions) {
            let open = now.end_offset < now.written_offset && then.end_offset < then.written_offset;
            if open && now.end_offset == then.end_offset {
                let held = now.written_offset - now.end_offset;
                findings.push(Finding {
                    what: format!("{}/{}", topic.name, now.partition),
                    found: format!("a transaction open since offset {} holds back {held} offsets for {waited} s", now.end_offset),
                    remedy: "the cluster ends it at its timeout; past that, kafka-transactions.sh find-hanging and abort",
                });
            }
        }
    }
    findings
}

fn summary(findings: &[Finding]) -> String {
    if findings.is_empty() {
        return "nothing wrong found".to_owned();
    }
    let rows = findings.iter().map(|f| [f.what.clone(), f.found.clone(), f.remedy.to_owned()]);
    table(["what", "found", "what to do"], rows)
}

#[cfg(test)]
mod tests {
    use forebay::api::proto::Partition;

    use super::*;

    fn topic(end_offset: i64, written_offset: i64) -> Vec<Topic> {
        let partitions = vec![Partition { partition: 0, start_offset: 0, end_offset, written_offset }];
        vec![Topic { name: "t".into(), id: "1".into(), partitions, ..Topic::default() }]
    }

    #[test]
    fn only_a_transaction_that_does_not_end_is_found() {
        let found = |before: (i64, i64), after: (i64, i64)| {
            held_back(&topic(before.0, before.1), &topic(after.0, after.1), 3).len()
        };
        assert_eq!(found((5, 9), (5, 20)), 1);
        assert_eq!(found((5, 9), (12, 20)), 0, "another transaction is open by now");
        assert_eq!(found((9, 9), (9, 20)), 0, "it was opened in between");
        assert_eq!(found((9, 9), (9, 9)), 0);
    }
}
