// SPDX-License-Identifier: Apache-2.0
//! The program: flags in, exit code out.

use std::error::Error;
use std::process::ExitCode;

use crate::attestation::Attestor;
use crate::cli::{Cli, Request};
use crate::controller::Controller;
use crate::outcome::Outcome;
use crate::requests::Requests;
use crate::sandbox::Sandbox;
use crate::{event_loop, limits, logger, outcome, sandbox, signals};
use clap::Parser;

/// Runs the program that its command line describes, to its end.
pub fn run() -> ExitCode {
    if let Err(err) = sandbox::harden() {
        return ExitCode::from(fail(&err, outcome::PREFLIGHT));
    }
    limits::share_heap();
    let cli = Cli::parse();
    logger::init(cli.log_level(), cli.id());
    if let Err(err) = logger::configure(&cli.logger()) {
        return ExitCode::from(fail(&err, outcome::PREFLIGHT));
    }
    if let Some(command) = cli.other_command() {
        return ExitCode::from(command.run().map_or_else(|err| fail(err.as_ref(), outcome::FAILURE), |()| 0));
    }
    if let Err(err) = confine(cli.sandbox()) {
        return ExitCode::from(fail(err.as_ref(), outcome::PREFLIGHT));
    }
    let code = match cli.into_request() {
        Ok(request) => serve(request),
        Err(err) => fail(&err, outcome::USAGE),
    };
    ExitCode::from(code)
}

/// Before anything is read: files that the flags name, requests, images, disks.
fn confine(sandbox: Sandbox) -> Result<(), Box<dyn Error>> {
    // It says which call was forbidden.
    signals::install_last_resort()?;
    Ok(sandbox.begin()?)
}

/// Starts the VM that the flags describe, or serves the API until there is one, and stays with it
/// to its end; returns the exit code.
fn serve(request: Request) -> u8 {
    match prepare(&request) {
        Ok((mut controller, requests)) => {
            if let Some(config) = request.config
                && let Err(err) = controller.start(config)
            {
                return fail(&err, err.exit_code());
            }
            signals::block();
            let result = event_loop::run(&mut controller, requests.as_ref());
            drop(requests);
            signals::unblock();
            let code = match result {
                Ok(outcome) => finish(&outcome),
                Err(err) => fail(&err, outcome::FAILURE),
            };
            if controller.is_stuck() {
                // Without giving up memory under a thread that still uses it.
                std::process::exit(code.into());
            }
            code
        }
        Err(err) => fail(err.as_ref(), outcome::PREFLIGHT),
    }
}

/// Logs, metrics and the API's thread, all there before any VM.
fn prepare(request: &Request) -> Result<(Controller, Option<Requests>), Box<dyn Error>> {
    if let Err(err) = limits::raise_descriptors() {
        log::info!("The number of descriptors stays limited: {err}");
    }
    let mut controller = Controller::new(request.options.clone())?;
    controller.put_logger(request.logger.clone())?;
    if let Some(key) = &request.attestation_key {
        controller.attest_with(Attestor::open(key)?);
    }
    if let Some(metadata) = &request.metadata {
        controller.put_mmds(metadata.clone())?;
    }
    if let Some(metrics) = &request.metrics {
        controller.put_metrics(metrics.clone())?;
    }
    let requests = request.api_sock.as_deref().map(|path| {
        // The API's thread is to leave signals to this one.
        signals::block();
        Requests::serve(path, request.payload_limit, request.options.sandbox)
    });
    Ok((controller, requests.transpose()?))
}

/// Says what is not plain from the guest's own output.
fn finish(outcome: &Outcome) -> u8 {
    match outcome {
        Outcome::PowerOff | Outcome::Reset => log::info!("The guest has ended: {outcome:?}"),
        Outcome::Quit => logger::say_last("quit"),
        Outcome::TripleFault => logger::say_last("error: The guest triple-faulted"),
        Outcome::Panic => logger::say_last("error: The guest's kernel panicked"),
        Outcome::TimeLimit => logger::say_last("error: The guest did not shut down in time and was stopped"),
        Outcome::Signal(signal) => log::info!("Ended by signal {signal}"),
        Outcome::Failure(err) => logger::report(err.as_ref()),
    }
    outcome.exit_code()
}

fn fail(err: &dyn std::error::Error, code: u8) -> u8 {
    logger::report(err);
    code
}
