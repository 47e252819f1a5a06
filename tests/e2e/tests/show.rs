//! The main show as README's first command starts it, with less input and as fast as it goes.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::process::{Command, Stdio};

use kafka_cluster::Target;

#[test]
fn the_show_proves_itself() {
    show(&["--records", "60000"]);
}

/// Twice: the second time finds nothing that the first has left.
#[test]
fn the_show_proves_itself_on_kafka_as_often_as_it_is_run() {
    let Some(target) = Target::for_tests() else { return };
    for _ in 0..2 {
        show(&["--records", "30000", "--kafka", target.bootstrap()]);
    }
}

fn show(arguments: &[&str]) {
    let folder = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink(cache().join("guests"), folder.path().join("guests")).unwrap();
    let show = Command::new(e2e::binary("market-data-show"))
        .args(["--speed", "max", "--cache"])
        .arg(folder.path())
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&show.stdout);
    assert!(show.status.success(), "{said}\n{}", String::from_utf8_lossy(&show.stderr));
    assert!(said.contains("PROVED") && !said.contains("WRONG"), "{said}");
}

fn cache() -> std::path::PathBuf {
    let home = || std::path::PathBuf::from(std::env::var_os("HOME").unwrap_or_default()).join(".cache/forebay");
    std::env::var_os("FOREBAY_CACHE").map_or_else(home, Into::into)
}
