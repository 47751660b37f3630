//! What the tests need beside the package: a Postgres of their own, and temporary SQLite files.
#![allow(dead_code, reason = "each test program uses its part of it")]

use std::env;
use std::fs;
use std::io::{self, Write};
use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use sqlx::{Connection, Executor};
use tempfile::TempDir;

/// Set by those who want a missing Postgres or browser to be a failure.
pub(crate) const ALL_TOOLS: &str = "DELAYED_JOBS_ALL_TOOLS";

/// Says that a test cannot run here, past the harness, which would keep it to itself.
pub(crate) fn say_loudly(what: &str) {
    let line = "*".repeat(100);
    let text = format!(
        "\n{line}\n*** NOT TESTED: {what}\n*** tools/install-test-tools brings it\n{line}\n"
    );
    io::stderr()
        .write_all(text.as_bytes())
        .expect("stderr takes text");
    assert!(
        env::var_os(ALL_TOOLS).is_none(),
        "{ALL_TOOLS} is set, but {what}"
    );
}

/// A Postgres server in a temporary folder, which ends with this process, however that ends.
pub(crate) struct Postgres {
    port: u16,
    dir: PathBuf,
    databases: AtomicU32,
    /// Its standard input is what tells the server's keeper that this process lives.
    keeper: Child,
}

/// Starts the server again at each line of its input, once it has ended. At the end of its input it stops the server and
/// takes its folder away.
const KEEPER: &str = r#"
start() {
    "$1" -D "$2/data" -k "$2" -p "$3" -c listen_addresses=127.0.0.1 -c "fsync=$4" -c max_connections=100 >>"$2/log" 2>&1 &
}
start "$@"
while read -r _; do
    wait
    start "$@"
done
kill -INT $!
wait
rm -rf "$2"
"#;

/// Does the server wait for the disk?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Disk {
    Waited,
    Trusted,
}

impl Postgres {
    /// Brings a server up, or says loudly that there is none.
    pub(crate) fn start(disk: Disk) -> Option<Postgres> {
        Postgres::start_with(disk, &[], "")
    }

    /// The same with further files in its folder, and lines of its configuration.
    pub(crate) fn start_with(
        disk: Disk,
        files: &[(&str, String)],
        configuration: &str,
    ) -> Option<Postgres> {
        let Some(bin) = server_binaries() else {
            say_loudly("no Postgres server (initdb and postgres) was found");
            return None;
        };
        let dir = tempfile::Builder::new()
            .prefix("delayed-jobs-pg")
            .tempdir()
            .expect("a folder");
        let dir = dir.keep();
        let run_as = |command: &mut Command| {
            // Postgres refuses to be root.
            if fs::metadata("/proc/self").is_ok_and(|me| me.uid() == 0) {
                command.uid(65534).gid(65534).current_dir("/");
                chown(&dir, Some(65534), Some(65534)).expect("the folder is given away");
            }
        };
        let mut initdb = Command::new(bin.join("initdb"));
        initdb.args([
            "-A",
            "trust",
            "-U",
            "postgres",
            "-E",
            "UTF8",
            "--no-locale",
            "--no-sync",
            "-D",
        ]);
        initdb.arg(dir.join("data"));
        run_as(&mut initdb);
        let made = initdb.output().expect("initdb runs");
        assert!(
            made.status.success(),
            "initdb: {}",
            String::from_utf8_lossy(&made.stderr)
        );

        for (name, text) in files {
            // It takes no key that is not its own.
            let path = dir.join("data").join(name);
            let owner = fs::metadata(dir.join("data")).expect("its folder");
            fs::write(&path, text).expect("a file");
            fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).expect("its rights");
            chown(&path, Some(owner.uid()), Some(owner.gid())).expect("it is given away");
        }
        let mut all = fs::OpenOptions::new();
        let all = all.append(true).open(dir.join("data/postgresql.conf"));
        let mut all = all.expect("its configuration");
        all.write_all(configuration.as_bytes())
            .expect("it is written");

