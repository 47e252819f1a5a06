//! Which Java runs the brokers: `JAVA_HOME`, else the one on `PATH`, where it is new enough.

use std::path::{Path, PathBuf};
use std::process::Command;

/// What Kafka 4 brokers need.
const OLDEST: u32 = 17;

#[derive(Clone, Debug)]
pub struct Java {
    home: PathBuf,
    version: String,
}

impl Java {
    pub fn find() -> Result<Java, String> {
        let named = std::env::var_os("JAVA_HOME").map(|home| Path::new(&home).join("bin/java"));
        let named = named.filter(|java| java.exists()).and_then(|java| Java::at(&java).ok());
        named.map_or_else(|| Java::at(Path::new("java")), Ok)
    }

    fn at(java: &Path) -> Result<Java, String> {
        let output = Command::new(java).args(["-XshowSettings:properties", "-version"]).output().map_err(|error| {
            format!("run {}: {error}: install a JDK {OLDEST} (on Debian: default-jdk-headless)", java.display())
        })?;
        let settings = String::from_utf8_lossy(&output.stderr);
        let home = property(&settings, "java.home");
        let version = property(&settings, "java.specification.version").and_then(|version| version.parse::<u32>().ok());
        // Java 8 called itself 1.8.
        let (Some(home), Some(version)) = (home, version) else {
            return Err(format!("{} is no JDK {OLDEST} or newer: it says {settings:?}", java.display()));
        };
        if version < OLDEST {
            return Err(format!("{} is Java {version}, and Kafka needs {OLDEST} or newer", java.display()));
        }
        let build = property(&settings, "java.vm.version").unwrap_or("unknown");
        Ok(Java { home: home.into(), version: build.to_owned() })
    }

    /// The program itself and no wrapper script: it has to die when its parent does.
    pub fn java(&self) -> PathBuf {
        self.home.join("bin/java")
    }

    /// That of the very build.
    pub fn version(&self) -> &str {
        &self.version
    }

    pub fn keytool(&self) -> PathBuf {
        self.home.join("bin/keytool")
    }
}

fn property<'a>(settings: &'a str, name: &str) -> Option<&'a str> {
    settings.lines().find_map(|line| line.trim().strip_prefix(name)?.trim_start().strip_prefix("= "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_property_is_found_by_its_whole_name() {
        let settings = "    java.home.old = /a\n    java.home = /b\n    java.specification.version = 17\n";
        assert_eq!(property(settings, "java.home"), Some("/b"));
        assert_eq!(property(settings, "java.specification.version"), Some("17"));
        assert_eq!(property(settings, "java.vendor"), None);
    }
}
