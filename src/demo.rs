//! `ferric demo`: Ferric and a simulated fleet in one process; the demo itself speaks only HTTP to Ferric.

mod api;
mod screen;
mod waves;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

use ferric_sim::{BootSource, Chance, Ramdisk};

use crate::Failure;
use crate::cli::DemoArgs;
use crate::config::value::Input;
use crate::config::{Loaded, Source};
use crate::lock::DataLock;
use crate::simulate::{fleet_options, start_fleet};

/// Size of the image that is deployed: large enough to watch, small enough for a wave in seconds.
const IMAGE_BYTES: usize = 8 << 20;
/// Lies in every folder that a demo has made: what else is in there is the demo's own.
const MARKER: &str = "made-by-ferric-demo";

/// Runs the demo.
pub(crate) async fn run(args: DemoArgs, io: tokio::runtime::Handle) -> Result<ExitCode, Failure> {
    let folder = DataDir::new(args.data_dir.clone())?;
    let lock = DataLock::take(&folder.path)?;
    let mut loaded = Loaded::read(None, crate::environment(), &args.set)?;
    configure(&mut loaded, &args, &folder.path)?;
    let config = loaded.config;

    let stop = crate::wire::stop_wanted()?;
    let options = fleet_options(&config, args.nodes, args.seed, args.faults.as_deref())?;
    if options.ramdisk == Ramdisk::Bash {
        return Err(Failure(
            "sim.ramdisk = \"bash\" is for ferric sim: the demo deploys with agents; leave it away"
                .to_owned(),
        ));
    }
    let fleet = Arc::new(start_fleet(options, &io).await?);
    let ferric = crate::wire::start(&config, &folder.path, lock, &io).await?;
    let url = format!("http://{}", ferric.api);
    fleet.set_api_url(&url);
    let places = crate::wire::Places::new(&config, &folder.path);
    // the demo opens no boot servers: the machines' firmware reads the files where these would
    fleet.set_boot_source(BootSource::Folders(vec![places.http_root, places.tftp_root]));

    let image = waves::Image::new(&fleet, args.seed, IMAGE_BYTES);
    let began = Instant::now();
    let demo =
        waves::Demo::new(api::Api::new(&url)?, fleet.clone(), image, Chance::new(args.seed, 0xdec0), began);
    let screen = screen::Screen::new(&url, &folder.path, began);
    // the demo's requests live on the I/O threads, so that the API is spoken to from outside of its own
    let mut work = io.spawn(demo.run(args.once, screen));
    let result = tokio::select! {
        result = &mut work => result?,
        signal = stop => {
            work.abort();
            // its end gives the terminal back
            let _ = work.await;
            println!("stopped by {signal}");
            Ok(if args.once { ExitCode::FAILURE } else { ExitCode::SUCCESS })
        }
    };
    // Ferric first: it says goodbye to BMCs that still answer
    ferric.stop().await;
    drop(fleet);
    result
}

/// What the demo needs otherwise than `ferric serve`; what the user set stays.
fn configure(loaded: &mut Loaded, args: &DemoArgs, folder: &Path) -> Result<(), Failure> {
    let kernel = folder.join("simulated-kernel");
    let ramdisk = folder.join("simulated-ramdisk");
    for path in [&kernel, &ramdisk] {
        // simulated machines read neither: Ferric wants to lay them out all the same
        std::fs::write(path, b"a simulated machine reads no boot files\n")
            .map_err(|source| crate::wire::WireError::DataDir { path: path.clone(), source })?;
    }
    for (section, key, value) in [
        ("api", "host_ip", args.listen.ip().to_string()),
        ("api", "port", args.listen.port().to_string()),
        ("agent", "require_tls", "false".to_owned()),
        ("conductor", "automated_clean", "false".to_owned()),
        ("conductor", "deploy_kernel", kernel.display().to_string()),
        ("conductor", "deploy_ramdisk", ramdisk.display().to_string()),
        ("conductor", "graceful_shutdown_timeout", "1".to_owned()),
    ] {
        if loaded.source(section, key) == Source::Default {
            loaded.set(section, key, Input::Text(&value), Source::Command("demo"))?;
        }
    }
    Ok(())
}

/// The folder for the data; a temporary one goes away with this value.
struct DataDir {
    path: PathBuf,
    temporary: bool,
}

impl DataDir {
    fn new(chosen: Option<PathBuf>) -> Result<Self, Failure> {
        let temporary = chosen.is_none();
        let path = chosen.unwrap_or_else(|| {
            std::env::temp_dir().join(format!(
                "ferric-demo-{}-{}",
                std::process::id(),
                uuid::Uuid::new_v4().simple()
            ))
        });
        let unusable = |source| crate::wire::WireError::DataDir { path: path.clone(), source };
        std::fs::create_dir_all(&path).map_err(unusable)?;
        let marker = path.join(MARKER);
        if !marker.exists() {
            if std::fs::read_dir(&path).map_err(unusable)?.next().is_some() {
                return Err(Failure(format!(
                    "{} holds data that no demo has made, and a demo would enrol and deploy its machines there; \
                     choose a new folder with --data-dir, or leave it away",
                    path.display()
                )));
            }
            std::fs::write(
                marker,
                b"ferric demo works here; the folder may be removed when it does not run\n",
            )
            .map_err(unusable)?;
        }
        Ok(Self { path: std::path::absolute(&path)?, temporary })
    }
}

impl Drop for DataDir {
    fn drop(&mut self) {
        if self.temporary {
            // nothing to be done about a failure, and nothing lost
            let _ = std::fs::remove_dir_all(&self.path);
        }
    }
}
