//! `forebay topic`: create, list, write and read topics.

use std::io::{BufRead, BufReader, Read};
use std::path::PathBuf;

use forebay::api::client::Client;
use forebay::api::proto::consume_request::Start;
use forebay::api::proto::{
    ConsumeRequest, ConsumedRecord, CreateTopicRequest, DeleteTopicRequest, Header, ListTopicsRequest, ProduceRequest,
    Record, Topic,
};
use serde::Deserialize;
use serde_json::{Map, Value};
use tokio::sync::mpsc;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;

use super::exit::Failure;
use super::output::{Format, bytes, line, put_bytes, table};

const BATCH_RECORDS: usize = 2_000;
const BATCH_BYTES: usize = 1 << 20;

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
pub struct Produce {
    topic: String,
    /// Instead of stdin
    #[arg(long)]
    file: Option<PathBuf>,
    /// Splits each line into key and value at its first occurrence
    #[arg(long, conflicts_with = "records")]
    key_separator: Option<String>,
    /// Each line is a JSON object: {"key", "value", "timestamp_ms", "headers"}, as `consume -o json` prints it
    #[arg(long)]
    records: bool,
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
        Command::Produce(arguments) => produce(arguments, client, format).await,
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

async fn produce(arguments: Produce, mut client: Client, format: Format) -> Result<(), Failure> {
    let input: Box<dyn Read + Send> = match &arguments.file {
        Some(path) => {
            let file = std::fs::File::open(path);
            Box::new(file.map_err(|error| Failure::invalid(format!("read {}: {error}", path.display())))?)
        }
        None => Box::new(std::io::stdin()),
    };
    let (sender, receiver) = mpsc::channel(4);
    let reader = tokio::task::spawn_blocking(move || read_lines(BufReader::new(input), &arguments, &sender));
    let written = client.produce(ReceiverStream::new(receiver)).await;
    // A line that is wrong ends the stream early: that is the error to show.
    reader.await.map_err(|error| Failure::other(format!("read the input: {error}")))??;
    format.write(&written?, |written| format!("{} records", written.records))
}

fn read_lines(
    mut input: impl BufRead,
    arguments: &Produce,
    sender: &mpsc::Sender<ProduceRequest>,
) -> Result<(), Failure> {
    let (mut records, mut size, mut number) = (Vec::new(), 0, 0_u64);
    let mut text = Vec::new();
    loop {
        text.clear();
        let read =
            input.read_until(b'\n', &mut text).map_err(|error| Failure::other(format!("read the input: {error}")))?;
        if read > 0 {
            number += 1;
            let end = text.strip_suffix(b"\n").unwrap_or(&text);
            let end = end.strip_suffix(b"\r").unwrap_or(end);
            records.push(record(end, arguments).map_err(|why| Failure::invalid(format!("line {number}: {why}")))?);
            size += read;
        }
        let full = records.len() == BATCH_RECORDS || size >= BATCH_BYTES;
        if full || (read == 0 && !records.is_empty()) {
            let topic = arguments.topic.clone();
            let request = ProduceRequest { topic, partition: None, records: std::mem::take(&mut records) };
            size = 0;
            // The server has refused the stream; its answer says why.
            if sender.blocking_send(request).is_err() {
                return Ok(());
            }
        }
        if read == 0 {
            return Ok(());
        }
    }
}

/// A record as a line of JSON. Values that are no text are objects or numbers, kept as they are written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    #[serde(default)]
    key: Option<String>,
    #[serde(default)]
    value: Option<Value>,
    #[serde(default)]
    timestamp_ms: Option<i64>,
    #[serde(default)]
    headers: Map<String, Value>,
    /// Printed by `consume`, and of no use here.
    #[serde(default, rename = "partition")]
    _partition: Option<i32>,
    #[serde(default, rename = "offset")]
    _offset: Option<i64>,
}

fn record(text: &[u8], arguments: &Produce) -> Result<Record, String> {
    if arguments.records {
        let line: Line = serde_json::from_slice(text).map_err(|error| error.to_string())?;
        let plain = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned).into_bytes();
        let headers = line
            .headers
            .iter()
            .map(|(name, value)| Header { name: name.clone(), value: (!value.is_null()).then(|| plain(value)) });
        return Ok(Record {
            key: line.key.map(|key| key.into_bytes().into()),
            value: line.value.as_ref().map(|value| plain(value).into()),
            timestamp_ms: line.timestamp_ms,
            headers: headers.collect(),
        });
    }
    let Some(separator) = &arguments.key_separator else {
        return Ok(Record { value: Some(text.to_vec().into()), ..Record::default() });
    };
    let at = text.windows(separator.len().max(1)).position(|window| window == separator.as_bytes());
    let at = at.ok_or_else(|| format!("the separator {separator:?} is not in it"))?;
    let (key, value) = (&text[..at], &text[at + separator.len()..]);
    Ok(Record { key: Some(key.to_vec().into()), value: Some(value.to_vec().into()), ..Record::default() })
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
            line(&show(batch.partition, record, format))?;
        }
    }
    Ok(())
}

fn show(partition: i32, record: &ConsumedRecord, format: Format) -> String {
    let text = |value: &Option<prost::bytes::Bytes>| value.as_deref().map_or("-".to_owned(), bytes);
    if format == Format::Table {
        return format!("{partition}@{}\t{}\t{}", record.offset, text(&record.key), text(&record.value));
    }
    let mut object = Map::new();
    object.insert("partition".to_owned(), partition.into());
    object.insert("offset".to_owned(), record.offset.into());
    object.insert("timestamp_ms".to_owned(), record.timestamp_ms.into());
    put_bytes(&mut object, "key", record.key.as_deref());
    put_bytes(&mut object, "value", record.value.as_deref());
    let mut headers = Map::new();
    record.headers.iter().for_each(|header| put_bytes(&mut headers, &header.name, header.value.as_deref()));
    object.insert("headers".to_owned(), headers.into());
    Value::from(object).to_string()
}
