//! `forebay dlq`: records that a job could not process.

use forebay::api::client::Client;
use forebay::api::proto::{DeadLetter, ListDeadLettersRequest, ListDeadLettersResponse, ShowDeadLetterRequest};
use serde_json::{Map, Value};

use super::exit::Failure;
use super::output::{Format, bytes, put_bytes, table, text};
use super::records::headers_to_json;

#[derive(clap::Subcommand)]
pub enum Command {
    /// The newest dead letters of a job
    List {
        job: String,
        /// Of each partition
        #[arg(long, default_value_t = 20)]
        limit: u32,
        /// Only those with this code, like malformed-json
        #[arg(long)]
        code: Option<String>,
        /// Those of other jobs on the topic too: of earlier ones of this name, and of those that share it
        #[arg(long)]
        all: bool,
    },
    /// One dead letter with all that is known of it
    Show {
        job: String,
        /// As `list` prints it: partition@offset
        place: String,
    },
}

pub async fn run(command: Command, mut client: Client, format: Format) -> Result<(), Failure> {
    match command {
        Command::List { job, limit, code, all } => {
            let request = ListDeadLettersRequest { job, limit, code: code.unwrap_or_default(), all };
            let answer = client.dead_letters.list(request).await?.into_inner();
            if format == Format::Table {
                let others = match answer.of_others {
                    0 => String::new(),
                    others => format!("; {others} of other jobs are left out, --all shows them"),
                };
                eprintln!("{}{others}", counted(&answer));
            }
            let letters: Vec<Value> = answer.dead_letters.iter().map(to_json).collect();
            format.write(&letters, |_| summary(&answer.dead_letters))
        }
        Command::Show { job, place } => {
            let (partition, offset) = parse_place(&place)?;
            let request = ShowDeadLetterRequest { job, partition, offset };
            let letter = client.dead_letters.show(request).await?.into_inner().dead_letter.unwrap_or_default();
            format.write(&to_json(&letter), |_| describe(&letter))
        }
    }
}

/// How many there are, and how many of them are shown.
fn counted(answer: &ListDeadLettersResponse) -> String {
    let (shown, matching, total) = (answer.dead_letters.len() as u64, answer.matching, answer.total);
    let of_code = if matching < total { format!(", {matching} with this code") } else { String::new() };
    let newest = if shown < matching { format!("; the newest {shown} are shown (--limit)") } else { String::new() };
    format!("{total} dead letters{of_code}{newest}")
}

fn parse_place(text: &str) -> Result<(i32, i64), Failure> {
    let parsed = text.split_once('@').and_then(|(p, o)| Some((p.parse().ok()?, o.parse().ok()?)));
    parsed.ok_or_else(|| Failure::invalid(format!("`{text}` is no place: write partition@offset, like 0@17")))
}

fn source(letter: &DeadLetter) -> String {
    format!("{}/{}@{}", letter.source_topic, letter.source_partition, letter.source_offset)
}

fn summary(letters: &[DeadLetter]) -> String {
    let rows = letters.iter().map(|letter| {
        let place = format!("{}@{}", letter.partition, letter.offset);
        let key = bytes(letter.key.as_deref());
        [place, letter.code.clone(), letter.operator.clone(), source(letter), key, letter.reason.clone()]
    });
    table(["place", "code", "operator", "source", "key", "reason"], rows)
}

fn describe(letter: &DeadLetter) -> String {
    let mut lines: Vec<String> = letter
        .headers
        .iter()
        .map(|header| format!("{:22} {}", text(&header.name), bytes(header.value.as_deref())))
        .collect();
    lines.push(format!("{:22} {}", "key", bytes(letter.key.as_deref())));
    lines.push(format!("{:22} {}", "value", bytes(letter.value.as_deref())));
    lines.join("\n")
}

fn to_json(letter: &DeadLetter) -> Value {
    let mut object = Map::new();
    object.insert("partition".to_owned(), letter.partition.into());
    object.insert("offset".to_owned(), letter.offset.into());
    object.insert("timestamp_ms".to_owned(), letter.timestamp_ms.into());
    for (name, text) in [
        ("code", &letter.code),
        ("reason", &letter.reason),
        ("operator", &letter.operator),
        ("input", &letter.input),
        ("source_topic", &letter.source_topic),
        ("module_digest", &letter.module_digest),
        ("job_uid", &letter.job_uid),
    ] {
        object.insert(name.to_owned(), text.clone().into());
    }
    object.insert("source_partition".to_owned(), letter.source_partition.into());
    object.insert("source_offset".to_owned(), letter.source_offset.into());
    put_bytes(&mut object, "key", letter.key.as_deref());
    if !letter.headers.is_empty() {
        put_bytes(&mut object, "value", letter.value.as_deref());
        object.insert("headers".to_owned(), headers_to_json(&letter.headers));
    }
    object.into()
}
