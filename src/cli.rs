//! The command line.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

/// Bare-metal provisioning as a supervised actor system; speaks Ironic's REST API.
#[derive(Debug, Parser)]
#[command(
    name = "ferric",
    version,
    after_help = "Examples:\n  ferric demo                 the main job with nothing to prepare\n  ferric serve                run, with everything in ./ferric-data\n  ferric doctor               what is missing, and what to do about it"
)]
pub(crate) struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
    #[command(flatten)]
    pub(crate) log: LogArgs,
}

/// How Ferric tells what it does.
#[derive(Debug, Args)]
pub(crate) struct LogArgs {
    /// Log lines for people or for machines; they go to stderr.
    #[arg(long, global = true, value_enum, default_value = "text")]
    pub(crate) log_format: LogFormat,
    /// What to log, as in `info` or `info,ferric_actors=debug`; also from the environment, FERRIC_LOG.
    #[arg(long, global = true, env = "FERRIC_LOG", value_parser = crate::log::check_filter)]
    pub(crate) log: Option<String>,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum LogFormat {
    /// For people.
    Text,
    /// One JSON object per line.
    Json,
}

/// Where the configuration comes from.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct ConfigArgs {
    /// Configuration file (TOML). Without one the defaults hold.
    #[arg(long, value_name = "FILE", env = "FERRIC_CONFIG")]
    pub(crate) config: Option<PathBuf>,
    /// Sets one option, over the file and the environment; lists are a,b or TOML arrays. Repeatable.
    #[arg(long, value_name = "SECTION.KEY=VALUE")]
    pub(crate) set: Vec<String>,
    /// Where the database, boot files and leases go unless configured otherwise.
    #[arg(long, value_name = "DIR", default_value = "ferric-data")]
    pub(crate) data_dir: PathBuf,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run: API, conductor, and the boot servers that are switched on.
    #[command(
        after_help = "Examples:\n  ferric serve\n  ferric serve --config /etc/ferric/ferric.toml\n  ferric serve --set api.host_ip=0.0.0.0 --set api.port=6386\n  FERRIC_API__PORT=6386 ferric serve"
    )]
    Serve(ConfigArgs),
    /// The main job with nothing to prepare: serve, plus simulated machines that are enrolled and deployed in waves.
    #[command(
        after_help = "Examples:\n  ferric demo                       24 machines, until Ctrl-C\n  ferric demo --nodes 200\n  ferric demo --once --seed 1       one wave; exit code 0 when every machine is active"
    )]
    Demo(DemoArgs),
    /// The simulated machines alone, for any server that speaks Ironic's API.
    #[command(
        after_help = "Example:\n  ferric sim --nodes 100 --api-url http://127.0.0.1:6385 --enroll-file fleet.json &\n  baremetal create fleet.json"
    )]
    Sim(SimArgs),
    /// The deploy ramdisk.
    #[command(subcommand)]
    Ramdisk(RamdiskCommand),
    /// The state machine, from the table that runs.
    #[command(after_help = "Example:\n  ferric states --format dot | dot -Tsvg > states.svg")]
    States {
        /// How to print it.
        #[arg(long, value_enum, default_value = "md")]
        format: StatesFormat,
    },
    /// The database.
    #[command(subcommand)]
    Db(DbCommand),
    /// Looks for what would keep `ferric serve` from working; each finding says what to do.
    #[command(after_help = "Example:\n  ferric doctor --config /etc/ferric/ferric.toml")]
    Doctor(ConfigArgs),
    /// The configuration.
    #[command(subcommand)]
    Config(ConfigCommand),
}

/// What the demo can be told.
#[derive(Clone, Debug, Args)]
pub(crate) struct DemoArgs {
    /// How many machines.
    #[arg(long, default_value_t = 24, value_parser = clap::value_parser!(u32).range(1..=20000))]
    pub(crate) nodes: u32,
    /// One wave: exit 0 when every machine is active, 1 when one fails.
    #[arg(long)]
    pub(crate) once: bool,
    /// Where the API listens; port 0 takes a free one.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:6385")]
    pub(crate) listen: SocketAddr,
    /// Keep the data here. Without it they go to a temporary folder that is removed at the end.
    #[arg(long, value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,
    /// The same seed gives the same delays and faults.
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
    /// What goes wrong in the fleet (TOML or JSON; see README).
    #[arg(long, value_name = "FILE")]
    pub(crate) faults: Option<PathBuf>,
    /// Sets one option, as in `ferric serve`. Repeatable.
    #[arg(long, value_name = "SECTION.KEY=VALUE")]
    pub(crate) set: Vec<String>,
}

