//! Which Java runs the brokers: `JAVA_HOME`, else the one on `PATH`, where it is new enough.

use std::path::{Path, PathBuf};
use std::process::Command;

/// What Kafka 4 brokers need.
const OLDEST: u32 = 17;

#[derive(Clone, Debug)]
pub struct Java {
    home: PathBuf,
}

impl Java {
    pub fn find() -> Result<Java, String> {
        let named = std::env::var_os("JAVA_HOME").map(|home| Path::new(&home).join("bin/java"));
        let java = named.filter(|java| java.exists()).unwrap_or_else(|| "java".into());
        let output = Command::new(&java).args(["-XshowSettings:properties", "-version"]).output().map_err(|error| {
            format!("run {}: {error}: install a JDK {OLDEST} (on Debian: default-jdk-headless)", java.display())
        })?;
        let settings = String::from_utf8_lossy(&output.stderr);
        let home = property(&settings, "java.home");
        let version = property(&settings, "java.specification.version").and_then(|version| version.parse::<u32>().ok());
        let (Some(home), Some(version)) = (home, version) else {
            return Err(format!("ask {} for its version: it said {settings:?}: is it a JDK?", java.display()));
        };
        if version < OLDEST {
            return Err(format!("{} is Java {version}, and Kafka needs {OLDEST} or newer", java.display()));
        }
        Ok(Java { home: home.into() })
    }

    /// The program itself and no wrapper script: it has to die when its parent does.
    pub fn java(&self) -> PathBuf {
        self.home.join("bin/java")
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
