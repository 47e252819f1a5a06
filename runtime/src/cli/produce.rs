//! `forebay topic produce`: lines from a file or stdin as records, in their order.
//!
//! A load that ends early says which lines are in, so that the next one can go on behind them.

use std::io::{BufRead, BufReader, Read};
use std::path::PathBuf;

use forebay::api::client::{self, Client};
use forebay::api::proto::{ProduceRequest, ProduceResponse, Record};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::exit::{Exit, Failure};
use super::output::Format;
use super::records::{Line, Mark, byte_order_mark};

const BATCH_RECORDS: usize = 2_000;
const BATCH_BYTES: usize = 1 << 20;

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
    /// Leave out the lines before this one: what an earlier load has written already
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
    from_line: u64,
}

pub async fn run(arguments: Produce, mut client: Client, format: Format) -> Result<(), Failure> {
    if arguments.key_separator.as_deref() == Some("") {
        return Err(Failure::invalid("--key-separator is empty: give the text between key and value"));
    }
    let input: Box<dyn Read + Send> = match &arguments.file {
        Some(path) => {
            let file = std::fs::File::open(path);
            Box::new(file.map_err(|error| Failure::invalid(format!("read {}: {error}", path.display())))?)
        }
        None => Box::new(std::io::stdin()),
    };
    let from_line = arguments.from_line;
    let (sender, receiver) = mpsc::channel(4);
    let reader = tokio::task::spawn_blocking(move || read_lines(BufReader::new(input), &arguments, &sender));
    let written = client.produce(ReceiverStream::new(receiver)).await;
    let written = written.map_err(|error| broken_off(error, from_line))?;
    match reader.await.map_err(|error| Failure::other(format!("read the input: {error}")))? {
        Ok(()) => format.write(&written, |written| format!("{} records", written.records)),
        // Every line before this one was sent and is written.
        Err(wrong) => Err(wrong.after(from_line, &written)),
    }
}

/// A line that cannot be a record, or an input that cannot be read on.
#[derive(Debug, PartialEq, Eq)]
struct Wrong {
    line: u64,
    why: String,
}

impl Wrong {
    fn after(&self, from_line: u64, written: &ProduceResponse) -> Failure {
        let Self { line, why } = self;
        let in_already = lines_that_are_in(from_line, written.records);
        Failure::invalid(format!("line {line}: {why}\n{in_already}: correct it, and go on with `--from-line {line}`"))
    }
}

fn lines_that_are_in(from_line: u64, records: u64) -> String {
    match records {
        0 => "nothing was written".to_owned(),
        1 => format!("line {from_line} is written"),
        _ => format!("lines {from_line} to {} are written", from_line + records - 1),
    }
}

/// The server refused or failed: it says how many records of the stream are surely there.
fn broken_off(error: client::Error, from_line: u64) -> Failure {
    let before = error.records_written();
    let mut failure = Failure::from(error);
    match before {
        Some(records) => {
            let (in_already, next) = (lines_that_are_in(from_line, records), from_line + records);
            failure.message = match failure.exit {
                // The topic itself is the problem, not one of the lines.
                Exit::NotFound => failure.message,
                // The server refuses a record before it writes anything behind it.
                Exit::Invalid => {
                    let (found, go_on) = (&failure.message, format!("go on with `--from-line {next}`"));
                    format!("line {next}: {found}\n{in_already}: correct it, and {go_on}")
                }
                _ => format!(
                    "{}\n{in_already}, and of those behind perhaps some: `--from-line {next}` goes on, and may write \
                     these a second time",
                    failure.message
                ),
            };
        }
        None => failure.message.push_str(
            "\nhow many lines were written is not known: look with `forebay topic consume` before going on with \
             `--from-line`",
        ),
    }
    failure
}

/// Sends all lines up to the first one that is wrong.
fn read_lines(
    mut input: impl BufRead,
    arguments: &Produce,
    sender: &mpsc::Sender<ProduceRequest>,
) -> Result<(), Wrong> {
    let (mut records, mut size, mut number) = (Vec::new(), 0, 0_u64);
    let mut text = Vec::new();
    loop {
        text.clear();
        let read = input.read_until(b'\n', &mut text);
        number += 1;
        let wrong = |why: String| Wrong { line: number, why };
        let next = match read {
            Ok(0) => None,
            Ok(_) if number < arguments.from_line => continue,
            Ok(bytes) => {
                size += bytes;
                Some(content(&text, number == 1).and_then(|line| record(line, arguments)).map_err(wrong))
            }
            Err(error) => Some(Err(wrong(format!("read the input: {error}")))),
        };
        let goes_on = matches!(next, Some(Ok(_)));
        let end = match next {
            Some(Ok(record)) => {
                records.push(record);
                Ok(())
            }
            Some(Err(wrong)) => Err(wrong),
            None => Ok(()),
        };
        let full = records.len() == BATCH_RECORDS || size >= BATCH_BYTES;
        if full || (!goes_on && !records.is_empty()) {
            let topic = arguments.topic.clone();
            let request = ProduceRequest { topic, partition: None, records: std::mem::take(&mut records) };
            size = 0;
            // The server has refused the stream; its answer says why.
            if sender.blocking_send(request).is_err() {
                return Ok(());
            }
        }
        if !goes_on {
            return end;
        }
    }
}

