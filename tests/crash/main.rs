//! `kill -9` at random moments while a fleet is deployed and cleaned: nothing is lost, nothing fails, nothing begins anew.
//!
//! The fleet lives in this process and outlives every kill. `FERRIC_CRASH_SEED` replays the moments of a run (as far as
//! the machine's own timing lets it), `FERRIC_CRASH_KILLS` and `FERRIC_CRASH_NODES` scale it.

mod evidence;
mod fleet;
mod server;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use ferric_sim::Chance;
use fleet::{Stage, Wrong};
use server::Server;

/// Between a start that was complete and the next kill.
const ALIVE: (Duration, Duration) = (Duration::from_millis(20), Duration::from_millis(1800));
/// In so many of the cases the process is killed while it starts.
const IN_ITS_START: f64 = 0.15;

fn setting(name: &str, default: u64) -> u64 {
    match std::env::var(name) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{name} is no number: {text}")),
        Err(_) => default,
    }
}

/// Kills and starts again, as often as it is asked to. Ends only with an error: a process that does not come up.
async fn killer(server: Arc<Server>, left: Arc<AtomicUsize>, mut chance: Chance) -> String {
    while left.load(Ordering::Relaxed) > 0 {
        // the moment of the kill is what is drawn here: there is no condition to wait for
        tokio::time::sleep(chance.between(ALIVE.0, ALIVE.1)).await;
        server.kill();
        server.start();
        if chance.happens(IN_ITS_START) {
            tokio::time::sleep(chance.between(Duration::ZERO, Duration::from_millis(600))).await;
            server.kill();
            server.start();
        }
        if let Err(error) = server.up().await {
            return error;
        }
        left.fetch_sub(1, Ordering::Relaxed);
    }
    std::future::pending().await
}

async fn run(stage: &Stage, left: &AtomicUsize) -> Result<(u64, String), Wrong> {
    let mut told = String::new();
    let mut deployments = 0;
    let begun = Instant::now();
    let mut tell = |what: String| {
        eprintln!("{:>6.1} s  {what}", begun.elapsed().as_secs_f32());
        told.push_str(&what);
        told.push('\n');
    };
    stage.wave("available", &[("manageable", "provide")]).await?;
    tell(format!("all cleaned and available; {} kills to come", left.load(Ordering::Relaxed)));
    while deployments == 0 || left.load(Ordering::Relaxed) > 0 {
        deployments += 1;
        stage.wave("active", &[("available", "active")]).await?;
        stage.check_disks(deployments, false)?;
        tell(format!("deployment {deployments}: all active; {} kills to come", left.load(Ordering::Relaxed)));
        stage.wave("available", &[("active", "deleted")]).await?;
        stage.check_disks(deployments, true)?;
        tell(format!("all cleaned and available; {} kills to come", left.load(Ordering::Relaxed)));
    }
    Ok((deployments, told))
}

#[tokio::test(flavor = "multi_thread")]
async fn kill_9_at_any_moment_of_a_deployment_or_cleaning_loses_nothing() {
    let drawn = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970");
    let seed = setting("FERRIC_CRASH_SEED", u64::from(drawn.subsec_nanos()));
    let kills = setting("FERRIC_CRASH_KILLS", 50) as usize;
    let nodes = setting("FERRIC_CRASH_NODES", 100) as usize;
    eprintln!("FERRIC_CRASH_SEED={seed} FERRIC_CRASH_KILLS={kills} FERRIC_CRASH_NODES={nodes}");
    let stage = Stage::set(nodes, seed).await;
    stage.server.start();
    let ready = async {
        stage.server.up().await.map_err(|what| Wrong { node: None, what })?;
        stage.enrol().await
    };
    let left = Arc::new(AtomicUsize::new(kills));
    let ended = match ready.await {
        Ok(()) => {
            let mut killer =
                tokio::spawn(killer(stage.server.clone(), left.clone(), Chance::new(seed, 0x5161_4b11)));
            let ended = tokio::select! {
                ended = run(&stage, &left) => ended,
                died = &mut killer => Err(Wrong { node: None, what: died.expect("the killer does not panic") }),
            };
            killer.abort();
            ended
        }
        Err(wrong) => Err(wrong),
    };
    // what follows reads the files of a process that is gone
    stage.server.kill();
    let data = stage.server.data();
    let ended = ended.and_then(|done| match evidence::first_error(&data) {
        Ok(None) => Ok(done),
        Ok(Some((node, what))) => Err(Wrong { node: node.map(|id| id.to_string()), what }),
        Err(what) => Err(Wrong { node: None, what }),
    });
    if let Err(Wrong { node, what }) = ended {
        let told =
            node.map(|node| stage.machine(&node) + &evidence::of_node(&data, &node)).unwrap_or_default();
        let log = stage.server.log();
        panic!(
            "{what}\nFERRIC_CRASH_SEED={seed} FERRIC_CRASH_KILLS={kills} FERRIC_CRASH_NODES={nodes} replays it\n\
             {} kills were to come\n{told}\nthe end of the log:\n{log}",
            left.load(Ordering::Relaxed)
        );
    }
    let refused: u64 = stage.fleet.machines().iter().map(|machine| machine.view().disk.refused_writers).sum();
    eprintln!("{nodes} machines, {kills} kills: none failed; {refused} second writes were refused by agents");
}
