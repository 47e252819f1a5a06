//! What everything is called that outlives a process: topics, transactional ids, consumer groups, directories.
//!
//! Made here and nowhere else: once state stands under a name it never comes back. A part holds letters, digits, `-`
//! and `_`, so that dots between parts are clear. Described in `docs/formats/control.md`.

use std::path::{Path, PathBuf};

use super::Uid;

/// Topics that the runtime keeps for itself begin with this.
pub const INTERNAL: &str = "__forebay.";
/// There is one stage until jobs can repartition.
pub const STAGE: &str = "main";

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

/// Names carry the uid, so that a job made again under its name shares nothing with the old one.
pub fn uid8(uid: Uid) -> String {
    uid.to_string().chars().take(8).collect()
}

/// The deltas of a stage.
pub fn changelog_topic(job: &str, uid8: &str, stage: &str) -> String {
    format!("{INTERNAL}{job}.{uid8}.{stage}.changelog")
}

/// What fences a predecessor of a task; fixed for the life of the job.
pub fn task_transactional_id(uid: Uid, stage: &str, task: u32) -> String {
    format!("forebay.{uid}.{stage}.{task}")
}

/// Outlives the job, unless its spec names another.
pub fn dead_letter_topic(job: &str) -> String {
    format!("{job}.dead-letters")
}

/// Under which lag tools see a job's positions, unless its spec names another.
pub fn consumer_group(job: &str) -> String {
    format!("forebay.{job}")
}

/// All that a job has on a server's disk.
pub fn job_directory(data_dir: &Path, job: &str, uid8: &str) -> PathBuf {
    data_dir.join("jobs").join(format!("{job}.{uid8}"))
}

/// A task's store, in its job's directory.
pub fn task_directory(job_directory: &Path, stage: &str, task: u32) -> PathBuf {
    job_directory.join(format!("{stage}.{task}"))
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

    /// State stands under these: a changed name loses it.
    #[test]
    fn names_of_a_job_are_what_they_were() {
        let uid = Uid::parse("0123456789abcdef0123456789abcdef").unwrap();
        let uid8 = uid8(uid);
        assert_eq!(changelog_topic("j", &uid8, STAGE), "__forebay.j.01234567.main.changelog");
        assert_eq!(task_transactional_id(uid, STAGE, 3), "forebay.0123456789abcdef0123456789abcdef.main.3");
        let directory = job_directory(Path::new("data"), "j", &uid8);
        assert_eq!(task_directory(&directory, STAGE, 3), Path::new("data/jobs/j.01234567/main.3"));
        assert_eq!([dead_letter_topic("j"), consumer_group("j")], ["j.dead-letters", "forebay.j"]);
        assert!(is_internal("__forebay.x") && !is_internal("forebay.x"));
    }
}
