//! The migrations are compiled in by a macro that cargo cannot see through: a changed script must rebuild the crate.

fn main() {
    println!("cargo:rerun-if-changed=../migrations");
}
