//! `ferric swarm`: load for any Ironic, or for a server and a fleet of its own.

mod rig;
mod screen;
mod stop;

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use ferric_swarm::{Auth, Image, Options, Pace, Report, Watched};
use serde_json::Value;

pub(crate) use self::rig::end_with_parent;
use crate::Failure;
use crate::cli::SwarmArgs;

/// Runs the load; exit code 0 when every node reached every goal.
pub(crate) fn run(args: SwarmArgs) -> Result<ExitCode, Failure> {
    // the load is to be felt by the server, not by its generator: two threads carry tens of thousands of requests
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name("ferric-swarm")
        .enable_all()
        .build()?;
    let result = runtime.block_on(load(args));
    runtime.shutdown_timeout(Duration::from_secs(1));
    result
}

async fn load(args: SwarmArgs) -> Result<ExitCode, Failure> {
    for path in [&args.report, &args.picture].into_iter().flatten() {
        prepare(path)?;
    }
    let mut options = options(&args)?;
    let mut stop = stop::Stop::new()?;
    let screen = Arc::new(screen::Screen::new());
    let mut rig = None;
    if args.endpoint.is_none() {
        let simulated = options.driver != "fake-hardware";
        let started = tokio::select! {
            started = rig::Rig::start(&args, simulated) => started?,
            () = stop.wanted() => return Err(stopped()),
        };
        options.endpoint.clone_from(&started.endpoint);
        options.enrol_file = simulated.then(|| started.enrol_file());
        options.watched.extend(started.watched());
        rig = Some(started);
    }
    let result = ferric_swarm::run(options, screen.clone(), stop.wanted()).await;
    screen.close();
    let ended = match &mut rig {
        Some(rig) => rig.stop().await,
        None => Ok(()),
    };
    // what went wrong stands in the logs; who interrupted the load does not ask for them
    let well = ended.is_ok() && result.as_ref().is_ok_and(|report| report.ok || report.interrupted);
    let kept = rig.as_mut().filter(|_| !well).map(rig::Rig::keep).unwrap_or_default();
    let report = match (result, &ended) {
        (Ok(report), _) => report,
        (Err(error), Err(Failure(why))) => return Err(Failure(format!("{error}\n{why}{kept}"))),
        (Err(error), Ok(())) => return Err(Failure(format!("{error}\n{kept}"))),
    };
    print!("{}", report.text());
    if report.nodes_left > 0 && args.endpoint.is_some() {
        println!(
            "  {} nodes are left; --phases delete with the same nodes and seed removes them",
            report.nodes_left
        );
    }
    write(&args, &report)?;
    print!("{kept}");
    ended?;
    Ok(if report.ok { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn stopped() -> Failure {
    Failure("stopped before it began".to_owned())
}

fn write(args: &SwarmArgs, report: &Report) -> Result<(), Failure> {
    if let Some(path) = &args.report {
        let text = serde_json::to_string_pretty(report)?;
        std::fs::write(path, text + "\n").map_err(|error| unusable(path, &error))?;
        println!("  report  {}", path.display());
    }
    if let Some(path) = &args.picture {
        std::fs::write(path, ferric_swarm::picture(report)).map_err(|error| unusable(path, &error))?;
        println!("  picture {}", path.display());
    }
    Ok(())
}

/// A file that cannot be written is better known before the load than after.
fn prepare(path: &Path) -> Result<(), Failure> {
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        std::fs::create_dir_all(folder).map_err(|error| unusable(folder, &error))?;
    }
    let file = std::fs::OpenOptions::new().create(true).append(true).open(path);
    file.map(drop).map_err(|error| unusable(path, &error))
}

fn unusable(path: &Path, error: &std::io::Error) -> Failure {
    Failure(format!("{}: {error}; name a file that can be written", path.display()))
}

fn options(args: &SwarmArgs) -> Result<Options, Failure> {
    let auth = match (&args.token, &args.user, std::env::var("OS_PASSWORD").ok()) {
        (Some(token), _, _) => Auth::token(token.expose()),
        (None, Some(user), Some(password)) => Auth::basic(user, &password),
        (None, Some(_), None) => {
            return Err(Failure(
                "--user needs a password: put it into the environment, OS_PASSWORD".to_owned(),
            ));
        }
        (None, None, _) => Some(Auth::None),
    };
    let auth = auth.ok_or_else(|| {
        Failure("the token, or the password, holds characters that no HTTP header can carry".to_owned())
    })?;
    let usual = if args.endpoint.is_some() { "fake-hardware" } else { "ipmi" };
    let driver = args.driver.clone().unwrap_or_else(|| usual.to_owned());
    if args.endpoint.is_some() && args.enroll_file.is_none() && driver != "fake-hardware" {
        return Err(Failure(format!(
            "nodes of driver {driver} need machines: name them with --enroll-file, as `ferric sim --enroll-file` writes it"
        )));
    }
    if args.endpoint.is_none() && !matches!(driver.as_str(), "fake-hardware" | "ipmi") {
        return Err(Failure(format!(
            "machines for driver {driver} are not simulated here; take ipmi or fake-hardware, or name an --endpoint and \
             an --enroll-file"
        )));
    }
    let fields = args.field.iter().map(|field| {
        let (name, value) = field
            .split_once('=')
            .ok_or_else(|| Failure(format!("--field {field}: write it as inspect_interface=fake")))?;
        let value = serde_json::from_str(value).unwrap_or_else(|_| Value::from(value));
        Ok((name.to_owned(), value))
    });
    let watched = args.pids.iter().map(|pid| {
        let (name, number) = pid.split_once('=').unwrap_or((pid, pid));
        let number = number
            .parse()
            .map_err(|_| Failure(format!("--pids {pid}: give a process id, as in 4711 or ironic=4711")))?;
        Ok(Watched { name: name.to_owned(), pid: number })
    });
    Ok(Options {
        endpoint: args.endpoint.clone().unwrap_or_default(),
        auth,
        cacert: args.cacert.clone(),
        driver,
        enrol_file: args.enroll_file.clone(),
        fields: fields.collect::<Result<_, Failure>>()?,
        nodes: args.nodes.map(|nodes| nodes as usize),
        phases: args.phases.clone(),
        wave: args.wave,
        pace: args.rate.map_or(Pace::Closed, |per_second| Pace::Open { per_second }),
        concurrency: usize::from(args.concurrency),
        timeout: Duration::from_secs_f64(args.timeout),
        poll: Duration::from_secs_f64(args.poll),
        seed: args.seed,
        image: match (&args.image, &args.checksum) {
            (Some(url), Some(checksum)) => Image::Url { url: url.clone(), checksum: checksum.clone() },
            (_, _) => Image::Own { bytes: args.image_bytes },
        },
        watched: watched.collect::<Result<_, Failure>>()?,
        ..Options::default()
    })
}
