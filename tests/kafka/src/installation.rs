//! Apache Kafka's jars in the cache folder, fetched with Maven, and what runs from them.
//!
//! Owns that they are there whole or not at all, however many processes want them at once.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use crate::java::Java;

/// Names the jars; a change of it fetches again.
const POM: &str = include_str!("../pom.xml");
const GOAL: &str = "dependency:copy-dependencies";

/// Console tools by the last part of their names, and where each lives.
const TOOLS: &[(&str, &str)] = &[
    ("ConfigCommand", "kafka.admin."),
    ("ConsoleConsumer", "org.apache.kafka.tools.consumer."),
    ("ConsumerGroupCommand", "org.apache.kafka.tools.consumer.group."),
    ("StorageTool", "kafka.tools."),
];

/// Tools that work on files and know no broker.
const OFFLINE: &[&str] = &["DumpLogSegments", "StorageTool"];

/// Flags of a process that lives too short for the JVM's best code.
pub(crate) const QUICK: &str = "-XX:TieredStopAtLevel=1";

/// Kafka, ready to run.
#[derive(Clone, Debug)]
pub struct Installation {
    java: Java,
    jars: PathBuf,
    classpath: String,
}

impl Installation {
    /// Fetches the jars where they are not there yet, and says on stderr that it does.
    ///
    /// # Errors
    /// No Java, no Maven, or Maven could not fetch: this machine has no Kafka.
    pub fn get() -> Result<Installation, String> {
        let java = Java::find()?;
        let jars = jars(&cache_dir()?.join("kafka"))?;
        let entries = fs::read_dir(&jars).map_err(|error| format!("list {}: {error}", jars.display()))?;
        let mut paths: Vec<String> = entries.flatten().map(|entry| entry.path().display().to_string()).collect();
        paths.retain(|path| path.ends_with(".jar"));
        paths.sort();
        Ok(Installation { java, jars, classpath: paths.join(":") })
    }

    pub(crate) fn java(&self) -> &Java {
        &self.java
    }

    /// A console tool as a command. `class` is a whole name, or its last part.
    pub fn tool_command(&self, bootstrap: &str, class: &str, arguments: &[&str]) -> Command {
        let mut command = self.command(&["-Xmx256m", QUICK, "-XX:+UseSerialGC"]);
        command.arg(full_name(class));
        let works_on_files = OFFLINE.iter().any(|tool| class.ends_with(tool));
        if !works_on_files && !arguments.contains(&"--bootstrap-server") {
            command.args(["--bootstrap-server", bootstrap]);
        }
        command.args(arguments);
        command
    }

    /// Java with Kafka's classes and these flags; the class is to follow.
    pub(crate) fn command(&self, flags: &[&str]) -> Command {
        let mut command = Command::new(self.java.java());
        // The JVM's own warnings would stand in the middle of what a tool prints.
        command.args(["-Xlog:disable", "-Xlog:all=error:stderr"]).args(flags).args(["-cp", &self.classpath]);
        let archive = self.archive();
        if archive.exists() {
            command.arg(format!("-XX:SharedArchiveFile={}", archive.display()));
        }
        command.args(["-Dorg.slf4j.simpleLogger.defaultLogLevel=warn", "-Dorg.slf4j.simpleLogger.showDateTime=true"]);
        command.arg("-Dorg.slf4j.simpleLogger.dateTimeFormat=HH:mm:ss.SSS");
        command
    }

    /// Where the classes of brokers and tools lie ready for this Java, see `archive`. May not be there.
    pub(crate) fn archive(&self) -> PathBuf {
        self.jars.join(format!("classes-{}.jsa", self.java.version()))
    }

    /// A lock that one process at a time holds, over changes to what is installed.
    pub(crate) fn lock(&self) -> Result<File, String> {
        lock(self.jars.parent().unwrap_or(&self.jars))
    }

    /// Runs a console tool to its end and returns what it printed.
    ///
    /// # Errors
    /// It could not be run, or says that it failed; with all that it said.
    pub fn tool(&self, bootstrap: &str, class: &str, arguments: &[&str]) -> Result<String, String> {
        let mut command = self.tool_command(bootstrap, class, arguments);
        finish(&mut command, &format!("{class} {}", arguments.join(" ")))
    }
}

/// Runs a command to its end.
pub(crate) fn finish(command: &mut Command, what: &str) -> Result<String, String> {
    let Output { status, stdout, stderr } =
        command.stdin(Stdio::null()).output().map_err(|error| format!("run {what}: {error}"))?;
    let stdout = String::from_utf8_lossy(&stdout).into_owned();
    // The tools print their reasons to either.
    let said = || format!("{}\n{}", stdout.trim(), String::from_utf8_lossy(&stderr).trim());
    if status.success() { Ok(stdout) } else { Err(format!("run {what}: it failed ({status}) and said: {}", said())) }
}

fn full_name(class: &str) -> String {
    if class.contains('.') {
        return class.to_owned();
    }
    let package =
        TOOLS.iter().find(|(name, _)| *name == class).map_or("org.apache.kafka.tools.", |(_, package)| package);
    format!("{package}{class}")
}