/// A line without its end (LF or CRLF), and the first one without a mark that only says how the file is encoded.
fn content(text: &[u8], is_first: bool) -> Result<&[u8], String> {
    let line = text.strip_suffix(b"\n").unwrap_or(text);
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    match byte_order_mark(line).filter(|_| is_first) {
        None => Ok(line),
        Some(Mark::Utf8) => Ok(&line[3..]),
        Some(Mark::Utf16) => {
            Err("the input begins with a byte-order mark of UTF-16: convert it first, `iconv -t utf-8`".to_owned())
        }
    }
}

fn record(text: &[u8], arguments: &Produce) -> Result<Record, String> {
    if arguments.records {
        let line = Line::parse(text)?;
        return Ok(Record {
            key: line.key()?.map(Into::into),
            value: line.value()?.map(Into::into),
            timestamp_ms: line.timestamp_ms,
            headers: line.headers()?,
        });
    }
    let Some(separator) = &arguments.key_separator else {
        return Ok(Record { value: Some(text.to_vec().into()), ..Record::default() });
    };
    let at = text.windows(separator.len()).position(|window| window == separator.as_bytes());
    let at = at.ok_or_else(|| format!("the separator {separator:?} is not in it"))?;
    let (key, value) = (&text[..at], &text[at + separator.len()..]);
    Ok(Record { key: Some(key.to_vec().into()), value: Some(value.to_vec().into()), ..Record::default() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn produce(key_separator: Option<&str>, records: bool, from_line: u64) -> Produce {
        let key_separator = key_separator.map(str::to_owned);
        Produce { topic: "t".into(), file: None, key_separator, records, from_line }
    }

    /// The values that were sent, and what was wrong.
    fn sent(input: &[u8], arguments: &Produce) -> (Vec<String>, Result<(), Wrong>) {
        let (sender, mut receiver) = mpsc::channel(100);
        let read = read_lines(input, arguments, &sender);
        drop(sender);
        let mut values = Vec::new();
        while let Some(request) = receiver.blocking_recv() {
            let text = |record: Record| String::from_utf8(record.value.unwrap_or_default().to_vec()).unwrap();
            values.extend(request.records.into_iter().map(text));
        }
        (values, read)
    }

    #[test]
    fn what_stands_before_a_wrong_line_is_sent_and_the_line_is_named() {
        let arguments = produce(Some("="), false, 1);
        let (values, read) = sent(b"a=1\nb=2\nnone\nc=3\n", &arguments);
        assert_eq!(values, ["1", "2"]);
        let wrong = read.unwrap_err();
        let written = ProduceResponse { records: 2, ..ProduceResponse::default() };
        assert_eq!(
            wrong.after(1, &written).message,
            "line 3: the separator \"=\" is not in it\nlines 1 to 2 are written: correct it, and go on with `--from-line 3`"
        );
        let (values, read) = sent(b"a=1\nb=2\nn=0\nc=3\n", &produce(Some("="), false, 3));
        assert_eq!((values, read), (vec!["0".to_owned(), "3".to_owned()], Ok(())));
    }

    #[test]
    fn a_byte_order_mark_is_no_part_of_the_first_line() {
        let (values, _) = sent(b"\xef\xbb\xbfa\nb\xef\xbb\xbf\n", &produce(None, false, 1));
        assert_eq!(values, ["a", "b\u{feff}"]);
        let (values, read) = sent(b"\xef\xbb\xbf{\"value\":1}\r\n", &produce(None, true, 1));
        assert_eq!((values, read), (vec!["1".to_owned()], Ok(())));
        let (_, read) = sent(b"\xff\xfea\0\n\0", &produce(None, false, 1));
        assert!(read.unwrap_err().why.contains("UTF-16"));
    }

    #[test]
    fn the_last_line_needs_no_end_and_an_empty_input_is_nothing() {
        assert_eq!(sent(b"a\n\nb", &produce(None, false, 1)).0, ["a", "", "b"]);
        assert_eq!(sent(b"", &produce(None, false, 1)), (vec![], Ok(())));
        assert_eq!(sent(b"a\n", &produce(None, false, 9)), (vec![], Ok(())));
    }
}
