//! Brokers as processes: started, signalled, waited for.
//!
//! Owns that a broker dies with the process that started it, even by kill -9: the kernel is asked to kill it when
//! its parent's thread ends. That is a thread of our own which lives as long as the process; a test's own thread
//! ends with the test, while the cluster goes on.

use std::fs;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::mpsc::{Sender, channel};
use std::time::{Duration, Instant};

const POLL: Duration = Duration::from_millis(20);
/// Of a signal: generous, since the machine may be busy.
const PATIENCE: Duration = Duration::from_secs(20);

/// One broker's process.
pub enum Process {
    Ours(Child),
    /// Outlives whoever started it; known by its id and by a path in its command line.
    Detached {
        pid: u32,
        mark: PathBuf,
    },
}

impl Process {
    /// Starts a broker that dies when this process does.
    pub fn bound(command: Command, log: &Path) -> Result<Process, String> {
        spawn(command, log, true).map(Process::Ours)
    }

    /// Starts a broker that goes on when this process ends. `mark` is a path that is in its command line.
    pub fn detached(command: Command, log: &Path, mark: &Path) -> Result<Process, String> {
        let child = spawn(command, log, false)?;
        Ok(Process::Detached { pid: child.id(), mark: mark.to_owned() })
    }

    /// The process with this id, if it still is the one with that mark.
    pub fn found(pid: u32, mark: &Path) -> Option<Process> {
        let mut process = Process::Detached { pid, mark: mark.to_owned() };
        process.is_alive().then_some(process)
    }

    pub fn pid(&self) -> u32 {
        match self {
            Process::Ours(child) => child.id(),
            Process::Detached { pid, .. } => *pid,
        }
    }

    pub fn is_alive(&mut self) -> bool {
        match self {
            Process::Ours(child) => matches!(child.try_wait(), Ok(None)),
            Process::Detached { pid, mark } => {
                let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
                String::from_utf8_lossy(&line).contains(&mark.display().to_string())
            }
        }
    }

    pub fn signal(&mut self, signal: libc::c_int) -> Result<(), String> {
        if !self.is_alive() {
            return Err(format!("send signal {signal} to process {}: it has ended", self.pid()));
        }
        // SAFETY: a call with two numbers. The id is that of a child not yet waited for, or was just looked at.
        let outcome = unsafe { libc::kill(self.pid() as libc::pid_t, signal) };
        let error = io::Error::last_os_error();
        if outcome == 0 { Ok(()) } else { Err(format!("send signal {signal} to process {}: {error}", self.pid())) }
    }

    /// SIGSTOP, and waits until all its threads stand still: the system returns before they do, and one of them might
    /// still answer.
    pub fn pause(&mut self) -> Result<(), String> {
        self.signal(libc::SIGSTOP)?;
        let deadline = Instant::now() + PATIENCE;
        while !self.stands_still() {
            if Instant::now() > deadline {
                return Err(format!("stop process {}: it still runs after {} s", self.pid(), PATIENCE.as_secs()));
            }
            // sleep: the system tells nobody but a parent that waits for it
            std::thread::sleep(POLL);
        }
        Ok(())
    }

    fn stands_still(&self) -> bool {
        let threads = fs::read_dir(format!("/proc/{}/task", self.pid())).into_iter().flatten().flatten();
        // `ID (NAME) STATE …`, where a name may hold anything.
        threads.filter_map(|thread| fs::read_to_string(thread.path().join("stat")).ok()).all(|stat| {
            let state = stat.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next());
            state.is_some_and(|state| "TtXZ".contains(state))
        })
    }

    /// Whether it has ended by then.
    pub fn wait(&mut self, at_most: Duration) -> bool {
        let deadline = Instant::now() + at_most;
        while self.is_alive() {
            if Instant::now() > deadline {
                return false;
            }
            // sleep: the system tells a parent of its children's ends, and nobody else
            std::thread::sleep(POLL);
        }
        true
    }

    /// kill -9, and waits until the system has taken it down: its ports and files are free then.
    pub fn kill(&mut self) -> Result<(), String> {
        if self.signal(libc::SIGKILL).is_err() && !self.is_alive() {
            return Ok(());
        }
        if self.wait(PATIENCE) {
            return Ok(());
        }
        Err(format!("kill process {}: it is still there after {} s", self.pid(), PATIENCE.as_secs()))
    }
}

type Order = (Command, Sender<io::Result<Child>>);

fn spawn(mut command: Command, log: &Path, bound: bool) -> Result<Child, String> {
    let open = || fs::File::options().create(true).append(true).open(log);
    let file = open().map_err(|error| format!("open {}: {error}", log.display()))?;
    let copy = file.try_clone().map_err(|error| format!("open {}: {error}", log.display()))?;
    command.stdin(Stdio::null()).stdout(file).stderr(copy);
    let parent = std::process::id();
    // SAFETY: only calls that are allowed between fork and exec.
    unsafe {
        command.pre_exec(move || {
            // A session of its own: a Ctrl-C in the terminal is for the tests.
            libc::setsid();
            if bound {
                libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
                // The parent may have died before the kernel was asked.
                if libc::getppid() as u32 != parent {
                    libc::_exit(1);
                }
            }
            Ok(())
        });
    }
    static SPAWNER: OnceLock<Sender<Order>> = OnceLock::new();
    let spawner = SPAWNER.get_or_init(|| {
        let (orders, received) = channel::<Order>();
        std::thread::spawn(move || {
            for (mut command, answer) in received {
                let _ = answer.send(command.spawn());
            }
        });
        orders
    });
    let (answer, answered) = channel();
    let gone = |_| "start a broker: the thread that does it has ended".to_owned();
    spawner.send((command, answer)).map_err(|error| gone(error.to_string()))?;
    let child = answered.recv().map_err(|error| gone(error.to_string()))?;
    child.map_err(|error| format!("start a broker: {error}"))
}
