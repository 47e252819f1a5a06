//! Looks uploads over and compiles them in a process of its own.
//!
//! Owns those processes and their limits. The parsers and the compiler behind [`inspect`](super::inspect) and
//! [`cache`](super::cache) were not written for enemies: types that refer to each other in a circle overflow a stack,
//! and no bound is promised on a compiler's time. What happens to the process is a reason against the upload, never
//! the end of the server and of its jobs. It is a limit, not a sandbox: the process has the server's rights.
//!
//! Asked on stdin by one line of JSON and the bytes behind it; answers so on stdout.

use std::io::{self, Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::{Condvar, Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use super::error::{Error, Rejected};
use super::{Engine, EngineSettings};

/// The argument by which a program is asked to be such a process; it then calls [`serve`].
pub const ARGUMENT: &str = "compile-module";

const CPU_SECONDS_MAX: u64 = 120;
const MEMORY_BYTES_MAX: u64 = 4 << 30;
const ANSWER_BYTES_MAX: u64 = 1 << 30;
/// Such processes at once: each may take all of that memory. Who comes later waits.
const AT_ONCE: usize = 2;
/// Running tasks come first.
const NICENESS: libc::c_int = 10;

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) enum Work {
    /// An upload becomes a component.
    Inspect,
    /// A component becomes code.
    Compile,
}

#[derive(Serialize, Deserialize)]
struct Order {
    work: Work,
    upload_bytes_max: usize,
    stack_bytes_max: usize,
}

#[derive(Serialize, Deserialize)]
enum Answer {
    /// What was made follows.
    Made,
    Refused(Vec<String>),
    /// The process could not work, whatever it was given.
    Failed(String),
}

/// The program that does the work when it is given [`ARGUMENT`].
#[derive(Debug)]
pub(super) struct Apart {
    program: PathBuf,
    turns: Turns,
}

impl Apart {
    pub(super) fn new(program: PathBuf) -> Self {
        Self { program, turns: Turns { free: Mutex::new(AT_ONCE), freed: Condvar::new() } }
    }

    /// # Errors
    /// What is wrong with the bytes, or [`Error::Process`].
    pub(super) fn run(&self, work: Work, settings: &EngineSettings, bytes: &[u8]) -> Result<Vec<u8>, Error> {
        let failed = |doing, source| Error::Process { doing, program: self.program.clone(), source };
        let _turn = self.turns.take();
        let EngineSettings { upload_bytes_max, stack_bytes_max, .. } = *settings;
        let order = serde_json::to_vec(&Order { work, upload_bytes_max, stack_bytes_max });
        let order = order.map_err(|error| failed("write to", error.into()))?;
        let mut command = Command::new(&self.program);
        command.arg(ARGUMENT).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().map_err(|source| failed("start", source))?;
        if let Some(mut stdin) = child.stdin.take() {
            // It reads all of it before it writes anything. Where it is gone already its end says why.
            let _ = [&order, &b"\n"[..], bytes].iter().try_for_each(|part| stdin.write_all(part));
        }
        let mut answer = Vec::new();
        if let Some(stdout) = child.stdout.take() {
            let read = stdout.take(ANSWER_BYTES_MAX).read_to_end(&mut answer);
            read.map_err(|source| failed("read the answer of", source))?;
        }
        let status = child.wait().map_err(|source| failed("wait for", source))?;
        match taken_apart::<Answer>(&answer) {
            Some((Answer::Made, made)) if status.success() => Ok(made.to_vec()),
            Some((Answer::Refused(reasons), _)) if status.success() => Err(Rejected { reasons }.into()),
            Some((Answer::Failed(found), _)) if status.success() => Err(failed("work in", io::Error::other(found))),
            // Its own limits end it by other signals: the system was out of memory, or somebody killed it.
            _ if status.signal() == Some(libc::SIGKILL) => {
                Err(failed("work in", io::Error::other("it was killed: is the machine out of memory?")))
            }
            _ => Err(Rejected::because(end_of(work, status)).into()),
        }
    }
}

/// Who may start a process now.
#[derive(Debug)]
struct Turns {
    free: Mutex<usize>,
    freed: Condvar,
}

struct Turn<'a>(&'a Turns);

impl Turns {
    fn take(&self) -> Turn<'_> {
        let free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        let mut free = self.freed.wait_while(free, |free| *free == 0).unwrap_or_else(PoisonError::into_inner);
        *free -= 1;
        Turn(self)
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        *self.0.free.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        self.0.freed.notify_one();
    }
}

fn end_of(work: Work, status: ExitStatus) -> String {
    let doing = match work {
        Work::Inspect => "looking the module over",
        Work::Compile => "compiling the module",
    };
    match status.signal() {
        Some(libc::SIGXCPU) => {
            format!("{doing} took more than {CPU_SECONDS_MAX} s of CPU time: split it, or build it smaller")
        }
        _ => format!(
            "{doing} was ended by it ({status}): its types refer to themselves without end, or it needs more than {} GiB \
             to compile: build it again with the SDK",
            MEMORY_BYTES_MAX >> 30
        ),
    }
}

/// The line at the start, and what follows it.
fn taken_apart<T: for<'a> Deserialize<'a>>(bytes: &[u8]) -> Option<(T, &[u8])> {
    let at = bytes.iter().position(|&byte| byte == b'\n')?;
    Some((serde_json::from_slice(&bytes[..at]).ok()?, &bytes[at + 1..]))
}

