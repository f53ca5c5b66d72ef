//! `ferric sim`: the simulated machines alone.

use std::collections::BTreeSet;
use std::fs::{File, Permissions};
use std::io::Write as _;
use std::net::SocketAddr;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

use ferric_sim::{BootSource, Faults, Fleet, FleetError, FleetOptions, Ramdisk, Transfer};

use crate::Failure;
use crate::cli::SimArgs;
use crate::config::value::{SimBmc, SimImages, SimRamdisk};
use crate::config::{Config, Loaded};

/// Runs the fleet until SIGINT or SIGTERM.
pub(crate) async fn run(args: SimArgs, io: tokio::runtime::Handle) -> Result<(), Failure> {
    let loaded = Loaded::read(None, crate::environment(), &args.set)?;
    let mut options = fleet_options(&loaded.config, args.nodes, args.seed, args.faults.as_deref())?;
    options.listen = args.agents;
    if options.ramdisk == Ramdisk::Bash && args.boot_from.is_empty() {
        return Err(Failure(
            "sim.ramdisk = \"bash\" takes everything from its kernel line, which nobody gives it: say with --boot-from \
             where the machines boot from, such as http://127.0.0.1:8080, or take sim.ramdisk = \"agent\""
                .to_owned(),
        ));
    }
    let stop = crate::wire::stop_wanted()?;
    let fleet = start_fleet(options, &io).await?;
    fleet.set_api_url(&args.api_url);
    if !args.boot_from.is_empty() {
        fleet.set_boot_source(boot_source(&args.boot_from)?);
    }
    if let Some(path) = &args.enroll_file {
        let text = serde_json::to_string_pretty(&fleet.enrolment())?;
        write_private(path, &text)
            .map_err(|error| unusable(path, &error, "name a file that can be written"))?;
    }
    println!("{} machines; their ramdisks call {}", fleet.machines().len(), args.api_url);
    if let (Some(first), Some(last)) = (fleet.machines().first(), fleet.machines().last()) {
        println!("BMCs on {} to {} (UDP)", first.bmc_address(), last.bmc_address());
    }
    if let Some(path) = &args.enroll_file {
        println!("enrol them with: baremetal create {}", path.display());
    }
    stop.await;
    let _ = io.spawn(fleet.stop()).await;
    Ok(())
}

/// Where the machines boot from: one URL, or folders.
fn boot_source(given: &[String]) -> Result<BootSource, Failure> {
    let is_url = |text: &&String| text.starts_with("http://") || text.starts_with("https://");
    match (given, given.iter().find(is_url)) {
        ([url], Some(_)) => Ok(BootSource::Url(url.clone())),
        (_, Some(url)) => Err(Failure(format!(
            "--boot-from {url}: a URL stands alone; name one URL, or the folders that the boot servers serve"
        ))),
        (folders, None) => Ok(BootSource::Folders(folders.iter().map(Into::into).collect())),
    }
}

/// Starts the fleet on the threads of `io`.
pub(crate) async fn start_fleet(
    options: FleetOptions,
    io: &tokio::runtime::Handle,
) -> Result<Fleet, Failure> {
    let bmcs = SocketAddr::from((options.bmc_address, options.bmc_port));
    io.spawn(Fleet::start(options)).await?.map_err(|error| match error {
        FleetError::Bind { address, source, .. } if address == bmcs => Failure(format!(
            "cannot listen on {address} and the addresses after it for the simulated BMCs: {source}; choose others \
             with sim.bmc_address or sim.bmc_port (--set sim.bmc_port=0 takes free ones), or stop what uses them \
             (ss -ulnp names it)"
        )),
        FleetError::Bind { .. }
        | FleetError::Files { .. }
        | FleetError::Storm { .. }
        | FleetError::Client(_) => error.into(),
    })
}

/// Writes a file that only its owner can read: it holds passwords of BMCs.
fn write_private(path: &Path, text: &str) -> std::io::Result<()> {
    let mut file = File::options().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    if file.metadata()?.is_file() {
        // one that was there already keeps its mode otherwise
        file.set_permissions(Permissions::from_mode(0o600))?;
    }
    file.write_all(text.as_bytes())
}

