//! The least that actix-web can do: the bytes of one file at every path, with the headers of a JSON answer. What the
//! API's own handlers are measured against (docs/performance.md).
//!
//! `cargo run --release -p ferric-web --example bare -- --port N --workers W --file F`; `--port 0` takes a free one,
//! which the first line on stdout names.

use std::process::ExitCode;

use actix_web::web::{self, Bytes, Data};
use actix_web::{App, HttpResponse, HttpServer};

struct Options {
    port: u16,
    workers: usize,
    file: String,
}

fn options(mut args: impl Iterator<Item = String>) -> Result<Options, String> {
    let (mut port, mut workers, mut file) = (0, 2, None);
    while let Some(name) = args.next() {
        let value = args.next().ok_or_else(|| format!("{name} needs a value"))?;
        let number = || value.parse().map_err(|_| format!("{name} takes a number, not {value}"));
        match name.as_str() {
            "--port" => port = number()?,
            "--workers" => workers = usize::from(number()?),
            "--file" => file = Some(value),
            _ => return Err(format!("{name} is unknown: there are --port, --workers and --file")),
        }
    }
    Ok(Options { port, workers, file: file.ok_or("--file is needed: whose bytes to answer with")? })
}

async fn answer(body: Data<Bytes>) -> HttpResponse {
    HttpResponse::Ok().content_type("application/json").body(Bytes::clone(&body))
}

async fn run(options: Options) -> Result<(), String> {
    let body = std::fs::read(&options.file).map_err(|e| format!("{}: {e}", options.file))?;
    let body = Data::new(Bytes::from(body));
    let server = HttpServer::new(move || App::new().app_data(body.clone()).default_service(web::to(answer)))
        .workers(options.workers.max(1))
        .bind(("127.0.0.1", options.port))
        .map_err(|e| format!("port {}: {e}", options.port))?;
    for at in server.addrs() {
        println!("bare: http://{at}");
    }
    server.run().await.map_err(|e| e.to_string())
}

fn main() -> ExitCode {
    let done =
        options(std::env::args().skip(1)).and_then(|given| actix_web::rt::System::new().block_on(run(given)));
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(text) => {
            eprintln!("bare: {text}");
            ExitCode::FAILURE
        }
    }
}
