//! `secretvmm`: flags in, exit code out.

use std::process::ExitCode;

use clap::Parser;
use secretvmm::cli::{Cli, Request};
use secretvmm::control::Outcome;
use secretvmm::controller::Controller;
use secretvmm::{event_loop, exit, logger, signals};
use secretvmm_api::VmConfigFile;

fn main() -> ExitCode {
    let cli = Cli::parse();
    logger::init(cli.log_level());
    let code = match cli.into_request() {
        Ok(request) => serve(request),
        Err(err) => fail(&err, exit::USAGE),
    };
    ExitCode::from(code)
}

/// Starts the VM that the flags describe, or serves the API until there is one, and stays with it
/// to its end; returns the exit code.
fn serve(request: Request) -> u8 {
    if let Err(err) = signals::install_last_resort() {
        return fail(&err, exit::FAILURE);
    }
    let mut controller = match Controller::new(request.id, VmConfigFile::default()) {
        Ok(controller) => controller,
        Err(err) => return fail(&err, exit::FAILURE),
    };
    if let Some(config) = request.config {
        if let Err(err) = controller.start(config) {
            return fail(&err, err.exit_code());
        }
    }
    let result = event_loop::run(&mut controller, None);
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
