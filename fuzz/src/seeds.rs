//! Writes each target's seeds into `corpus/<target>/seed-NN`, where `cargo fuzz run` looks for them.

#[path = "../bodies/mod.rs"]
mod bodies;

fn main() -> std::io::Result<()> {
    for (name, _, seeds) in bodies::TARGETS {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(name);
        std::fs::create_dir_all(&folder)?;
        for (number, seed) in seeds().iter().enumerate() {
            std::fs::write(folder.join(format!("seed-{number:02}")), seed)?;
        }
    }
    Ok(())
}
