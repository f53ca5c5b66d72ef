//! The `ferric` program: joins the rooms, decides nothing.

/// Writes a line to stdout; a reader that went away (`ferric doctor | head`) is no error, as it is for std's macro of
/// this name.
macro_rules! println {
    ($($words:tt)*) => { $crate::print(&format!("{}\n", format_args!($($words)*))) };
}

/// The same without an end of the line.
macro_rules! print {
    ($($words:tt)*) => { $crate::print(&format!($($words)*)) };
}

mod cli;
mod config;
mod database;
mod demo;
mod doctor;
mod lock;
mod log;
#[allow(unreachable_pub)] // written to be usable as a module of other programs
mod ramdisk;
mod simulate;
mod swarm;
mod wire;

use std::process::ExitCode;
use std::time::Duration;

use clap::Parser as _;

use cli::{
    Cli, Command, ConfigArgs, ConfigCommand, DbCommand, Kernel, RamdiskArgs, RamdiskCommand, StatesFormat,
};
use config::Loaded;

/// Why a command failed, for people: what happened, its causes, what to do.
#[derive(Debug)]
struct Failure(String);

impl<E: std::error::Error> From<E> for Failure {
    fn from(error: E) -> Self {
        let mut text = error.to_string();
        let mut cause = error.source();
        while let Some(inner) = cause {
            // some libraries repeat their cause in their own text
            let words = inner.to_string();
            if !text.contains(&words) {
                text = format!("{text}: {words}");
            }
            cause = inner.source();
        }
        Self(text)
    }
}

fn main() -> ExitCode {
    if let Err(Failure(text)) = swarm::end_with_parent() {
        eprintln!("ferric: {text}");
        return ExitCode::FAILURE;
    }
    let cli = Cli::parse();
    log::start(&cli);
    // whoever makes a TLS connection finds this; a second call cannot happen here
    let _ = rustls::crypto::ring::default_provider().install_default();
    match run(cli.command) {
        Ok(code) => code,
        Err(Failure(text)) => {
            eprintln!("ferric: {text}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> Result<ExitCode, Failure> {
    match command {
        Command::Serve(from) => {
            let loaded = load(&from)?;
            on_actix(|io| async move { wire::serve_until_signal(loaded.config, &from.data_dir, io).await })?;
        }
        Command::Demo(args) => return on_actix(|io| demo::run(args, io)),
        Command::Sim(args) => on_actix(|io| simulate::run(args, io))?,
        Command::Swarm(args) => return swarm::run(*args),
        Command::Ramdisk(RamdiskCommand::Build(args)) => build_ramdisk(args)?,
        Command::States { format } => {
            let text = match format {
                StatesFormat::Dot => ferric_machine::export::dot(),
                StatesFormat::Json => ferric_machine::export::json(),
                StatesFormat::Md => ferric_machine::export::markdown(),
            };
            print(&text);
        }
        Command::Db(DbCommand::Migrate(from)) => {
            let options = wire::store_options(&load(&from)?.config, &from.data_dir);
            let _lock = lock::DataLock::take(&from.data_dir)?;
            let done = database::migrate(&options)?;
            for step in &done {
                println!("applied {step}");
            }
            println!("the tables are up to date ({} steps applied)", done.len());
        }
        Command::Db(DbCommand::Check(from)) => {
            database::check(&wire::store_options(&load(&from)?.config, &from.data_dir))?;
            println!("the database answers, and its tables fit this program");
        }
        Command::Doctor(from) => return Ok(doctor::run(&from)),
        Command::Config(ConfigCommand::Show { from, explain }) => print(&load(&from)?.show(explain)),
    }
    Ok(ExitCode::SUCCESS)
}

fn load(from: &ConfigArgs) -> Result<Loaded, Failure> {
    Ok(Loaded::read(from.config.as_deref(), environment(), &from.set)?)
}

/// The environment; what is not text is not ours.
fn environment() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
}

fn build_ramdisk(args: RamdiskArgs) -> Result<(), Failure> {
    let kernel_flavour = match args.kernel {
        Kernel::Cloud => ramdisk::KernelFlavour::Cloud,
        Kernel::Generic => ramdisk::KernelFlavour::Generic,
    };
    let cache = args.cache.unwrap_or_else(|| args.out.join("packages"));
    let options = ramdisk::RamdiskOptions { out: args.out, agent: args.agent, kernel_flavour, cache };
    let built = ramdisk::build(&options)?;
    println!("{}", built.kernel.display());
    println!("{}", built.initramfs.display());
    println!(
        "Linux {} ({}) with {} modules, {:.1} MB together",
        built.release,
        kernel_flavour.name(),
        built.modules,
        built.bytes as f64 / 1e6
    );
    if !built.modules_left_out.is_empty() {
        println!("not in this kernel: {}", built.modules_left_out.join(" "));
    }
    if !built.tools_left_out.is_empty() {
        println!("left out, as the package is not installed here: {}", built.tools_left_out.join(", "));
    }
    Ok(())
}

/// Runs `work` inside an actix system on this thread; it gets the threads that sockets and timers live on.
fn on_actix<T, W>(work: impl FnOnce(tokio::runtime::Handle) -> W) -> Result<T, Failure>
where
    W: Future<Output = Result<T, Failure>>,
{
    let io = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name("ferric-io")
        .enable_all()
        .build()?;
    let result = actix::System::new().block_on(work(io.handle().clone()));
    // outside of any async context, where waiting is allowed
    io.shutdown_timeout(Duration::from_secs(1));
    result
}

/// Writes to stdout; a reader that went away (`ferric states | head`) is no error.
fn print(text: &str) {
    use std::io::Write as _;
    let _ = std::io::stdout().write_all(text.as_bytes());
}
