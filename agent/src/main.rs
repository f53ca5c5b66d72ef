//! `ferric-agent`: see `--help`.

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use ferric_agent::console::{self, say};
use ferric_agent::options::{HELP, Options, OptionsError, RAMDISK_MARKER};
use ferric_agent::{VERSION, agent, error};
use nix::sys::reboot::{RebootMode, reboot};

fn main() -> ExitCode {
    let flags: Vec<String> = std::env::args().skip(1).collect();
    if flags.iter().any(|flag| flag == "--help" || flag == "-h") {
        println!("{HELP}");
        return ExitCode::SUCCESS;
    }
    if flags.iter().any(|flag| flag == "--version") {
        println!("{VERSION}");
        return ExitCode::SUCCESS;
    }
    let options = match options(flags) {
        Ok(options) => options,
        Err(error) => {
            eprintln!("ferric-agent: {error}");
            return ExitCode::from(2);
        }
    };
    let print = options.debug;
    let level = if print { tracing::Level::DEBUG } else { tracing::Level::INFO };
    tracing_subscriber::fmt()
        .with_max_level(level)
        .with_ansi(false)
        .with_writer(move || console::Log { print })
        .init();
    say(format!("started version={VERSION}"));
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            say(format!("no runtime: {error}"));
            return ExitCode::FAILURE;
        }
    };
    match runtime.block_on(agent::run(options)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(format!("gave up: {}", error::chain(&error)));
            ExitCode::FAILURE
        }
    }
}

/// A deploy ramdisk is told everything by its kernel command line; flags come on top.
fn options(flags: Vec<String>) -> Result<Options, OptionsError> {
    let mut options = Options::new("");
    options.machine = Path::new(RAMDISK_MARKER).exists();
    if options.machine {
        options.read_kernel_line(&std::fs::read_to_string("/proc/cmdline").unwrap_or_default());
        options.rescue_etc = Some("/etc".into());
        options.power_off = Arc::new(|| {
            let Err(error) = reboot(RebootMode::RB_POWER_OFF);
            say(format!("power off failed: {error}"));
        });
    }
    options.read_flags(flags)?;
    options.check()?;
    Ok(options)
}
