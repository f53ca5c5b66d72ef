//! The API over fake hardware, to try clients against: `cargo run -p ferric-web --example serve -- 127.0.0.1:6385`.

#[path = "../tests/api/watched.rs"]
mod watched;
#[path = "../tests/api/world.rs"]
mod world;

fn main() {
    let listen = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:6385".to_owned());
    let listen = listen.parse().expect("an address such as 127.0.0.1:6385");
    actix::System::new().block_on(async move {
        let types = vec!["fake-hardware".to_owned()];
        match world::start(listen, types, |settings| settings.require_agent_tls = false).await {
            Ok((serving, _folder)) => {
                println!("http://{}", serving.addr);
                serving.server.await.expect("the server runs");
            }
            Err(error) => eprintln!("{error}"),
        }
    });
}
