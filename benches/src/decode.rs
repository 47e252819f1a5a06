//! Decoding alone: what it costs to know that a value is well-formed, and its key and event time.

use forebay::codec::{Decode, Decoded, EventTimeRule, FieldPath, KeyRule, SourceCodec, TimeUnit};
use forebay::model::PartitionBatch;

use crate::measure::{spread, timed};
use crate::{Outcome, Setup, enrichment, report};

#[derive(clap::Args)]
pub struct Options {
    /// Records in one batch.
    #[arg(long, default_value_t = 1_024)]
    batch: usize,
    /// Batches per run.
    #[arg(long, default_value_t = 500)]
    batches: usize,
}

pub fn run(setup: &Setup, options: &Options) -> Outcome {
    let batch = orders(options.batch);
    let path = FieldPath::parse;
    let time = EventTimeRule::Field { path: path("exchange_timestamp")?, unit: TimeUnit::Ms, assume_utc: false };
    let json = SourceCodec { event_time: time, max_ahead: None, ..SourceCodec::default() };
    let codecs = [
        ("bytes", SourceCodec { decode: Decode::Bytes, event_time: EventTimeRule::RecordTimestamp, ..json.clone() }),
        ("well-formed", SourceCodec { event_time: EventTimeRule::RecordTimestamp, ..json.clone() }),
        ("event time from a field", json.clone()),
        ("key and event time from fields", SourceCodec { key: KeyRule::Field(path("symbol")?), ..json }),
    ];
    let mut samples = vec![Vec::new(); codecs.len()];
    let mut decoded = Decoded::default();
    for run in 0..=setup.runs {
        for ((_, codec), samples) in codecs.iter().zip(&mut samples) {
            let took = timed(|| (0..options.batches).for_each(|_| codec.decode(&batch, 0, None, &mut decoded)));
            if run > 0 {
                samples.push(took.as_nanos() as f64 / (options.batches * options.batch) as f64);
            }
        }
    }
    let rows = codecs.iter().zip(&samples).map(|((name, _), samples)| vec![(*name).into(), spread(samples, 0)]);
    report::print("Decoding", &["ns per record", "thread CPU"], rows.collect());
    report::print_conditions(&format!(
        "order events of {} B on average, batches of {}; median (range) of {} runs",
        batch.values.byte_len() / batch.len(),
        options.batch,
        setup.runs
    ));
    Ok(())
}

fn orders(records: usize) -> PartitionBatch {
    let generated = enrichment::generate(records, 1, 1_000);
    let mut batch = PartitionBatch::new("orders", 0);
    for (offset, record) in generated.orders.partitions[0].iter().enumerate() {
        batch.push(offset as i64, record.timestamp_ms, record.key.as_deref(), record.value.as_deref());
    }
    batch
}
