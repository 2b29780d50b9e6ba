//! The stores: started on the loopback, with everything in a folder of this run.

use std::fs;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use tokio::time::Instant;

use crate::delay;

/// A store to measure on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    File,
    SeaweedFs,
    Minio,
    LocalStack,
}

/// A store, near or far.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Setting {
    pub(crate) name: &'static str,
    kind: Kind,
    /// What is added to every request.
    delay: Duration,
}

const NEAR: Duration = Duration::ZERO;
const FAR: Duration = Duration::from_millis(30);

/// Every setting, in the order of the columns.
pub(crate) const SETTINGS: [Setting; 6] = [
    Setting::new("file", Kind::File, NEAR),
    Setting::new("seaweedfs", Kind::SeaweedFs, NEAR),
    Setting::new("minio", Kind::Minio, NEAR),
    Setting::new("localstack", Kind::LocalStack, NEAR),
    Setting::new("seaweedfs+30", Kind::SeaweedFs, FAR),
    Setting::new("minio+30", Kind::Minio, FAR),
];

impl Setting {
    const fn new(name: &'static str, kind: Kind, delay: Duration) -> Setting {
        Setting { name, kind, delay }
    }

    /// The setting of this name.
    pub(crate) fn named(name: &str) -> Result<Setting> {
        let names = SETTINGS.map(|setting| setting.name).join(", ");
        let found = SETTINGS.into_iter().find(|setting| setting.name == name);
        found.with_context(|| format!("no setting is called {name}; there are {names}"))
    }
}

/// Where the programs of `tests/setup` are.
pub(crate) struct Programs(PathBuf);

impl Programs {
    /// `$WEIR_SETUP_DIR`, or `target/setup`.
    pub(crate) fn find() -> Programs {
        let named = std::env::var_os("WEIR_SETUP_DIR").map(PathBuf::from);
        let usual = || Path::new(env!("CARGO_MANIFEST_DIR")).join("target/setup");
        Programs(named.unwrap_or_else(usual))
    }

    /// The folder itself.
    pub(crate) fn folder(&self) -> &Path {
        &self.0
    }

    pub(crate) fn program(&self, name: &str) -> Result<PathBuf> {
        let places = ["bin", "venv/bin", "weed/bin"].map(|place| self.0.join(place));
        let path = std::env::var_os("PATH").unwrap_or_default();
        let mut candidates = places.into_iter().chain(std::env::split_paths(&path));
        let found = candidates.find_map(|place| Some(place.join(name)).filter(|p| p.is_file()));
        found.with_context(|| {
            format!(
                "{name} is not installed; `tests/setup --bench` installs it, competitors with --competitors"
            )
        })
    }

    /// What the programs say of their versions, for those that are there.
    pub(crate) fn versions(&self) -> Vec<String> {
        let said = |name: &str, argument: &str| {
            let program = self.program(name).ok()?;
            let output = Command::new(program).arg(argument).output().ok()?;
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            text.lines().next().map(str::to_owned)
        };
        let localstack = || {
            let python = self.0.join("localstack/bin/python");
            let print =
                "import importlib.metadata as m; print('LocalStack', m.version('localstack-core'))";
            let output = Command::new(python).args(["-c", print]).output().ok()?;
            let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
            Some(text).filter(|text| !text.is_empty())
        };
        let kafka = || {
            let jars = fs::read_dir(self.0.join("reference")).ok()?;
            let mut names = jars.filter_map(|jar| jar.ok()?.file_name().into_string().ok());
            let name = names.find(|name| name.starts_with("kafka-clients-"))?;
            Some(format!("Apache Kafka: {}", name.trim_end_matches(".jar")))
        };
        let all = [
            said("weed", "version").map(|version| format!("SeaweedFS {version}")),
            said("minio", "--version").map(|version| format!("MinIO {version}")),
            localstack(),
            said("tansu", "--version"),
            said("s2", "--version").map(|version| format!("S2 lite: {version}")),
            kafka(),
        ];
        all.into_iter().flatten().collect()
    }
}