/// Does one piece of work, asked on stdin. The process has no other use: its limits are lowered for good.
///
/// # Errors
/// Those of stdin and stdout.
pub fn serve() -> io::Result<()> {
    limit_this_process();
    let mut asked = Vec::new();
    io::stdin().lock().read_to_end(&mut asked)?;
    let (order, bytes) = taken_apart::<Order>(&asked)
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "this command is for the server's own use"))?;
    let (answer, made) = match work_on(&order, bytes) {
        Ok(made) => (Answer::Made, made),
        Err(answer) => (answer, Vec::new()),
    };
    let mut stdout = io::stdout().lock();
    serde_json::to_writer(&mut stdout, &answer)?;
    stdout.write_all(b"\n")?;
    stdout.write_all(&made)?;
    stdout.flush()
}

fn work_on(order: &Order, bytes: &[u8]) -> Result<Vec<u8>, Answer> {
    let &Order { work, upload_bytes_max, stack_bytes_max } = order;
    let settings = EngineSettings { upload_bytes_max, stack_bytes_max, ..EngineSettings::default() };
    match work {
        Work::Inspect => super::inspect::inspect(bytes, upload_bytes_max)
            .map(|checked| checked.component)
            .map_err(|rejected| Answer::Refused(rejected.reasons)),
        Work::Compile => {
            let engine = Engine::new(settings).map_err(|error| Answer::Failed(error.to_string()))?;
            engine.precompile(bytes).map_err(|message| Answer::Refused(vec![message]))
        }
    }
}

/// Ends with the server, yields to its tasks, leaves no core dump, and uses up no more than is meant.
fn limit_this_process() {
    let limit = |resource, soft: u64, hard: u64| {
        let limit = libc::rlimit { rlim_cur: soft, rlim_max: hard };
        // SAFETY: reads one living struct. A refusal leaves the limit that there was.
        unsafe { libc::setrlimit(resource, &raw const limit) };
    };
    limit(libc::RLIMIT_CPU, CPU_SECONDS_MAX, CPU_SECONDS_MAX + 1);
    limit(libc::RLIMIT_AS, MEMORY_BYTES_MAX, MEMORY_BYTES_MAX);
    limit(libc::RLIMIT_CORE, 0, 0);
    // SAFETY: no pointers; a refusal changes nothing.
    unsafe {
        libc::setpriority(libc::PRIO_PROCESS, 0, NICENESS);
        #[cfg(target_os = "linux")]
        libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(program: &str) -> Error {
        Apart::new(program.into()).run(Work::Compile, &EngineSettings::default(), b"bytes").unwrap_err()
    }

    #[test]
    fn a_process_that_dies_or_says_nothing_is_a_reason_against_the_module() {
        let dir = tempfile::tempdir().unwrap();
        let script = |name: &str, text: &str| {
            use std::os::unix::fs::PermissionsExt;
            let path = dir.path().join(name);
            std::fs::write(&path, text).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o700)).unwrap();
            path.display().to_string()
        };
        let crash = run(&script("crash", "#!/bin/sh\nkill -ABRT $$\n"));
        assert!(matches!(&crash, Error::Rejected(_)), "{crash}");
        assert!(crash.to_string().contains("signal: 6"), "{crash}");
        let slow = run(&script("slow", "#!/bin/sh\nkill -XCPU $$\n")).to_string();
        assert!(slow.contains("took more than 120 s"), "{slow}");
        let mute = run(&script("mute", "#!/bin/sh\nexit 0\n"));
        assert!(matches!(mute, Error::Rejected(_)), "{mute}");
        let half = run(&script("half", "#!/bin/sh\ncat > /dev/null\necho '\"Made\"'\nkill -SEGV $$\n"));
        assert!(matches!(half, Error::Rejected(_)), "what a dying process made is not used: {half}");
    }

    #[test]
    fn what_the_system_does_to_a_process_is_not_held_against_the_module() {
        let dir = tempfile::tempdir().unwrap();
        for (name, end) in [("killed", "kill -KILL $$"), ("failed", "echo '{\"Failed\":\"no threads\"}'")] {
            use std::os::unix::fs::PermissionsExt;
            let path = dir.path().join(name);
            std::fs::write(&path, format!("#!/bin/sh\ncat > /dev/null\n{end}\n")).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o700)).unwrap();
            let error = run(&path.display().to_string());
            assert_eq!(error.kind(), crate::error::Kind::Retry, "{name}: {error}");
        }
    }

    #[test]
    fn only_so_many_processes_run_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("count");
        use std::os::unix::fs::PermissionsExt;
        // Each leaves a file while it runs, and tells how many there are.
        let script = format!(
            "#!/bin/sh\ncat > /dev/null\ncd {}\ntouch run.$$\necho '\"Made\"'\nls run.* | wc -l\nrm run.$$\n",
            dir.path().display()
        );
        std::fs::write(&path, script).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o700)).unwrap();
        let apart = Apart::new(path);
        std::thread::scope(|scope| {
            let runs: Vec<_> = (0..8)
                .map(|_| scope.spawn(|| apart.run(Work::Inspect, &EngineSettings::default(), b"bytes").unwrap()))
                .collect();
            for run in runs {
                let seen: usize = String::from_utf8(run.join().unwrap()).unwrap().trim().parse().unwrap();
                assert!(seen <= AT_ONCE, "{seen} at once");
            }
        });
    }

    #[test]
    fn a_process_that_cannot_be_started_is_not_held_against_the_module() {
        let error = run("/nowhere/forebay");
        assert!(matches!(error, Error::Process { .. }), "{error}");
        assert!(error.to_string().contains("start /nowhere/forebay"), "{error}");
    }
}
