//! Compiles the gRPC API with protox (no protoc needed) and keeps its descriptors for reflection.

use std::error::Error;
use std::path::PathBuf;
use std::{env, fs};

use protox::prost::Message as _;

const PROTOS: [&str; 5] = ["modules", "jobs", "topics", "dead_letters", "server"];

/// Enum fields, shown by name in JSON: message.field, and the enum's type.
const ENUMS: [(&str, &str); 5] = [
    ("Plan.action", "PlanAction"),
    ("PlannedState.fate", "StateFate"),
    ("Job.state", "JobState"),
    ("Task.phase", "TaskPhase"),
    ("Swap.phase", "SwapPhase"),
];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proto");
    let files = PROTOS.map(|name| format!("proto/forebay/v1/{name}.proto"));
    let descriptors = protox::compile(files, ["proto"])?;
    let out = PathBuf::from(env::var("OUT_DIR")?);
    fs::write(out.join("forebay.v1.descriptors.bin"), descriptors.encode_to_vec())?;

    let mut build = tonic_prost_build::configure()
        .btree_map(".forebay.v1.Task.bad_records")
        .bytes(".forebay.v1.Record")
        .bytes(".forebay.v1.ConsumedRecord")
        .bytes(".forebay.v1.PushModuleRequest");
    // What `-o json` prints: every answer but raw records, which the CLI writes by hand.
    for message in ["Module", "ModuleDescription", "StateDeclaration", "ParameterDeclaration", "Plan", "Refusal"]
        .into_iter()
        .chain([
            "PlannedState",
            "OperatorModule",
            "Job",
            "Task",
            "InputTime",
            "RegisteredTimers",
            "TimeReset",
            "TimeResetPlan",
            "PlannedTime",
            "Position",
            "Swap",
            "SwapPlan",
            "SwitchedTask",
        ])
        .chain(["Topic", "Partition", "ProduceResponse", "ProducedPartition"])
    {
        build = build.message_attribute(format!("forebay.v1.{message}"), "#[derive(serde::Serialize)]");
    }
    for (field, kind) in ENUMS {
        let with = format!("#[serde(serialize_with = \"crate::api::json::name_of::<{kind}, _>\")]");
        build = build.field_attribute(format!("forebay.v1.{field}"), with);
    }
    build.compile_fds(descriptors)?;
    Ok(())
}