/// What the fleet alone can be told.
#[derive(Clone, Debug, Args)]
pub(crate) struct SimArgs {
    /// How many machines.
    #[arg(long, default_value_t = 24, value_parser = clap::value_parser!(u32).range(1..=20000))]
    pub(crate) nodes: u32,
    /// The API that the ramdisks call, without /v1.
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:6385")]
    pub(crate) api_url: String,
    /// Where the machines boot from the network: the URL of an HTTP boot server, or a folder that one would serve
    /// (repeatable). Without it every one finds a ramdisk, which serves for all but inspection.
    #[arg(long, value_name = "URL|DIR")]
    pub(crate) boot_from: Vec<String>,
    /// What goes wrong in the fleet (TOML or JSON; see README).
    #[arg(long, value_name = "FILE")]
    pub(crate) faults: Option<PathBuf>,
    /// The same seed gives the same delays and faults.
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
    /// Write the fleet here, as `baremetal create` takes it.
    #[arg(long, value_name = "FILE")]
    pub(crate) enroll_file: Option<PathBuf>,
    /// Where the agents listen; port 0 takes a free one.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:0")]
    pub(crate) agents: SocketAddr,
    /// Sets an option of section sim, as in `ferric serve`. Repeatable.
    #[arg(long, value_name = "SECTION.KEY=VALUE")]
    pub(crate) set: Vec<String>,
}

/// `ferric ramdisk …`
#[derive(Debug, Subcommand)]
pub(crate) enum RamdiskCommand {
    /// Make kernel and initramfs with ferric-agent, from Debian packages. Needs no root.
    #[command(
        after_help = "Example:\n  ferric ramdisk build --out /var/lib/ferric/ramdisk\n  ferric serve --set conductor.deploy_kernel=/var/lib/ferric/ramdisk/kernel \\\n    --set conductor.deploy_ramdisk=/var/lib/ferric/ramdisk/initramfs"
    )]
    Build(RamdiskArgs),
}

/// How the deploy ramdisk is made.
#[derive(Clone, Debug, Args)]
pub(crate) struct RamdiskArgs {
    /// Folder for both files; made if it is not there.
    #[arg(long, value_name = "DIR")]
    pub(crate) out: PathBuf,
    /// The static ferric-agent. Without it: beside this program, else built from the checkout.
    #[arg(long, value_name = "FILE")]
    pub(crate) agent: Option<PathBuf>,
    /// Which of Debian's kernels.
    #[arg(long, value_enum, default_value = "generic")]
    pub(crate) kernel: Kernel,
    /// Folder for downloaded packages. Without it: packages in the output folder.
    #[arg(long, value_name = "DIR")]
    pub(crate) cache: Option<PathBuf>,
}

/// Debian's kernels.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Kernel {
    /// Small; virtual machines.
    Cloud,
    /// Network and storage cards of real hardware.
    Generic,
}

/// `ferric db …`
#[derive(Debug, Subcommand)]
pub(crate) enum DbCommand {
    /// Bring the tables up to date; makes the database if it is not there.
    #[command(
        after_help = "Example:\n  ferric db migrate --set database.connection=postgres://ferric@localhost/ferric"
    )]
    Migrate(ConfigArgs),
    /// Say whether the database answers and its tables fit this program.
    #[command(after_help = "Example:\n  ferric db check")]
    Check(ConfigArgs),
}

/// `ferric config …`
#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Print what holds, each value with where it comes from; secrets masked. Can be used as a configuration file.
    #[command(after_help = "Example:\n  ferric config show --explain > ferric.toml")]
    Show {
        #[command(flatten)]
        from: ConfigArgs,
        /// Put each option's meaning above it.
        #[arg(long)]
        explain: bool,
    },
}

/// Formats of `ferric states`.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum StatesFormat {
    /// For Graphviz.
    Dot,
    /// For programs.
    Json,
    /// For people.
    Md,
}