/// A fleet as section sim describes it.
pub(crate) fn fleet_options(
    config: &Config,
    nodes: u32,
    seed: u64,
    faults: Option<&Path>,
) -> Result<FleetOptions, Failure> {
    let of = &config.sim;
    Ok(FleetOptions {
        nodes: nodes as usize,
        seed,
        bmc_address: of.bmc_address.parse().expect("Config::check has read this address"),
        bmc_port: of.bmc_port,
        boot_delay: (of.boot_delay_min, of.boot_delay_max),
        disk_bytes_per_second: (of.disk_bytes_per_second > 0).then_some(of.disk_bytes_per_second),
        own_addresses: of.own_addresses,
        ramdisk: match of.ramdisk {
            SimRamdisk::Agent => Ramdisk::Agent,
            SimRamdisk::Bash => Ramdisk::Bash,
        },
        images: match of.images {
            SimImages::Auto => Transfer::Auto,
            SimImages::Bytes => Transfer::Bytes,
            SimImages::Counted => Transfer::Counted,
        },
        redfish_port: match of.bmc_protocol {
            SimBmc::Ipmi => None,
            SimBmc::Redfish => Some(of.redfish_port),
        },
        faults: faults.map(|path| read_faults(path, nodes)).transpose()?.unwrap_or_default(),
        ..FleetOptions::default()
    })
}

fn read_faults(path: &Path, nodes: u32) -> Result<Faults, Failure> {
    let remedy = "a fault file is TOML such as slower = 0.1 and [machines.sim-0001] clean_step_error = 1, or the same as \
                  JSON";
    let text = std::fs::read_to_string(path).map_err(|error| unusable(path, &error, remedy))?;
    let faults = parse_faults(&text).map_err(|error| unusable(path, &error, remedy))?;
    let names: Vec<String> = (0..nodes as usize).map(machine_name).collect();
    match faults.stranger(&names.iter().map(String::as_str).collect::<BTreeSet<_>>()) {
        None => Ok(faults),
        Some(stranger) => {
            let range = format!("sim-0001 to {}", machine_name(nodes.saturating_sub(1) as usize));
            let remedy = format!("the machines are {range}; name one of them, or raise --nodes");
            Err(unusable(path, &stranger, &remedy))
        }
    }
}

/// A fault file's text; the error names the key that was meant, where one is near.
fn parse_faults(text: &str) -> Result<Faults, String> {
    let parsed = if text.trim_start().starts_with('{') {
        serde_json::from_str(text).map_err(|error| error.to_string())
    } else {
        toml::from_str(text).map_err(|error| error.to_string())
    };
    parsed.map_err(|error| match meant(&error) {
        Some(name) => format!("{}\ndid you mean '{name}'?", error.trim_end()),
        None => error,
    })
}

/// The known name that is nearest to the one that serde does not know; both stand in its words.
fn meant(error: &str) -> Option<&str> {
    let (_, told) = error.split_once("unknown field `").or_else(|| error.split_once("unknown variant `"))?;
    let (word, known) = told.split_once('`')?;
    let names = known.split('`').skip(1).step_by(2);
    names
        .map(|name| (strsim::jaro_winkler(word, name), name))
        .filter(|(likeness, _)| *likeness > 0.75)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, name)| name)
}

/// The name of the machine at `index` in a fleet.
fn machine_name(index: usize) -> String {
    format!("sim-{:04}", index + 1)
}

fn unusable(path: &Path, error: &dyn std::fmt::Display, remedy: &str) -> Failure {
    Failure(format!("{}: {error}; {remedy}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::parse_faults;

    /// The TOML blocks of the page about the simulator that are fault files.
    fn examples() -> Vec<String> {
        let page = include_str!("../docs/simulator.md");
        let blocks = page.split("```toml\n").skip(1).filter_map(|rest| rest.split("```").next());
        blocks.map(str::to_owned).collect()
    }

    #[test]
    fn the_examples_of_the_documentation_are_valid() {
        let examples = examples();
        assert!(!examples.is_empty());
        let mut kinds = std::collections::BTreeSet::new();
        for example in examples {
            let faults = parse_faults(&example).unwrap_or_else(|error| panic!("{error}\n{example}"));
            kinds.extend(faults.happens.iter().map(|one| one.kind.name()));
        }
        assert_eq!(kinds.len(), 9, "each kind has an example: {kinds:?}");
    }

    #[test]
    fn a_key_that_is_not_known_is_told_with_the_one_that_was_meant() {
        for (text, meant) in [
            ("slwer = 0.1", "slower"),
            ("[machines.sim-0001]\nsilent_bcm = true", "silent_bmc"),
            ("[[happens]]\nfault = \"silent_bmc\"\nrate_per_our = 3", "rate_per_hour"),
            ("[[happens]]\nfault = \"rack_powr\"", "rack_power"),
            ("[[happens]]\nfault = \"packets\"\nlost = {to_bcm = 0.1}", "to_bmc"),
            ("{\"hapens\": []}", "happens"),
        ] {
            let error = parse_faults(text).expect_err(text);
            assert!(error.contains(&format!("did you mean '{meant}'?")), "{error}");
        }
        assert!(parse_faults("xyzzy = 1").is_err_and(|error| !error.contains("did you mean")));
    }
}
