//! The embedded model of Varvel: llama.cpp in a process of its own.
//!
//! It loads the weights, locks itself in (no file, no socket, no program can be opened any more), and then answers
//! requests: one JSON object a line on standard input, events on standard output. See `README.md`.

mod confine;
mod engine;
mod protocol;
mod stream;

use std::io::{BufRead, Read, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use engine::Engine;
use protocol::{Event, Request};

/// Longest request, in bytes.
const MAX_REQUEST: u64 = 8 << 20;
/// Largest window that can be asked for, in tokens.
const MAX_CONTEXT: u32 = 1 << 20;

const USAGE: &str = "usage: varvel-llm-worker serve --model PATH --ctx TOKENS [--threads N]
       varvel-llm-worker prove
       varvel-llm-worker --version";

struct Options {
    model: PathBuf,
    context: u32,
    threads: i32,
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match args.as_slice() {
        ["--version"] => {
            say(concat!("varvel-llm-worker ", env!("CARGO_PKG_VERSION")));
            ExitCode::SUCCESS
        }
        ["prove"] => prove(),
        ["serve", rest @ ..] => match options(rest) {
            Ok(options) => serve(&options),
            Err(why) => usage(&why),
        },
        _ => usage("no such command"),
    }
}

fn usage(why: &str) -> ExitCode {
    let _ = writeln!(std::io::stderr(), "{why}\n{USAGE}");
    ExitCode::from(2)
}

fn options(args: &[&str]) -> Result<Options, String> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let (mut model, mut context) = (None, 4096);
    // More threads than cores collapse generation.
    let mut threads = i32::try_from(cores).unwrap_or(1);
    let mut args = args.iter();
    while let Some(name) = args.next() {
        let value = args.next().ok_or_else(|| format!("{name} needs a value"))?;
        let number = || value.parse::<u32>().map_err(|_| format!("{name} {value:?} is not a number"));
        match *name {
            "--model" => model = Some(PathBuf::from(value)),
            "--ctx" => context = number()?.clamp(256, MAX_CONTEXT),
            "--threads" => threads = i32::try_from(number()?.clamp(1, 256)).unwrap_or(1),
            _ => return Err(format!("there is no option {name}")),
        }
    }
    Ok(Options { model: model.ok_or("--model is missing")?, context, threads })
}

fn serve(options: &Options) -> ExitCode {
    let fatal = |message: String| {
        emit(&Event::Fatal { message: &message });
        ExitCode::FAILURE
    };
    if let Some(missing) = missing_features() {
        return fatal(format!(
            "this processor lacks {missing}, which the worker was built for; build it without"
        ));
    }
    let loaded = match engine::Loaded::load(&options.model) {
        Ok(loaded) => loaded,
        Err(error) => return fatal(error.to_string()),
    };
    let mut engine = match Engine::new(&loaded, options.context, options.threads) {
        Ok(engine) => engine,
        Err(error) => return fatal(error.to_string()),
    };
    if let Err(error) = confine::lock_in() {
        return fatal(error.to_string());
    }
    emit(&Event::Ready { context: engine.window(), threads: options.threads });
    let mut input = std::io::stdin().lock();
    loop {
        let mut line = Vec::new();
        match (&mut input).take(MAX_REQUEST).read_until(b'\n', &mut line) {
            Ok(0) => return ExitCode::SUCCESS,
            Ok(_) if line.last() != Some(&b'\n') => {
                return fatal("the request is too long, or ended half-way".into());
            }
            Ok(_) => answer(&mut engine, &line),
            Err(error) => return fatal(error.to_string()),
        }
    }
}

fn answer(engine: &mut Engine<'_>, line: &[u8]) {
    let request: Request = match serde_json::from_slice(line) {
        Ok(request) => request,
        Err(error) => return emit(&Event::bad_request(None, &error.to_string())),
    };
    match engine.answer(&request, |text| emit(&Event::Delta { id: request.id, text })) {
        Ok(done) => emit(&done.event(request.id)),
        Err(error) => emit(&error.event(request.id)),
    }
}

/// Writes one event. When nobody listens any more there is nothing left to do.
fn emit(event: &Event<'_>) {
    match serde_json::to_string(event) {
        Ok(line) => say(&line),
        Err(error) => {
            say(&format!("{{\"event\":\"fatal\",\"message\":\"{}\"}}", error.to_string().escape_default()))
        }
    }
}

fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    if writeln!(out, "{line}").and_then(|()| out.flush()).is_err() {
        std::process::exit(0);
    }
}

/// Locks itself in without a model and shows that it holds.
fn prove() -> ExitCode {
    match confine::lock_in().and_then(|()| confine::prove()) {
        Ok(()) => {
            say("locked in: no file, no socket, no program can be opened");
            ExitCode::SUCCESS
        }
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "{error}");
            ExitCode::FAILURE
        }
    }
}

/// Features that the build uses and this processor does not have.
fn missing_features() -> Option<String> {
    let mut missing: Vec<&str> = Vec::new();
    #[cfg(target_arch = "x86_64")]
    {
        macro_rules! need {
            ($($feature:tt),*) => {
                $(if cfg!(target_feature = $feature) && !std::arch::is_x86_feature_detected!($feature) {
                    missing.push($feature);
                })*
            };
        }
        need!("sse4.2", "avx", "avx2", "fma", "f16c", "bmi2");
    }
    (!missing.is_empty()).then(|| missing.join(", "))
}
