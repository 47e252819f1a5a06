//! What Prometheus is shown: `GET /metrics` at the address of the API, as OpenMetrics text.
//!
//! Owns the names of all metrics, in one table; once dashboards stand on a name it never comes back. Counts nothing itself:
//! the numbers are those of the tasks' status, whose counters live as long as a task's thread.

use std::fmt;
use std::sync::Arc;

use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;
use tonic::service::Routes;

use crate::job::manager::{JobView, Manager};
use crate::model::{BEFORE_ALL_TIME, TaskId};
use crate::task::handle::{Phase, TaskStatus};

const CONTENT: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// One number of each task. Counters are shown with `_total` behind their name.
struct Metric {
    name: &'static str,
    help: &'static str,
    value: Value,
}

enum Value {
    /// Since the task's thread was started.
    Counter(fn(&TaskStatus) -> u64),
    /// None where there is nothing to be said yet.
    Gauge(fn(&TaskStatus) -> Option<f64>),
}

use Value::{Counter, Gauge};

const METRICS: &[Metric] = &[
    Metric {
        name: "forebay_task_up",
        help: "1 where the task runs, 0 where it recovers, is held, has stopped or has failed",
        value: Gauge(|status| Some(f64::from(u8::from(status.phase == Phase::Running)))),
    },
    Metric {
        name: "forebay_task_records_in",
        help: "Input records of committed epochs",
        value: Counter(|status| status.records_in),
    },
    Metric {
        name: "forebay_task_records_out",
        help: "Output records of committed epochs",
        value: Counter(|status| status.records_out),
    },
    Metric {
        name: "forebay_task_dead_letters",
        help: "Records that were put aside as dead letters",
        value: Counter(|status| status.dead_letters),
    },
    Metric {
        name: "forebay_task_skipped",
        help: "Records that could not be processed and were skipped, as the job asks",
        value: Counter(|status| status.skipped),
    },
    Metric { name: "forebay_task_late", help: "Records behind the watermark", value: Counter(|status| status.late) },
    Metric {
        name: "forebay_task_guest_faults",
        help: "Calls of modules that trapped, ran out of time or memory, or answered wrongly",
        value: Counter(|status| status.traps),
    },
    Metric { name: "forebay_task_commits", help: "Committed epochs", value: Counter(|status| status.commits) },
    Metric {
        name: "forebay_task_lag_records",
        help: "Records between the committed positions and the ends of the inputs",
        value: Gauge(|status| Some(status.lag as f64)),
    },
    Metric {
        name: "forebay_task_open_records",
        help: "Input records of the epoch that is open",
        value: Gauge(|status| Some(status.open_records as f64)),
    },
    Metric {
        name: "forebay_task_watermark_seconds",
        help: "The watermark, as seconds since 1970",
        value: Gauge(|status| (status.watermark != BEFORE_ALL_TIME).then(|| seconds(status.watermark))),
    },
    Metric {
        name: "forebay_task_freshness_seconds",
        help: "Processing time minus the newest committed event time, at the last commit",
        value: Gauge(|status| status.freshness_ns.map(seconds)),
    },
    Metric {
        name: "forebay_task_commit_seconds",
        help: "Time that the last commit took",
        value: Gauge(|status| Some(status.commit_us as f64 / 1e6)),
    },
    Metric {
        name: "forebay_task_recovery_seconds",
        help: "Time that the last recovery took",
        value: Gauge(|status| (status.recovery_us > 0).then_some(status.recovery_us as f64 / 1e6)),
    },
];

fn seconds(nanoseconds: i64) -> f64 {
    nanoseconds as f64 / 1e9
}

/// The route of the metrics; the gRPC services are added to it.
pub fn routes(manager: Arc<Manager>) -> Routes {
    let answer = move || {
        let manager = Arc::clone(&manager);
        async move {
            let shown = tokio::task::spawn_blocking(move || show(manager.list())).await;
            shown.unwrap_or_else(|error| refused(&error))
        }
    };
    Routes::from(Routes::default().into_axum_router().route("/metrics", get(answer)))
}

fn show(jobs: Vec<JobView>) -> Response {
    let jobs = jobs.into_iter().map(|job| {
        let tasks = job.tasks.into_iter().map(|task| task.status);
        (job.record.name, tasks.collect())
    });
    match text(Tasks(jobs.collect())) {
        Ok(text) => ([(CONTENT_TYPE, CONTENT)], text).into_response(),
        Err(error) => refused(&error),
    }
}

fn refused(error: &dyn fmt::Display) -> Response {
    (StatusCode::INTERNAL_SERVER_ERROR, format!("show the metrics: {error}\n")).into_response()
}

fn text(tasks: Tasks) -> Result<String, fmt::Error> {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(tasks));
    let mut text = String::new();
    encode(&mut text, &registry)?;
    Ok(text)
}

/// The tasks of each job, as they are at a look. No label has to be escaped (the encoder does not): names of jobs and
/// stages hold letters, digits, `-` and `_` only.
#[derive(Debug)]
struct Tasks(Vec<(String, Vec<TaskStatus>)>);

impl Collector for Tasks {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        for Metric { name, help, value } in METRICS {
            let kind = match value {
                Counter(_) => MetricType::Counter,
                Gauge(_) => MetricType::Gauge,
            };
            let mut metric = encoder.encode_descriptor(name, help, None, kind)?;
            for (job, tasks) in &self.0 {
                for (number, status) in tasks.iter().enumerate() {
                    let TaskId { stage, number } = TaskId::main(number as u32);
                    let number = number.to_string();
                    let labels = [("job", job.as_str()), ("stage", stage.as_str()), ("task", number.as_str())];
                    match value {
                        Counter(of) => {
                            metric.encode_family(&labels)?.encode_counter::<NoLabels, _, u64>(&of(status), None)?;
                        }
                        Gauge(of) => {
                            if let Some(found) = of(status) {
                                metric.encode_family(&labels)?.encode_gauge(&found)?;
                            }
                        }
                    }
                }
            }
        }
        Ok(())
    }
}

/// Of exemplars, which no counter here has.
type NoLabels = [(&'static str, &'static str); 0];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_task_shows_its_numbers_under_its_job() {
        let running = TaskStatus { phase: Phase::Running, records_in: 7, lag: 3, ..TaskStatus::default() };
        let shown = text(Tasks(vec![("a-b".to_owned(), vec![running, TaskStatus::default()])])).unwrap();
        for line in [
            "# TYPE forebay_task_records_in counter",
            "forebay_task_records_in_total{job=\"a-b\",stage=\"main\",task=\"0\"} 7",
            "forebay_task_records_in_total{job=\"a-b\",stage=\"main\",task=\"1\"} 0",
            "forebay_task_up{job=\"a-b\",stage=\"main\",task=\"0\"} 1.0",
            "forebay_task_lag_records{job=\"a-b\",stage=\"main\",task=\"0\"} 3.0",
        ] {
            assert!(shown.lines().any(|found| found == line), "{line} is not in\n{shown}");
        }
        assert!(!shown.contains("forebay_task_watermark_seconds{"), "before all time there is nothing to show");
        assert!(shown.ends_with("# EOF\n"));
    }

    #[test]
    fn every_metric_has_a_name_of_its_own_with_its_unit() {
        let mut names: Vec<_> = METRICS.iter().map(|metric| metric.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), METRICS.len());
        assert!(names.iter().all(|name| name.starts_with("forebay_task_") && !name.ends_with("_total")));
    }
}
