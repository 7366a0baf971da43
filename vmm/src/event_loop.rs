// SPDX-License-Identifier: Apache-2.0
//! The main thread: requests, terminal, signals and devices, until the VM has ended.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use event_manager::{EventManager, EventOps, EventSet, Events, MutEventSubscriber, SubscriberOps};
use vmm_sys_util::timerfd::TimerFd;

use crate::control::Control;
use crate::controller::{Controller, Deadline};
use crate::devices::ConsoleInput;
use crate::devices::virtio::HostEvents;
use crate::outcome::Outcome;
use crate::requests::Requests;
use crate::signals::{self, Request, Signals};
use crate::terminal;
use crate::vmm::{self, Vmm};

/// What can go wrong in the main thread while the guest runs.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// epoll failed.
    #[error("Events could not be waited for")]
    Wait(#[from] event_manager::Error),
    /// Signals could not be set up.
    #[error("Signals could not be set up")]
    Signals(#[source] std::io::Error),
    /// A timer could not be set up.
    #[error("A timer could not be set up")]
    Clock(#[source] std::io::Error),
    /// Standard input could not be duplicated.
    #[error("Standard input could not be set up")]
    Input(#[source] std::io::Error),
    /// The VM would not change its state.
    #[error(transparent)]
    Vmm(#[from] vmm::Error),
}

/// How often metrics are written by themselves, as in Firecracker.
const METRICS_PERIOD: Duration = Duration::from_secs(60);

type Manager = EventManager<Box<dyn MutEventSubscriber>>;

/// Wakes the loop when a vCPU has ended the VM.
struct End(Arc<Control>);

impl MutEventSubscriber for End {
    fn init(&mut self, ops: &mut EventOps) {
        if let Err(err) = ops.add(Events::new(self.0.finished(), EventSet::IN)) {
            log::warn!("The VM's end cannot be watched: {err}");
        }
    }

    fn process(&mut self, _events: Events, _ops: &mut EventOps) {
        let _ = self.0.finished().read();
    }
}

/// Ends a VM whose guest does not.
struct TimeLimit(Deadline, Arc<Control>);

impl MutEventSubscriber for TimeLimit {
    fn init(&mut self, ops: &mut EventOps) {
        if let Err(err) = ops.add(Events::new(&*self.0.borrow(), EventSet::IN)) {
            log::warn!("The time limit of a shutdown cannot be watched: {err}");
        }
    }

    fn process(&mut self, _events: Events, _ops: &mut EventOps) {
        if self.0.borrow_mut().wait().is_ok() {
            self.1.finish(Outcome::TimeLimit);
        }
    }
}

/// Sets a flag, again and again.
struct Clock(TimerFd, Rc<Cell<bool>>);

impl Clock {
    fn every(period: Duration, flag: Rc<Cell<bool>>) -> std::io::Result<Self> {
        let mut timer = TimerFd::new()?;
        timer.reset(period, Some(period))?;
        Ok(Self(timer, flag))
    }
}

impl MutEventSubscriber for Clock {
    fn init(&mut self, ops: &mut EventOps) {
        if let Err(err) = ops.add(Events::new(&self.0, EventSet::IN)) {
            log::warn!("A timer cannot be watched: {err}");
        }
    }

    fn process(&mut self, _events: Events, _ops: &mut EventOps) {
        self.1.set(self.0.wait().is_ok());
    }
}

/// Serves `requests`, if there are any, and the VM as soon as it is started; returns when it has
/// ended, or when a signal has ended the wait for it.
pub fn run(controller: &mut Controller, requests: Option<&Requests>) -> Result<Outcome, Error> {
    let result = serve(controller, requests);
    let _ = controller.flush_metrics();
    controller.stop();
    result
}

fn serve(controller: &mut Controller, requests: Option<&Requests>) -> Result<Outcome, Error> {
    let control = controller.control().clone();
    let requested = Rc::new(Cell::new(None));
    let mut manager = Manager::new()?;
    manager.add_subscriber(Box::new(End(control.clone())));
    manager.add_subscriber(Box::new(Signals::new(requested.clone()).map_err(Error::Signals)?));
    manager.add_subscriber(Box::new(TimeLimit(controller.deadline().clone(), control.clone())));
    if let Some(requests) = requests {
        manager.add_subscriber(Box::new(requests.wake().map_err(Error::Input)?));
    }
    let metrics_due = Rc::new(Cell::new(false));
    manager.add_subscriber(Box::new(Clock::every(METRICS_PERIOD, metrics_due.clone()).map_err(Error::Clock)?));
    let mut watched = false;
    loop {
        if let Some(vmm) = controller.vmm().filter(|_| !watched) {
            watch(vmm, &mut manager)?;
            watched = true;
        }
        if let Some(outcome) = control.outcome() {
            return Ok(outcome);
        }
        manager.run()?;
        if let Some(requests) = requests {
            requests.answer(|action| controller.handle(action));
        }
        if metrics_due.take() {
            // What does not work now may work in a minute; it is counted.
            let _ = controller.flush_metrics();
        }
        match requested.take() {
            Some(Request::Suspend) => suspend(controller.vmm())?,
            Some(Request::End(signal)) => controller.end(signal),
            None => {}
        }
    }
}

/// Adds what a started VM waits for.
fn watch(vmm: &Vmm, manager: &mut Manager) -> Result<(), Error> {
    let input = stdin().map_err(Error::Input)?;
    manager.add_subscriber(Box::new(ConsoleInput::new(input, vmm.console().clone(), vmm.control().clone())));
    for side in vmm.devices().host_sides() {
        manager.add_subscriber(Box::new(HostEvents(side.clone())));
    }
    Ok(())
}

/// What a shell expects of SIGTSTP: a guest that does not run, a terminal that is usable, and both
/// back after SIGCONT.
fn suspend(vmm: Option<&mut Vmm>) -> Result<(), Error> {
    let paused = vmm.map(|vmm| (vmm.pause(), vmm));
    terminal::restore();
    signals::stop_self();
    terminal::make_raw().map_err(Error::Input)?;
    match paused {
        Some((Ok(()), vmm)) => Ok(vmm.resume()?),
        // The threads stood still all the same; the guest's clock was not told. Or it was paused before.
        Some((Err(vmm::Error::Busy | vmm::Error::WrongState { .. }), _)) | None => Ok(()),
        Some((Err(err), _)) => Err(err.into()),
    }
}

fn stdin() -> std::io::Result<std::fs::File> {
    use std::os::fd::AsFd;
    Ok(std::io::stdin().as_fd().try_clone_to_owned()?.into())
}
