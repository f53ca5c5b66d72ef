//! The command line.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use ferric_drivers::Secret;

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
    /// Load for any server that speaks Ironic's API: whole lives of many nodes, measured, reported, drawn.
    #[command(
        after_help = "Examples:\n  ferric swarm --nodes 1000                     its own server and simulated machines, ended with it\n  ferric swarm --endpoint http://127.0.0.1:6385 --nodes 50 --wave 25    any Ironic, fake-hardware\n  ferric swarm --endpoint http://127.0.0.1:6385 --enroll-file fleet.json --report report.json --picture report.svg"
    )]
    Swarm(Box<SwarmArgs>),
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

/// What the load can be told.
#[derive(Clone, Debug, Args)]
pub(crate) struct SwarmArgs {
    /// The API, without /v1. Without it `ferric serve` and `ferric sim` are started on a temporary folder and ended with
    /// the load.
    #[arg(long, value_name = "URL")]
    pub(crate) endpoint: Option<String>,
    /// A token for X-Auth-Token; better from the environment, as others can read command lines.
    #[arg(long, env = "OS_TOKEN", hide_env_values = true, value_parser = secret)]
    pub(crate) token: Option<Secret<String>>,
    /// User name for HTTP basic; the password comes from the environment, OS_PASSWORD.
    #[arg(long, env = "OS_USERNAME", hide_env_values = true)]
    pub(crate) user: Option<String>,
    /// Certificates (PEM) to trust, for https; without it those of the system.
    #[arg(long, value_name = "FILE")]
    pub(crate) cacert: Option<PathBuf>,
    /// Hardware type of the nodes: fake-hardware needs no machines; for others --enroll-file says where they are, or
    /// (without --endpoint) they are simulated.
    #[arg(long, value_name = "NAME")]
    pub(crate) driver: Option<String>,
    /// Nodes and ports, as `ferric sim --enroll-file` writes them.
    #[arg(long, value_name = "FILE", requires = "endpoint")]
    pub(crate) enroll_file: Option<PathBuf>,
    /// A field that every node is enrolled with besides, as in inspect_interface=fake; the value is JSON or text.
    /// Repeatable.
    #[arg(long, value_name = "NAME=VALUE")]
    pub(crate) field: Vec<String>,
    /// How many nodes [default: 100, or all of the file].
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=200_000))]
    pub(crate) nodes: Option<u32>,
    /// What is done, in this order; what the endpoint does not have is told and skipped.
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "enrol,manage,inspect,provide,deploy,power,patch,list,undeploy,delete"
    )]
    pub(crate) phases: Vec<ferric_swarm::Phase>,
    /// Nodes of a phase that are begun and settled before the next; 0 takes all at once.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) wave: usize,
    /// Connections; in the closed loop as many requests are under way.
    #[arg(long, value_name = "C", default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..=4096))]
    pub(crate) concurrency: u16,
    /// Open loop: so many nodes per second are begun, and latency counts from the planned moment.
    #[arg(long, value_name = "R", value_parser = rate)]
    pub(crate) rate: Option<f64>,
    /// Seconds that a node may take from asked to its goal.
    #[arg(long, value_name = "SECONDS", default_value_t = 1800.0, value_parser = rate)]
    pub(crate) timeout: f64,
    /// Least seconds between two looks at the states.
    #[arg(long, value_name = "SECONDS", default_value_t = 0.2, value_parser = rate)]
    pub(crate) poll: f64,
    /// The same seed gives the same names, addresses, image and simulated machines.
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
    /// The image that is deployed where the driver wants one; without it, one is served on loopback.
    #[arg(long, value_name = "URL", requires = "checksum")]
    pub(crate) image: Option<String>,
    /// Its SHA-256 or SHA-512.
    #[arg(long, value_name = "HEX", requires = "image")]
    pub(crate) checksum: Option<String>,
    /// Size of the image that is served on loopback.
    #[arg(long, value_name = "BYTES", default_value_t = 256 << 10)]
    pub(crate) image_bytes: usize,
    /// Write the report here (JSON; docs/swarm.md).
    #[arg(long, value_name = "FILE")]
    pub(crate) report: Option<PathBuf>,
    /// Draw it here (SVG).
    #[arg(long, value_name = "FILE")]
    pub(crate) picture: Option<PathBuf>,
    /// Processes whose processor time and memory go into the report, as in 4711 or ironic=4711.
    #[arg(long, value_name = "[NAME=]PID", value_delimiter = ',')]
    pub(crate) pids: Vec<String>,
    /// What goes wrong in the fleet that is started here (see README).
    #[arg(long, value_name = "FILE", conflicts_with = "endpoint")]
    pub(crate) faults: Option<PathBuf>,
    /// Sets an option of the server and the fleet that are started here. Repeatable.
    #[arg(long, value_name = "SECTION.KEY=VALUE", conflicts_with = "endpoint")]
    pub(crate) set: Vec<String>,
}

fn secret(text: &str) -> Result<Secret<String>, std::convert::Infallible> {
    Ok(Secret::new(text.to_owned()))
}

/// A number above zero.
fn rate(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(value) if value > 0.0 && value < 1e9 => Ok(value),
        Ok(_) | Err(_) => Err("give a number above 0".to_owned()),
    }
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
