//! The main show as README's first command starts it, with less input and as fast as it goes.

use std::process::{Command, Stdio};

#[test]
fn the_show_proves_itself() {
    let folder = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink(cache().join("guests"), folder.path().join("guests")).unwrap();
    let show = Command::new(e2e::binary("market-data-show"))
        .args(["--speed", "max", "--records", "60000", "--cache"])
        .arg(folder.path())
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
