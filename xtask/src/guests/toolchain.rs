//! Which Rust builds the guests: the user's own with the rustup target installed, or Debian's with the standard
//! library built from its sources.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fmt};

use super::TARGET;

/// Debian's packages, and what they install.
const DEBIAN_PACKAGES: &str = "rustc-web cargo-web rust-web-src";
const DEBIAN_CARGO: &str = "/usr/bin/cargo";

pub enum Toolchain {
    /// The target of the toolchain that runs this.
    Rustup,
    /// Debian's compiler. It brings no linker for the target; rustup's does.
    Debian { linker: PathBuf },
}

impl Toolchain {
    /// # Errors
    /// Neither is installed: says how to install either.
    pub fn find() -> Result<Self, String> {
        let sysroot = sysroot("rustc")?;
        if sysroot.join("lib/rustlib").join(TARGET).join("lib").is_dir() {
            return Ok(Self::Rustup);
        }
        if let Some(linker) = linker(&sysroot)
            && has_library_sources()
        {
            return Ok(Self::Debian { linker });
        }
        Err(format!(
            "no Rust here can build for {TARGET}. Install either the target of your own toolchain:\n\n    rustup target add \
             {TARGET}\n\nor, on Debian, a compiler with the sources of the standard library:\n\n    apt-get install -y \
             {DEBIAN_PACKAGES} lld"
        ))
    }

    pub fn cargo(&self) -> Command {
        match self {
            Self::Rustup => Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into())),
            Self::Debian { linker } => {
                let mut cargo = Command::new(DEBIAN_CARGO);
                let path = env::var("PATH").unwrap_or_default();
                // Rustup's shims would otherwise be asked for `rustc`, and set these for their children.
                cargo.env("PATH", format!("/usr/bin:{path}")).env_remove("RUSTUP_TOOLCHAIN").env_remove("RUSTC");
                // Building the standard library is an unstable flag of cargo.
                cargo.env("RUSTC_BOOTSTRAP", "1").env("CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER", linker);
                // Settings that are meant for the host's build.
                cargo.env_remove("RUSTFLAGS").env_remove("CARGO_ENCODED_RUSTFLAGS");
                cargo
            }
        }
    }

    pub fn flags(&self) -> &'static [&'static str] {
        match self {
            Self::Rustup => &[],
            Self::Debian { .. } => &["-Zbuild-std=std,panic_abort"],
        }
    }
}

impl fmt::Display for Toolchain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rustup => write!(f, "built by this toolchain's {TARGET} target"),
            Self::Debian { linker } => {
                write!(f, "built by {DEBIAN_CARGO} with its standard library's sources, linked by {}", linker.display())
            }
        }
    }
}

fn sysroot(rustc: &str) -> Result<PathBuf, String> {
    let output = Command::new(rustc)
        .args(["--print", "sysroot"])
        .output()
        .map_err(|error| format!("run `{rustc} --print sysroot`: {error}"))?;
    Ok(PathBuf::from(String::from_utf8_lossy(&output.stdout).trim()))
}

/// Rustup's copy of lld, else Debian's.
fn linker(sysroot: &Path) -> Option<PathBuf> {
    let host = format!("{}-unknown-linux-gnu", env::consts::ARCH);
    let rustup = sysroot.join("lib/rustlib").join(host).join("bin/rust-lld");
    let debian = ["/usr/bin/wasm-ld", "/usr/bin/wasm-ld-19", "/usr/bin/wasm-ld-16", "/usr/bin/wasm-ld-14"];
    std::iter::once(rustup).chain(debian.map(PathBuf::from)).find(|linker| linker.is_file())
}

fn has_library_sources() -> bool {
    Path::new(DEBIAN_CARGO).is_file()
        && sysroot("/usr/bin/rustc")
            .is_ok_and(|sysroot| sysroot.join("lib/rustlib/src/rust/library/std/Cargo.toml").is_file())
}
