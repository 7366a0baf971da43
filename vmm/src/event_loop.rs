//! The main thread: terminal and signals in, until the VM has ended.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;

use event_manager::{EventManager, EventOps, EventSet, Events, MutEventSubscriber, SubscriberOps};

use crate::control::{Control, Outcome};
use crate::devices::ConsoleInput;
use crate::devices::virtio::HostEvents;
use crate::signals::{self, Signals};
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
    /// Standard input could not be duplicated.
    #[error("Standard input could not be set up")]
    Input(#[source] std::io::Error),
    /// The VM would not change its state.
    #[error(transparent)]
    Vmm(#[from] vmm::Error),
}

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

/// Starts the VM, waits until it has ended, and stops what is left of it.
pub fn run(vmm: &mut Vmm) -> Result<Outcome, Error> {
    let result = serve(vmm);
    vmm.stop();
    result
}

fn serve(vmm: &mut Vmm) -> Result<Outcome, Error> {
    let control = vmm.control().clone();
    let suspend = Rc::new(Cell::new(false));
    let mut manager = EventManager::<Box<dyn MutEventSubscriber>>::new()?;
    manager.add_subscriber(Box::new(End(control.clone())));
    let signals = Signals::new(control.clone(), suspend.clone()).map_err(Error::Signals)?;
    manager.add_subscriber(Box::new(signals));
    let input = stdin().map_err(Error::Input)?;
    manager.add_subscriber(Box::new(ConsoleInput::new(input, vmm.console().clone(), control.clone())));
    for side in vmm.devices().host_sides() {
        manager.add_subscriber(Box::new(HostEvents(side.clone())));
    }
    vmm.start()?;
    loop {
        if let Some(outcome) = control.outcome() {
            return Ok(outcome);
        }
        manager.run()?;
        if suspend.take() {
            stand_still(vmm)?;
        }
    }
}

/// What a shell expects of SIGTSTP: a guest that does not run, a terminal that is usable, and both
/// back after SIGCONT.
fn stand_still(vmm: &mut Vmm) -> Result<(), Error> {
    let paused = vmm.pause();
    terminal::restore();
    signals::stop_self();
    terminal::raise().map_err(Error::Input)?;
    match paused {
        Ok(()) => Ok(vmm.resume()?),
        // The threads stood still all the same; the guest's clock was not told.
        Err(vmm::Error::Busy) => Ok(()),
        Err(err) => Err(err.into()),
    }
}

fn stdin() -> std::io::Result<std::fs::File> {
    use std::os::fd::AsFd;
    Ok(std::io::stdin().as_fd().try_clone_to_owned()?.into())
}