/// `FOREBAY_CACHE`, else `~/.cache/forebay`.
///
/// # Errors
/// Neither it nor HOME is set.
pub fn cache_dir() -> Result<PathBuf, String> {
    if let Some(cache) = std::env::var_os("FOREBAY_CACHE") {
        return Ok(cache.into());
    }
    let home = std::env::var_os("HOME").ok_or("neither FOREBAY_CACHE nor HOME is set: set one of them")?;
    Ok(Path::new(&home).join(".cache/forebay"))
}

/// The folder with all jars. It stands under its name only when it is whole: a folder beside it is filled and then
/// renamed, under a lock that ends with its process.
fn jars(home: &Path) -> Result<PathBuf, String> {
    let jars = home.join(format!("jars-{}", version()));
    if is_whole(&jars) {
        return Ok(jars);
    }
    fs::create_dir_all(home).map_err(|error| format!("make {}: {error}", home.display()))?;
    let _lock = lock(home)?;
    if !is_whole(&jars) {
        fetch(&jars)?;
    }
    Ok(jars)
}

fn lock(home: &Path) -> Result<File, String> {
    let path = home.join("lock");
    let lock = File::create(&path).map_err(|error| format!("open {}: {error}", path.display()))?;
    if lock.try_lock().is_err() {
        eprintln!("kafka: waiting for another process that installs Kafka");
        lock.lock().map_err(|error| format!("lock {}: {error}", path.display()))?;
    }
    Ok(lock)
}

/// The pom lies beside the jars that it named.
fn is_whole(jars: &Path) -> bool {
    fs::read_to_string(jars.join("pom.xml")).is_ok_and(|pom| pom == POM)
}

pub fn version() -> &'static str {
    let after = POM.split_once("<kafka.version>").map_or("", |(_, after)| after);
    after.split_once("</kafka.version>").map_or("", |(version, _)| version)
}

fn fetch(jars: &Path) -> Result<(), String> {
    let partial = PathBuf::from(format!("{}.partial", jars.display()));
    let failed = |error: std::io::Error| format!("make {}: {error}", partial.display());
    if partial.exists() {
        fs::remove_dir_all(&partial).map_err(failed)?;
    }
    fs::create_dir_all(&partial).map_err(failed)?;
    fs::write(partial.join("pom.xml"), POM).map_err(failed)?;
    eprintln!("kafka: fetching Apache Kafka {} with Maven (about 55 MB)", version());
    run_maven(&partial)?;
    if jars.exists() {
        fs::remove_dir_all(jars).map_err(|error| format!("remove {}: {error}", jars.display()))?;
    }
    fs::rename(&partial, jars).map_err(|error| format!("rename {}: {error}", partial.display()))?;
    eprintln!("kafka: the jars are in {}", jars.display());
    Ok(())
}

/// Progress goes to stderr every few seconds; what Maven said of its failure becomes the error.
fn run_maven(folder: &Path) -> Result<(), String> {
    let failed = |error: std::io::Error| format!("run mvn: {error}: install Maven (on Debian: maven)");
    let (reader, writer) = std::io::pipe().map_err(failed)?;
    let mut command = Command::new("mvn");
    command.args(["--batch-mode", GOAL, "-DincludeScope=runtime", "-DoutputDirectory=."]).current_dir(folder);
    command.stdin(Stdio::null()).stdout(writer.try_clone().map_err(failed)?).stderr(writer);
    let mut maven = command.spawn().map_err(failed)?;
    // It holds this side of the pipe.
    drop(command);
    let (mut said, mut fetched, mut last) = (Vec::new(), 0, Instant::now());
    for line in BufReader::new(reader).lines().map_while(Result::ok) {
        fetched += u32::from(line.contains("Downloaded from") && line.contains(".jar"));
        if last.elapsed() > Duration::from_secs(5) {
            eprintln!("kafka: Maven has fetched {fetched} jars so far, its own among them");
            last = Instant::now();
        }
        said.push(line);
    }
    let status = maven.wait().map_err(failed)?;
    if status.success() {
        return Ok(());
    }
    Err(format!("fetch Kafka with mvn: it failed ({status}): {}", reason(&said)))
}

/// Maven's first error without the advice that follows it; all that it said where it names none.
fn reason(said: &[String]) -> String {
    let errors: Vec<&str> = said.iter().filter_map(|line| line.strip_prefix("[ERROR] ")).collect();
    let errors = errors.split(|line| line.trim().is_empty()).next().unwrap_or_default();
    if errors.is_empty() { said.join("\n") } else { errors.join("\n") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_read_from_the_pom() {
        assert!(version().split('.').count() == 3, "{}", version());
    }

    #[test]
    fn of_what_maven_says_the_first_error_is_the_reason() {
        let said = ["[INFO] x", "[ERROR] no plugin found", "[ERROR] ", "[ERROR] Re-run"].map(str::to_owned);
        assert_eq!(reason(&said), "no plugin found");
        assert_eq!(reason(&["JAVA_HOME is wrong".to_owned()]), "JAVA_HOME is wrong");
    }

    #[test]
    fn tools_are_found_by_the_last_part_of_their_names() {
        assert_eq!(full_name("TopicCommand"), "org.apache.kafka.tools.TopicCommand");
        assert_eq!(full_name("ConsumerGroupCommand"), "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand");
        assert_eq!(full_name("kafka.admin.ConfigCommand"), "kafka.admin.ConfigCommand");
    }
}
