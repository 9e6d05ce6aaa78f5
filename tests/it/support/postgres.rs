//! A PostgreSQL server of a test's own, to be crashed and stopped.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// Gone with its handle, and its data with it.
pub struct PostgresServer {
    programs: PathBuf,
    folder: TempDir,
    port: u16,
    /// PostgreSQL refuses root: user and group to run as instead.
    owner: Option<(u32, u32)>,
    server: Child,
}

impl PostgresServer {
    pub fn start() -> Self {
        let programs = programs().expect("PostgreSQL's own programs, as scripts/with-postgres installs them");
        let owner = (id("-u", None) == Some(0)).then(|| {
            let user = ["postgres", "nobody"].into_iter().find(|user| id("-u", Some(user)).is_some());
            let of = |what| id(what, user).expect("a user other than root");
            (of("-u"), of("-g"))
        });
        let folder = TempDir::new_in("/tmp").expect("a temporary folder");
        if let Some((user, group)) = owner {
            std::os::unix::fs::chown(folder.path(), Some(user), Some(group)).expect("a folder of the server's user");
        }
        let port = std::net::TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address").port();
        let mut made = command(&programs.join("initdb"), owner);
        made.arg("--pgdata").arg(folder.path().join("data"));
        let made = made
            .args(["--username=postgres", "--auth=trust", "--encoding=UTF8", "--locale=C"])
            .output()
            .expect("initdb");
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let server = launch(&programs, &folder, port, owner);
        let mut started = Self { programs, folder, port, owner, server };
        started.wait_until_ready();
        started
    }

    pub fn url(&self) -> String {
        format!("postgres://postgres@127.0.0.1:{}/postgres", self.port)
    }

    /// Ends at once, without a word to anybody and without writing what it holds: `pg_ctl stop -m immediate`.
    pub fn crash(&mut self) {
        signal("-QUIT", self.server.id());
        self.server.wait().expect("an ended server");
    }

    /// Starts again and recovers.
    pub fn restart(&mut self) {
        self.server = launch(&self.programs, &self.folder, self.port, self.owner);
        self.wait_until_ready();
    }

    /// Stops all of its processes where they are, for a while.
    pub fn stall(&self, time: Duration) {
        let children = fs::read_to_string(format!("/proc/{0}/task/{0}/children", self.server.id())).unwrap_or_default();
        let all: Vec<u32> =
            children.split_whitespace().filter_map(|pid| pid.parse().ok()).chain([self.server.id()]).collect();
        // One may end between the two.
        all.iter().for_each(|pid| signal("-STOP", *pid));
        std::thread::sleep(time);
        all.iter().for_each(|pid| signal("-CONT", *pid));
    }

    fn wait_until_ready(&mut self) {
        let begun = Instant::now();
        // The eighth line of this file is the server's word for its state.
        let state = self.folder.path().join("data/postmaster.pid");
        while !fs::read_to_string(&state)
            .is_ok_and(|text| text.lines().nth(7).is_some_and(|line| line.starts_with("ready")))
        {
            let log = || fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
            assert!(self.server.try_wait().expect("a process").is_none(), "the server ended: {}", log());
            assert!(begun.elapsed() < Duration::from_secs(60), "the server does not start: {}", log());
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for PostgresServer {
    fn drop(&mut self) {
        signal("-QUIT", self.server.id());
        let _ = self.server.wait();
    }
}

fn launch(programs: &Path, folder: &TempDir, port: u16, owner: Option<(u32, u32)>) -> Child {
    let log = fs::File::options().create(true).append(true).open(folder.path().join("log")).expect("a log");
    command(&programs.join("postgres"), owner)
        .arg("-D")
        .arg(folder.path().join("data"))
        .args([
            "-p",
            &port.to_string(),
            "-c",
            "listen_addresses=127.0.0.1",
            "-c",
            "unix_socket_directories=",
            "-c",
            "fsync=on",
        ])
        .stdin(Stdio::null())
        .stdout(log.try_clone().expect("the log"))
        .stderr(log)
        .spawn()
        .expect("a server")
}

fn command(program: &Path, owner: Option<(u32, u32)>) -> Command {
    let mut command = Command::new(program);
    command.current_dir("/");
    if let Some((user, group)) = owner {
        command.uid(user).gid(group);
    }
    command
}

/// Sends a signal; to a process that has ended meanwhile, none.
pub fn signal(name: &str, pid: u32) {
    let _ = Command::new("kill").args([name, &pid.to_string()]).stderr(Stdio::null()).status();
}

fn id(what: &str, user: Option<&str>) -> Option<u32> {
    let output = Command::new("id").arg(what).args(user).output().ok()?;
    String::from_utf8(output.stdout).ok()?.trim().parse().ok()
}

/// Where `initdb` is: on the path, or the newest of those that are not.
fn programs() -> Option<PathBuf> {
    let on_path = std::env::var_os("PATH")?;
    let mut folders: Vec<PathBuf> = std::env::split_paths(&on_path).collect();
    let mut installed: Vec<(u32, PathBuf)> = fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| Some((entry.file_name().to_str()?.parse().ok()?, entry.path().join("bin"))))
        .collect();
    installed.sort();
    folders.extend(installed.into_iter().rev().map(|(_, folder)| folder));
    folders.into_iter().find(|folder| folder.join("initdb").exists() && folder.join("postgres").exists())
}
