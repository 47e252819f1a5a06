//! `forebay topic`: create, list, write and read topics.

use forebay::api::client::Client;
use forebay::api::proto::consume_request::Start;
use forebay::api::proto::{
    ConsumeRequest, ConsumedRecord, CreateTopicRequest, DeleteTopicRequest, ListTopicsRequest, Topic,
};
use serde_json::{Map, Value};
use tokio_stream::StreamExt;

use super::exit::Failure;
use super::output::{self, Format, bytes, line, put_bytes, table};
use super::produce::{self, Produce};
use super::records::headers_to_json;

#[derive(clap::Subcommand)]
pub enum Command {
    Create {
        topic: String,
        #[arg(long, default_value_t = 4)]
        partitions: u32,
        /// Keep only the newest record of each key
        #[arg(long)]
        compact: bool,
        /// The largest record that the topic takes
        #[arg(long, default_value_t = 1 << 20)]
        max_record_bytes: u32,
    },
    List {
        /// Show Forebay's own topics too
        #[arg(long)]
        internal: bool,
    },
    /// Delete a topic with all its records
    Delete {
        topic: String,
        /// Yes, really
        #[arg(long)]
        yes: bool,
    },
    /// Write lines from a file or stdin as records
    Produce(Produce),
    /// Print records
    Consume(Consume),
}

#[derive(clap::Args)]
pub struct Consume {
    topic: String,
    #[arg(long)]
    partition: Vec<i32>,
    /// earliest, latest, or an offset
    #[arg(long, default_value = "earliest")]
    from: String,
    /// Stop after so many records
    #[arg(long)]
    max: Option<u64>,
    /// Wait for more at the end
    #[arg(long)]
    follow: bool,
}

pub async fn run(command: Command, mut client: Client, format: Format) -> Result<(), Failure> {
    match command {
        Command::Create { topic, partitions, compact, max_record_bytes } => {
            let request = CreateTopicRequest { name: topic, partitions, compact, max_record_bytes };
            let topic = client.topics.create(request).await?.into_inner().topic.unwrap_or_default();
            format.write(&topic, |topic| format!("topic {} with {} partitions", topic.name, topic.partitions.len()))
        }
        Command::List { internal } => {
            let topics = client.topics.list(ListTopicsRequest { internal }).await?.into_inner().topics;
            format.write(&topics[..], summary)
        }
        Command::Delete { topic, yes } => {
            if !yes {
                return Err(Failure::invalid(format!("this deletes topic {topic} with all its records: add --yes")));
            }
            client.topics.delete(DeleteTopicRequest { name: topic.clone() }).await?;
            format.write(&topic, |topic| format!("topic {topic} is deleted"))
        }
        Command::Produce(arguments) => produce::run(arguments, client, format).await,
        Command::Consume(arguments) => consume(arguments, client, format).await,
    }
}

fn summary(topics: &[Topic]) -> String {
    let rows = topics.iter().map(|topic| {
        let records: i64 = topic.partitions.iter().map(|p| p.end_offset - p.start_offset).sum();
        let cleanup = if topic.compact { "compact" } else { "delete" };
        [
            topic.name.clone(),
            topic.partitions.len().to_string(),
            cleanup.to_owned(),
            records.to_string(),
            topic.id.clone(),
        ]
    });
    table(["name", "partitions", "cleanup", "offsets", "id"], rows)
}

async fn consume(arguments: Consume, mut client: Client, format: Format) -> Result<(), Failure> {
    let start = match arguments.from.as_str() {
        "earliest" => Start::Earliest(true),
        "latest" => Start::Latest(true),
        offset => Start::Offset(
            offset
                .parse()
                .map_err(|_| Failure::invalid(format!("--from `{offset}`: write earliest, latest or an offset")))?,
        ),
    };
    let request = ConsumeRequest {
        topic: arguments.topic,
        partitions: arguments.partition,
        start: Some(start),
        max_records: arguments.max.unwrap_or(0),
        follow: arguments.follow,
    };
    let mut batches = client.topics.consume(request).await?.into_inner();
    while let Some(batch) = batches.next().await {
        let batch = batch?;
        for record in &batch.records {
            match format {
                Format::Table => line(&show(batch.partition, record))?,
                Format::Json => output::json(&to_json(batch.partition, record).to_string())?,
            }
        }
    }
    Ok(())
}

/// Columns with a tab between them: there is none inside.
fn show(partition: i32, record: &ConsumedRecord) -> String {
    let (key, value) = (bytes(record.key.as_deref()), bytes(record.value.as_deref()));
    format!("{partition}@{}\t{key}\t{value}", record.offset)
}

fn to_json(partition: i32, record: &ConsumedRecord) -> Value {
    let mut object = Map::new();
    object.insert("partition".to_owned(), partition.into());
    object.insert("offset".to_owned(), record.offset.into());
    object.insert("timestamp_ms".to_owned(), record.timestamp_ms.into());
    put_bytes(&mut object, "key", record.key.as_deref());
    put_bytes(&mut object, "value", record.value.as_deref());
    object.insert("headers".to_owned(), headers_to_json(&record.headers));
    object.into()
}

#[cfg(test)]
mod tests {
    use forebay::api::proto::Header;

    use super::*;

    fn record(key: &str, headers: &[(&str, &str)]) -> ConsumedRecord {
        let header = |(name, value): &(&str, &str)| Header { name: (*name).into(), value: Some((*value).into()) };
        let headers = headers.iter().map(header).collect();
        ConsumedRecord { key: Some(key.to_owned().into()), headers, ..ConsumedRecord::default() }
    }

    #[test]
    fn a_record_is_one_line_with_two_tabs_whatever_is_in_it() {
        let shown = show(0, &record("k\n0@1\tfake\u{1b}[2J", &[]));
        assert_eq!(shown, "0@0\tk\\n0@1\\tfake\\u{1b}[2J\t-");
    }

    #[test]
    fn equal_headers_are_all_shown_in_their_order() {
        let shown = to_json(0, &record("k", &[("a", "1"), ("b", "2"), ("a", "3")]));
        let values: Vec<_> = shown["headers"].as_array().unwrap().iter().map(|header| &header["value"]).collect();
        assert_eq!(values, ["1", "2", "3"]);
    }
}
