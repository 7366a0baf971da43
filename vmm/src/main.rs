//! `secretvmm`: flags in, exit code out.

use std::process::ExitCode;

use clap::Parser;
use secretvmm::cli::Cli;
use secretvmm::control::Outcome;
use secretvmm::memory::RamKind;
use secretvmm::terminal::RawMode;
use secretvmm::{VmConfig, builder, event_loop, exit, logger, preflight, signals};

fn main() -> ExitCode {
    let cli = Cli::parse();
    logger::init(cli.log_level());
    let code = match cli.into_config() {
        Ok(config) => start(&config),
        Err(err) => fail(&err, exit::USAGE),
    };
    ExitCode::from(code)
}

/// Checks, builds and runs one VM; returns the exit code.
fn start(config: &VmConfig) -> u8 {
    let prepared = match preflight::run(config) {
        Ok(prepared) => prepared,
        Err(err) => return fail(&err, exit::PREFLIGHT),
    };
    if config.ram == RamKind::Shared {
        eprintln!("secretvmm: warning: guest memory is ordinary memory, which this host can read (--memory shared)");
    }
    if let Err(err) = signals::install_last_resort() {
        return fail(&err, exit::FAILURE);
    }
    let mut vmm = match builder::build(config, prepared) {
        Ok(vmm) => vmm,
        Err(err @ builder::Error::Memory(_)) => return fail(&err, exit::PREFLIGHT),
        Err(err) => return fail(&err, exit::FAILURE),
    };
    signals::hold_back();
    let raw = match RawMode::enter() {
        Ok(raw) => raw,
        Err(err) => return fail(&err, exit::FAILURE),
    };
    let result = event_loop::run(&mut vmm);
    drop(raw);
    signals::let_through();
    match result {
        Ok(outcome) => finish(&outcome),
        Err(err) => fail(&err, exit::FAILURE),
    }
}

/// Says what is not plain from the guest's own output.
fn finish(outcome: &Outcome) -> u8 {
    match outcome {
        Outcome::PowerOff | Outcome::Reset => log::info!("The guest has ended: {outcome:?}"),
        Outcome::Quit => eprintln!("\nsecretvmm: quit"),
        Outcome::TripleFault => eprintln!("secretvmm: error: The guest triple-faulted"),
        Outcome::Panic => eprintln!("secretvmm: error: The guest's kernel panicked"),
        Outcome::Signal(signal) => log::info!("Ended by signal {signal}"),
        Outcome::Failure(err) => exit::report(err.as_ref()),
    }
    exit::code(outcome)
}

fn fail(err: &dyn std::error::Error, code: u8) -> u8 {
    exit::report(err);
    code
}