        let free = TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr());
        let port = free.expect("a free port").port();
        let fsync = if disk == Disk::Waited { "on" } else { "off" };
        let mut keeper = Command::new("sh");
        keeper
            .args(["-c", KEEPER, "sh"])
            .arg(bin.join("postgres"))
            .arg(&dir);
        keeper
            .args([port.to_string().as_str(), fsync])
            .stdin(Stdio::piped());
        keeper.stdout(Stdio::null()).stderr(Stdio::null());
        run_as(&mut keeper);
        let server = Postgres {
            port,
            dir: dir.clone(),
            databases: AtomicU32::new(0),
            keeper: keeper.spawn().expect("sh runs"),
        };
        server.wait_until_up(&dir);
        Some(server)
    }

    fn wait_until_up(&self, dir: &Path) {
        let begun = Instant::now();
        while std::net::TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            let log = || fs::read_to_string(dir.join("log")).unwrap_or_default();
            assert!(
                begun.elapsed() < Duration::from_secs(30),
                "Postgres does not come up: {}",
                log()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Stops the server by a signal, and starts it again: INT lets it end in order, QUIT is like a crash.
    pub(crate) fn restart(&mut self, signal: &str) {
        let sent = Command::new("kill")
            .args([&format!("-{signal}"), &self.pid()])
            .status();
        assert!(sent.expect("kill runs").success());
        let keeper = self.keeper.stdin.as_mut().expect("it has an input");
        keeper.write_all(b"again\n").expect("the keeper lives");
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// What the server has told so far.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.dir.join("log")).unwrap_or_default()
    }

    /// The process of the server, which starts all others.
    pub(crate) fn pid(&self) -> String {
        let file = fs::read_to_string(self.dir.join("data/postmaster.pid"));
        let file = file.expect("a server has such a file");
        file.lines().next().unwrap_or_default().to_owned()
    }

    /// The address of a new, empty database.
    pub(crate) async fn database(&self) -> String {
        let address = |name: &str| format!("postgres://postgres@127.0.0.1:{}/{name}", self.port);
        let number = self.databases.fetch_add(1, Ordering::Relaxed);
        let name = format!("test_{}_{number}", std::process::id());
        let mut tries = 0;
        let mut client = loop {
            match sqlx::PgConnection::connect(&address("postgres")).await {
                Ok(connected) => break connected,
                // It listens before it lets in.
                Err(error) if tries == 100 => panic!("no connection: {error}"),
                Err(_) => tries += 1,
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        };
        let sql = format!("create database {name}");
        execute(&mut client, &sql).await;
        address(&name)
    }
}

/// A connection of one's own to a database.
pub(crate) async fn client(address: &str) -> sqlx::PgConnection {
    let client = sqlx::PgConnection::connect(address).await;
    client.expect("a connection")
}

/// Runs statements without parameters.
pub(crate) async fn execute(client: &mut sqlx::PgConnection, sql: &str) {
    let ran = client.execute(sqlx::AssertSqlSafe(sql.to_owned())).await;
    ran.expect("it runs");
}

/// Runs statements on a connection of their own.
pub(crate) async fn run(address: &str, sql: &str) {
    execute(&mut client(address).await, sql).await;
}

/// The server of this test program; started by the first test that asks for it.
pub(crate) fn postgres() -> Option<&'static Postgres> {
    static SERVER: OnceLock<Option<Postgres>> = OnceLock::new();
    SERVER
        .get_or_init(|| Postgres::start(Disk::Trusted))
        .as_ref()
}

/// The folder with `initdb` and `postgres`, the newest if there are several.
fn server_binaries() -> Option<PathBuf> {
    let mut versions: Vec<PathBuf> = fs::read_dir("/usr/lib/postgresql")
        .map(|versions| {
            versions
                .flatten()
                .map(|version| version.path().join("bin"))
                .collect()
        })
        .unwrap_or_default();
    versions.sort_by_key(|bin| {
        let version = bin.parent().and_then(|version| version.file_name());
        version.and_then(|version| version.to_str()?.parse::<u32>().ok())
    });
    let path = env::var_os("PATH").unwrap_or_default();
    let mut folders: Vec<PathBuf> = env::split_paths(&path).collect();
    folders.push("/usr/local/bin".into());
    let both = |bin: &PathBuf| bin.join("initdb").is_file() && bin.join("postgres").is_file();
    versions.into_iter().rev().chain(folders).find(both)
}

/// A path for a SQLite file, in a folder that goes with it.
pub(crate) fn sqlite() -> (TempDir, String) {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir
        .path()
        .join("jobs.db")
        .to_str()
        .expect("a path in UTF-8")
        .to_owned();
    (dir, path)
}

/// Waits until `what` is so, for a while that is long enough for any machine.
pub(crate) async fn until<F: Future<Output = bool>>(what: &str, is_so: impl Fn() -> F) {
    let begun = Instant::now();
    while !is_so().await {
        assert!(
            begun.elapsed() < Duration::from_secs(30),
            "not within 30 s: {what}"
        );
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
