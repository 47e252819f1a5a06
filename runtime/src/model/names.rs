//! What everything is called that outlives a process: topics, transactional ids, consumer groups, directories.
//!
//! Made here and nowhere else: once state stands under a name it never comes back. A part holds letters, digits, `-`
//! and `_`, so that dots between parts are clear. Described in `docs/formats/control.md`.

use std::path::{Path, PathBuf};

use super::{StageName, TaskId, Uid};

/// Topics that the runtime keeps for itself begin with this.
pub const INTERNAL: &str = "__forebay.";

/// Longest part of a name.
pub const PART_MAX: usize = 64;

/// Whether a text may be a part of names.
pub fn is_part(text: &str) -> bool {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    (1..=PART_MAX).contains(&text.len()) && text.chars().all(is_plain)
}

pub fn is_internal(topic: &str) -> bool {
    topic.starts_with(INTERNAL)
}

/// Keeps what one server has on a cluster apart from what others have. Without one the names have no such part.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Namespace(Option<String>);

impl Namespace {
    /// None where the text cannot be a part of names.
    pub fn named(name: &str) -> Option<Self> {
        is_part(name).then(|| Self(Some(name.to_owned())))
    }

    /// Jobs, modules by name, swaps.
    pub fn control_topic(&self) -> String {
        format!("{INTERNAL}{}", self.own("control"))
    }

    pub fn control_transactional_id(&self) -> String {
        format!("forebay.{}", self.own("control"))
    }

    /// The bytes of modules.
    pub fn modules_topic(&self) -> String {
        format!("{INTERNAL}{}", self.own("modules"))
    }

    pub fn modules_transactional_id(&self) -> String {
        format!("forebay.{}", self.own("modules"))
    }

    /// Taken over to see whether the log takes writes; nothing is ever written under it.
    pub fn probe_transactional_id(&self) -> String {
        format!("forebay.{}", self.own("probe"))
    }

    fn own(&self, what: &str) -> String {
        self.0.as_ref().map_or_else(|| what.to_owned(), |name| format!("{name}.{what}"))
    }
}

/// What a job's own things are called. They carry the uid: a job made again under its name shares nothing with the old
/// one. Whatever comes to be a part of these names is a part of this type.
#[derive(Clone, Debug)]
pub struct JobNames<'a> {
    job: &'a str,
    uid: String,
}

impl<'a> JobNames<'a> {
    pub fn new(job: &'a str, uid: Uid) -> Self {
        Self { job, uid: uid.to_string() }
    }

    /// For people, of a job that has not been created yet.
    pub fn planned(job: &'a str) -> Self {
        Self { job, uid: "<uid>".to_owned() }
    }

    /// The deltas of a stage, one partition per task.
    pub fn changelog_topic(&self, stage: &StageName) -> String {
        format!("{INTERNAL}{}.{}.{stage}.changelog", self.job, self.short_uid())
    }

    /// What fences a predecessor of a task; fixed for the life of the job.
    pub fn transactional_id(&self, task: &TaskId) -> String {
        format!("forebay.{}.{}.{}", self.uid, task.stage, task.number)
    }

    /// All that the job has on a server's disk.
    pub fn directory(&self, data_dir: &Path) -> PathBuf {
        data_dir.join("jobs").join(format!("{}.{}", self.job, self.short_uid()))
    }

    /// A task's store, in its job's directory.
    pub fn task_directory(&self, data_dir: &Path, task: &TaskId) -> PathBuf {
        self.directory(data_dir).join(format!("{}.{}", task.stage, task.number))
    }

    fn short_uid(&self) -> &str {
        self.uid.get(..8).unwrap_or(&self.uid)
    }
}

/// Reads `main/3`.
pub fn parse_task(text: &str) -> Option<TaskId> {
    let (stage, number) = text.split_once('/')?;
    let task = TaskId::new(StageName::new(stage), number.parse().ok()?);
    (is_part(stage) && task.to_string() == text).then_some(task)
}

/// Outlives the job, unless its spec names another.
pub fn dead_letter_topic(job: &str) -> String {
    format!("{job}.dead-letters")
}

/// Under which lag tools see a job's positions, unless its spec names another.
pub fn consumer_group(job: &str) -> String {
    format!("forebay.{job}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_namespace_is_a_part_of_the_names_of_what_a_server_has_on_a_cluster() {
        let (none, named) = (Namespace::default(), Namespace::named("blue").unwrap());
        assert_eq!([none.control_topic(), named.control_topic()], ["__forebay.control", "__forebay.blue.control"]);
        assert_eq!(named.control_transactional_id(), "forebay.blue.control");
        assert_eq!([none.modules_topic(), named.modules_topic()], ["__forebay.modules", "__forebay.blue.modules"]);
        assert_eq!(named.modules_transactional_id(), "forebay.blue.modules");
        assert!(["", "a.b", "a/b", "ä"].iter().all(|name| Namespace::named(name).is_none()));
    }

    #[test]
    fn tasks_are_read_as_they_are_written_and_not_otherwise() {
        assert_eq!(parse_task(&TaskId::main(3).to_string()), Some(TaskId::main(3)));
        for text in ["main", "main/", "/3", "main/03", "main/-1", "a/b/3", "main/4294967296", "ä/3"] {
            assert_eq!(parse_task(text), None, "{text}");
        }
    }

    /// State stands under these: a changed name loses it.
    #[test]
    fn names_of_a_job_are_what_they_were() {
        let uid = Uid::parse("0123456789abcdef0123456789abcdef").unwrap();
        let (names, task) = (JobNames::new("j", uid), TaskId::main(3));
        assert_eq!(names.changelog_topic(&task.stage), "__forebay.j.01234567.main.changelog");
        assert_eq!(names.transactional_id(&task), "forebay.0123456789abcdef0123456789abcdef.main.3");
        assert_eq!(names.directory(Path::new("data")), Path::new("data/jobs/j.01234567"));
        assert_eq!(names.task_directory(Path::new("data"), &task), Path::new("data/jobs/j.01234567/main.3"));
        assert_eq!([dead_letter_topic("j"), consumer_group("j")], ["j.dead-letters", "forebay.j"]);
        assert_eq!(JobNames::planned("j").changelog_topic(&task.stage), "__forebay.j.<uid>.main.changelog");
        assert!(is_internal("__forebay.x") && !is_internal("forebay.x"));
    }
}