/// A store that runs, until it is dropped.
pub(crate) struct RunningStore {
    server: Option<Child>,
    /// The URL without a prefix.
    pub(crate) url: String,
    /// For the processes that use it.
    pub(crate) environment: Vec<(&'static str, String)>,
    /// Deleted in the end: a run may write many gigabytes.
    folder: PathBuf,
}

impl Drop for RunningStore {
    fn drop(&mut self) {
        if let Some(server) = &mut self.server {
            // It may have ended by itself.
            let _ = server.kill();
            let _ = server.wait();
        }
        let _ = fs::remove_dir_all(&self.folder);
    }
}

impl RunningStore {
    /// Starts the store of a setting in `folder`, which is made.
    pub(crate) async fn start(
        setting: Setting,
        programs: &Programs,
        folder: &Path,
    ) -> Result<RunningStore> {
        fs::create_dir_all(folder)?;
        let mut store = RunningStore {
            server: None,
            url: format!("file://{}", folder.display()),
            environment: Vec::new(),
            folder: folder.to_owned(),
        };
        if setting.kind == Kind::File {
            return Ok(store);
        }
        let near = free_address()?;
        let log = folder.with_extension("log");
        let mut command = command(setting.kind, programs, folder, near)?;
        let output = fs::File::create(&log)?;
        command
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output);
        store.server = Some(command.spawn()?);
        store.url = "s3://weir".to_owned();
        wait_for(near)
            .with_context(|| format!("the store did not start; see {}", log.display()))?;
        if setting.kind != Kind::Minio {
            create_bucket(near)?;
        }
        let address = match setting.delay {
            Duration::ZERO => near,
            delay => delay::listen(near, delay).await?,
        };
        let text = str::to_owned;
        store.environment = vec![
            ("AWS_ENDPOINT_URL", format!("http://{address}")),
            ("AWS_ACCESS_KEY_ID", text(KEY)),
            ("AWS_SECRET_ACCESS_KEY", text(KEY)),
            ("AWS_REGION", text("us-east-1")),
        ];
        Ok(store)
    }
}

/// The name and the secret of the one user of a store that only this run can reach.
const KEY: &str = "weir-bench";

fn command(kind: Kind, programs: &Programs, folder: &Path, at: SocketAddr) -> Result<Command> {
    let (host, port) = (at.ip().to_string(), at.port().to_string());
    Ok(match kind {
        Kind::File => bail!("the file store has no server"),
        Kind::Minio => {
            // A folder of MinIO's is a bucket.
            fs::create_dir_all(folder.join("weir"))?;
            let mut command = Command::new(programs.program("minio")?);
            let console = free_address()?.to_string();
            command
                .args(["server", "--quiet", "--address", &at.to_string()])
                .args(["--console-address", &console])
                .arg(folder)
                .envs([("MINIO_ROOT_USER", KEY), ("MINIO_ROOT_PASSWORD", KEY)]);
            command
        }
        Kind::SeaweedFs => {
            let ports: Vec<String> = (0..3)
                .map(|_| Ok(free_address()?.port().to_string()))
                .collect::<Result<_>>()?;
            let mut command = Command::new(programs.program("weed")?);
            command
                .arg("server")
                .arg(format!("-dir={}", folder.display()))
                .args([format!("-ip={host}"), format!("-ip.bind={host}")])
                .args(["-s3".to_owned(), format!("-s3.port={port}")])
                // They listen on ports of their own choice, and another one may run.
                .args(["-s3.port.iceberg=0", "-s3.port.lance=0"])
                .arg(format!("-master.port={}", ports[0]))
                .arg(format!("-volume.port={}", ports[1]))
                .arg(format!("-filer.port={}", ports[2]))
                .arg("-master.volumeSizeLimitMB=1024")
                // As many as fit on the disk. Eight are full before the last parts.
                .arg("-volume.max=0")
                // Without it a disk that is nearly full is not written to, which is no error but a hang.
                .arg("-volume.minFreeSpace=256MiB");
            command
        }
        Kind::LocalStack => {
            let mut command = Command::new(repository().join("localstack/start"));
            command
                .arg(programs.0.join("localstack"))
                .arg(folder)
                .arg(&port);
            command
        }
    })
}

fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn create_bucket(at: SocketAddr) -> Result<()> {
    let timeout = Duration::from_secs(60);
    let begun = Instant::now();
    loop {
        // A server may listen before it can do anything.
        let output = Command::new(repository().join("localstack/create-bucket"))
            .args(["weir", &format!("http://{at}")])
            .envs([("AWS_ACCESS_KEY_ID", KEY), ("AWS_SECRET_ACCESS_KEY", KEY)])
            .output()?;
        if output.status.success() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(
            begun.elapsed() < timeout,
            "cannot create the bucket: {said}"
        );
        std::thread::sleep(Duration::from_millis(200));
    }
}

/// An address on which nothing listens, nor 10,000 ports above, where SeaweedFS listens as well.
pub(crate) fn free_address() -> Result<SocketAddr> {
    for _ in 0..1000 {
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let above = address.port().checked_add(10_000);
        if above.is_some_and(|above| TcpListener::bind((address.ip(), above)).is_ok()) {
            return Ok(address);
        }
    }
    bail!("there is no free port")
}

fn wait_for(address: SocketAddr) -> Result<()> {
    let begun = Instant::now();
    while TcpStream::connect(address).is_err() {
        ensure!(
            begun.elapsed() < Duration::from_secs(60),
            "nothing listens on {address}"
        );
        std::thread::sleep(Duration::from_millis(100));
    }
    Ok(())
}
