//! `ferric sim`: the simulated machines alone.

use std::path::Path;

use ferric_sim::{Faults, Fleet, FleetOptions};

use crate::Failure;
use crate::cli::SimArgs;
use crate::config::{Config, Loaded};

/// Runs the fleet until SIGINT or SIGTERM.
pub(crate) async fn run(args: SimArgs, io: tokio::runtime::Handle) -> Result<(), Failure> {
    let loaded = Loaded::read(None, crate::environment(), &args.set)?;
    let mut options = fleet_options(&loaded.config, args.nodes, args.seed, args.faults.as_deref())?;
    options.listen = args.agents;
    let stop = crate::wire::stop_wanted()?;
    let fleet = io.spawn(Fleet::start(options)).await??;
    fleet.set_api_url(&args.api_url);
    if let Some(path) = &args.enroll_file {
        let text = serde_json::to_string_pretty(&fleet.enrolment())?;
        std::fs::write(path, text)
            .map_err(|error| unusable(path, &error, "name a file that can be written"))?;
    }
    println!("{} machines; their ramdisks call {}", fleet.machines().len(), args.api_url);
    if let (Some(first), Some(last)) = (fleet.machines().first(), fleet.machines().last()) {
        println!("BMCs on {} to {} (UDP)", first.bmc_address(), last.bmc_address());
    }
    if let Some(path) = &args.enroll_file {
        println!("enrol them with: openstack baremetal create {}", path.display());
    }
    stop.await;
    let _ = io.spawn(fleet.stop()).await;
    Ok(())
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
        faults: faults.map(read_faults).transpose()?.unwrap_or_default(),
        ..FleetOptions::default()
    })
}

fn read_faults(path: &Path) -> Result<Faults, Failure> {
    let remedy = "a fault file is JSON such as {\"slower\": 0.1, \"machines\": {\"sim-0001\": {\"silent_bmc\": true}}}";
    let text = std::fs::read_to_string(path).map_err(|error| unusable(path, &error, remedy))?;
    serde_json::from_str(&text).map_err(|error| unusable(path, &error, remedy))
}

fn unusable(path: &Path, error: &dyn std::fmt::Display, remedy: &str) -> Failure {
    Failure(format!("{}: {error}; {remedy}", path.display()))
}
