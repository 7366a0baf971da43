//! What the API's actions do: the one door to a VM, for clients and the command line alike.

mod live;
mod setup;

use std::sync::Arc;

use secretvmm_api::{Action, Fault, InstanceInfo, InstanceState, Reply, Version, VmConfigFile};

use crate::config::{self, VmConfig};
use crate::control::Control;
use crate::terminal::RawMode;
use crate::vmm::{State, Vmm};
use crate::{builder, exit, preflight, signals, vmm};

/// Why a VM was not started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// It makes no sense on any host.
    #[error(transparent)]
    Config(#[from] config::Error),
    /// It does not work on this host.
    #[error(transparent)]
    Preflight(#[from] preflight::Error),
    /// It could not be built.
    #[error(transparent)]
    Build(#[from] builder::Error),
    /// The terminal could not be made raw.
    #[error("The terminal could not be set up")]
    Terminal(#[source] std::io::Error),
    /// Its vCPUs could not be started.
    #[error(transparent)]
    Vmm(#[from] vmm::Error),
}

impl StartError {
    /// What the process ends with, if nobody is there to try again.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Config(_) => exit::USAGE,
            _ => exit::PREFLIGHT,
        }
    }
}

/// A VM that is being described, or that runs.
pub struct Controller {
    id: String,
    resources: VmConfigFile,
    control: Arc<Control>,
    vmm: Option<Vmm>,
    raw: Option<RawMode>,
}

impl Controller {
    /// A VM called `id` that is described by `resources` so far.
    ///
    /// # Errors
    /// The process has no descriptor left.
    pub fn new(id: String, resources: VmConfigFile) -> std::io::Result<Self> {
        Ok(Self { id, resources, control: Control::new()?, vmm: None, raw: None })
    }

    /// What vCPU threads and the main thread share.
    pub fn control(&self) -> &Arc<Control> {
        &self.control
    }

    /// The VM, once it is started.
    pub fn vmm(&mut self) -> Option<&mut Vmm> {
        self.vmm.as_mut()
    }

    /// Checks, builds and starts the VM.
    ///
    /// # Errors
    /// Nothing was started, nothing is left behind, and it can be tried again.
    pub fn start(&mut self, config: VmConfig) -> Result<(), StartError> {
        config.validate()?;
        let prepared = preflight::run(&config)?;
        let mut vmm = builder::build(&config, prepared, self.control.clone())?;
        signals::hold_back();
        let raw = RawMode::enter().map_err(StartError::Terminal)?;
        vmm.start()?;
        self.resources = config.to_resources();
        (self.vmm, self.raw) = (Some(vmm), Some(raw));
        Ok(())
    }

    /// Ends the VM, if there is one, and gives the terminal back.
    pub fn stop(&mut self) {
        self.vmm = None;
        self.raw = None;
    }

    /// Does what a client asks.
    ///
    /// # Errors
    /// It was not done, and nothing of it is left.
    pub fn handle(&mut self, action: Action) -> Result<Reply, Fault> {
        match action {
            Action::GetInstanceInfo => return Ok(Reply::InstanceInfo(self.info())),
            Action::GetVersion => return Ok(Reply::Version(Version { firecracker_version: version() })),
            Action::GetVmConfig => return Ok(Reply::VmConfig(Box::new(self.resources.clone()))),
            Action::GetMachineConfig => return Ok(Reply::MachineConfig(config::machine_of(&self.resources))),
            _ => {}
        }
        match &mut self.vmm {
            Some(vmm) => live::handle(vmm, &mut self.resources, action),
            None if action == Action::Start => {
                let config = VmConfig::from_resources(&self.resources).map_err(|err| Fault::from_error(&err))?;
                self.start(config).map_err(|err| Fault::from_error(&err)).map(|()| Reply::NoContent)
            }
            None => setup::handle(&mut self.resources, action),
        }
    }

    fn info(&self) -> InstanceInfo {
        let state = match self.vmm.as_ref().map(Vmm::state) {
            None | Some(State::Configured) => InstanceState::NotStarted,
            Some(State::Running | State::Stopped) => InstanceState::Running,
            Some(State::Paused) => InstanceState::Paused,
        };
        InstanceInfo { id: self.id.clone(), state, vmm_version: version(), app_name: "secretvmm".into() }
    }
}

fn version() -> String {
    env!("CARGO_PKG_VERSION").to_owned()
}
