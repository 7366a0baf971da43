// SPDX-License-Identifier: Apache-2.0
//! What the API's actions do: the one door to a VM, for clients and the command line alike.

mod counted;
mod files;
mod live;
mod setup;

use std::cell::RefCell;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use secretvmm_api::{
    Action, Any, Attestation, Fault, InstanceInfo, InstanceState, Live, Logger, Metrics, MmdsContents, Reply, Setup,
    Version, VmConfigFile,
};
use serde_json::Value;
use vmm_sys_util::timerfd::TimerFd;

use self::counted::{counters, timer};

use crate::attestation::{self, Attestor, Facts, Measured};
use crate::config::{self, Start, VmConfig};
use crate::control::Control;
use crate::memory::RamKind;
use crate::metrics::{METRICS, Report, Sink};
use crate::mmds::{self, Mmds, SharedMmds, lock};
use crate::outcome::Outcome;
use crate::sandbox::Sandbox;
use crate::terminal::RawMode;
use crate::vmm::{State, Vmm};
use crate::{builder, logger, outcome, preflight, signals, version, vmm};

/// Why a VM was not started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// It makes no sense on any host.
    #[error(transparent)]
    Config(#[from] config::Error),
    /// Its metadata cannot be reached so.
    #[error(transparent)]
    Mmds(#[from] mmds::Error),
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
    /// A start has failed before, when files had been given up.
    #[error("A start that failed has given up the files of this process; start secretvmm again")]
    Spent,
}

impl StartError {
    /// What the process ends with, if nobody is there to try again.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Config(_) | Self::Mmds(_) => outcome::USAGE,
            _ => outcome::PREFLIGHT,
        }
    }
}

/// What the process was told about its VM beside its configuration.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// The VM's name.
    pub id: String,
    /// The guest gets Firecracker's boot timer.
    pub boot_timer: bool,
    /// The most bytes of metadata (MMDS).
    pub mmds_limit: usize,
    /// How long a guest that was asked to shut down may take; for ever if None.
    pub shutdown_timeout: Option<Duration>,
    /// What threads are confined by.
    pub sandbox: Sandbox,
    /// Where clients are, if anywhere.
    pub api_sock: Option<PathBuf>,
    /// Folders of files that clients may name for drives; empty: all.
    pub drives_from: Vec<PathBuf>,
}

/// A VM that is being described, or that runs.
pub struct Controller {
    options: Options,
    resources: VmConfigFile,
    control: Arc<Control>,
    vmm: Option<Vmm>,
    raw: Option<RawMode>,
    metrics: Option<Sink>,
    mmds: SharedMmds,
    /// Makes tokens, if there is a key.
    attestor: Option<Attestor>,
    /// What was measured before the VM ran, if there was a key.
    measured: Option<Measured>,
    /// Running out when the guest has had its time to shut down.
    deadline: Deadline,
    /// The thread has given up its files for a VM.
    spent: bool,
}

/// A timer that the event loop watches.
pub type Deadline = Rc<RefCell<TimerFd>>;

impl Controller {
    /// A VM of which nothing is known yet.
    ///
    /// # Errors
    /// The process has no descriptor left.
    pub fn new(options: Options) -> std::io::Result<Self> {
        let resources = VmConfigFile::default();
        let mmds = Arc::new(Mutex::new(Mmds::new(options.mmds_limit)));
        let deadline = Rc::new(RefCell::new(TimerFd::new()?));
        Ok(Self {
            options,
            resources,
            control: Control::new()?,
            vmm: None,
            raw: None,
            metrics: None,
            mmds,
            attestor: None,
            measured: None,
            deadline,
            spent: false,
        })
    }

    /// From now on there are tokens, of VMs that are started from now on.
    pub fn attest_with(&mut self, attestor: Attestor) {
        self.attestor = Some(attestor);
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
    /// Nothing was started, and nothing is left behind. It can be tried again, unless it was the vCPUs that did not start.
    pub fn start(&mut self, config: VmConfig) -> Result<(), StartError> {
        if self.spent {
            return Err(StartError::Spent);
        }
        let start = Start { boot_timer: self.options.boot_timer, measured: self.attestor.is_some() };
        let begun = Instant::now();
        let config = config.resolve(start)?;
        if let Some(mmds) = &config.mmds {
            lock(&self.mmds).configure(mmds)?;
        }
        let prepared = preflight::run(&config, &self.mmds)?;
        if config.backing == RamKind::Shared {
            log::warn!("guest memory is ordinary memory, which this host can read (--backing shared)");
        }
        if config.smt {
            log::warn!("smt is accepted, but the guest sees each vCPU as a core of its own");
        }
        let files = files::of(&config, &self.options, self.attestor.is_some());
        let (mut vmm, measured) = builder::build(&config, prepared, self.control.clone())?;
        signals::block();
        let raw = RawMode::enter().map_err(StartError::Terminal)?;
        self.spent = self.options.sandbox.landlock;
        if let Err(err) = vmm.start(self.options.sandbox, &files) {
            drop(vmm);
            self.control.rearm();
            return Err(err.into());
        }
        METRICS.latencies_us.start_vm.set(begun.elapsed());
        let VmConfigFile { logger, metrics, .. } = std::mem::take(&mut self.resources);
        self.resources = VmConfigFile { logger, metrics, ..config.to_resources() };
        (self.vmm, self.raw, self.measured) = (Some(vmm), Some(raw), measured);
        Ok(())
    }

    /// Runs out when the guest was asked to shut down and has not.
    pub fn deadline(&self) -> &Deadline {
        &self.deadline
    }

    /// A signal asks for the end: of the VM at once, or, with a time to shut down, of the guest first.
    /// A second one always ends the VM.
    pub fn end(&mut self, signal: i32) {
        match self.options.shutdown_timeout.take() {
            Some(time) if self.vmm.as_ref().is_some_and(|vmm| vmm.state() == State::Running) => {
                self.ask_to_shut_down(Some(time));
            }
            _ => self.control.finish(Outcome::Signal(signal)),
        }
    }

    fn ask_to_shut_down(&mut self, time: Option<Duration>) {
        if let Some(vmm) = &self.vmm {
            vmm.press_power_button();
        }
        self.limit_shutdown(time);
    }

    /// Counts from now on.
    fn limit_shutdown(&self, time: Option<Duration>) {
        let Some(time) = time else { return };
        // A timer that is armed for 0 would never run out.
        if let Err(err) = self.deadline.borrow_mut().reset(time.max(Duration::from_millis(1)), None) {
            log::error!("The time to shut down cannot be limited: {err}");
        }
    }

    /// Opens the file or named pipe that metrics go to.
    ///
    /// # Errors
    /// There is one already, or it cannot be opened.
    pub fn put_metrics(&mut self, metrics: Metrics) -> Result<(), Fault> {
        if self.metrics.is_some() {
            return Err(Fault::new("Metrics go to a file already; that cannot be changed"));
        }
        let path = &metrics.metrics_path;
        let sink = Sink::open(path);
        self.metrics = Some(sink.map_err(|err| Fault::new(format!("{} cannot be written: {err}", path.display())))?);
        self.resources.metrics = Some(metrics);
        Ok(())
    }

    /// Changes what is logged, and where to.
    ///
    /// # Errors
    /// The file cannot be opened.
    pub fn put_logger(&mut self, settings: Logger) -> Result<(), Fault> {
        let path = settings.log_path.clone().unwrap_or_default();
        logger::configure(&settings)
            .map_err(|err| Fault::new(format!("{} cannot be written: {err}", path.display())))?;
        self.resources.logger = Some(settings);
        Ok(())
    }

    /// Replaces the metadata.
    ///
    /// # Errors
    /// They are too large.
    pub fn put_mmds(&mut self, contents: MmdsContents) -> Result<(), Fault> {
        lock(&self.mmds).put(contents.into()).map_err(|err| mmds_fault(&err))
    }

    /// Writes the metrics, if they are to go anywhere.
    ///
    /// # Errors
    /// The disk or the pipe is full.
    pub fn flush_metrics(&mut self) -> Result<(), Fault> {
        let Some(sink) = &mut self.metrics else { return Ok(()) };
        let mut devices = self.vmm.as_ref().map(|vmm| vmm.devices().metrics()).unwrap_or_default();
        if let Ok(mmds) = serde_json::to_value(&*lock(&self.mmds).metrics()) {
            devices.insert("mmds".into(), mmds);
        }
        let memory = self.vmm.as_ref().and_then(|vmm| vmm.memory_info().ok());
        let written = sink.write(&Report::now(devices, memory));
        written.map_err(|err| Fault::new(format!("Metrics were not written: {err}")))
    }

    /// Ends the VM, if there is one, and gives the terminal back.
    pub fn stop(&mut self) {
        if let Some(vmm) = &mut self.vmm {
            vmm.stop();
        }
        self.vmm.take_if(|vmm| !vmm.is_stuck());
        self.raw = None;
    }

    /// Whether a VM that was stopped has threads that have not ended: its memory must not go before the process.
    pub fn is_stuck(&self) -> bool {
        self.vmm.is_some()
    }

    /// Does what a client asks.
    ///
    /// # Errors
    /// It was not done, and nothing of it is left.
    pub fn handle(&mut self, action: Action) -> Result<Reply, Fault> {
        let counters = counters(&action);
        let begun = Instant::now();
        let timer = timer(&action);
        let result = self.dispatch(action);
        if let Some((count, fails)) = counters {
            count.inc();
            if let (Err(_), Some(fails)) = (&result, fails) {
                fails.inc();
            }
        }
        if let (Ok(_), Some(latest)) = (&result, timer) {
            latest.set(begun.elapsed());
        }
        result
    }

    fn dispatch(&mut self, action: Action) -> Result<Reply, Fault> {
        match action {
            Action::Any(any) => self.any(any),
            Action::Setup(setup) if self.vmm.is_some() => Err(setup::too_late(&setup)),
            Action::Setup(setup) => self.setup(setup),
            Action::Live(live) => self.live(live),
        }
    }

    fn any(&mut self, any: Any) -> Result<Reply, Fault> {
        match any {
            Any::GetInstanceInfo => Ok(Reply::InstanceInfo(self.info())),
            Any::GetVersion => Ok(Reply::Version(Version { firecracker_version: version() })),
            Any::GetVmConfig => Ok(Reply::VmConfig(Box::new(self.resources.clone()))),
            Any::GetMachineConfig => Ok(Reply::MachineConfig(config::machine_of(&self.resources))),
            Any::GetMmds => match lock(&self.mmds).get() {
                Value::Object(contents) => Ok(Reply::Mmds(contents)),
                _ => Ok(Reply::Mmds(MmdsContents::new())),
            },
            Any::PutMmds(contents) => self.put_mmds(contents).map(|()| Reply::NoContent),
            Any::PatchMmds(patch) => {
                let patched = lock(&self.mmds).patch(patch.into());
                patched.map(|()| Reply::NoContent).map_err(|err| mmds_fault(&err))
            }
        }
    }

    fn setup(&mut self, setup: Setup) -> Result<Reply, Fault> {
        match setup {
            Setup::PutMetrics(metrics) => self.put_metrics(metrics).map(|()| Reply::NoContent),
            Setup::PutLogger(logger) => self.put_logger(logger).map(|()| Reply::NoContent),
            Setup::Start => {
                let config = VmConfig::from_resources(&self.resources).map_err(|err| Fault::from_error(&err))?;
                self.start(config).map_err(|err| Fault::from_error(&err)).map(|()| Reply::NoContent)
            }
            resource => setup::put_resource(&mut self.resources, resource),
        }
    }

    fn live(&mut self, live: Live) -> Result<Reply, Fault> {
        let Some(vmm) = &mut self.vmm else { return Err(live::too_early(&live)) };
        match live {
            Live::GetMemory => live::memory(vmm),
            Live::GetAttestation(nonce) => {
                let attestor = self.attestor.as_ref().ok_or(attestation::Error::NoKey);
                let (ram, secretmem, measured) = (vmm.ram(), vmm.secretmem_features(), self.measured.as_ref());
                let sandbox = self.options.sandbox.layers(vmm.has_own_core());
                let facts = Facts { ram, secretmem, measured, sandbox };
                let token = attestor.and_then(|attestor| attestor.token(nonce, &facts));
                let token = token.map_err(|err| Fault::from_error(&err))?;
                Ok(Reply::Attestation(Attestation::new(&token)))
            }
            Live::PatchDrive(update) => live::update_drive(vmm, &mut self.resources, &update),
            Live::PatchNetworkInterface(update) => live::update_network(vmm, &mut self.resources, &update),
            Live::SendCtrlAltDel => {
                vmm.press_ctrl_alt_del().map_err(|err| Fault::from_error(&err))?;
                self.limit_shutdown(self.options.shutdown_timeout);
                Ok(Reply::NoContent)
            }
            Live::SendPowerButton => {
                self.ask_to_shut_down(self.options.shutdown_timeout);
                Ok(Reply::NoContent)
            }
            Live::FlushMetrics => self.flush_metrics().map(|()| Reply::NoContent),
            Live::Pause => live::pause(vmm),
            Live::Resume => live::resume(vmm),
        }
    }

    fn info(&self) -> InstanceInfo {
        let state = match self.vmm.as_ref().map(Vmm::state) {
            None | Some(State::Configured) => InstanceState::NotStarted,
            Some(State::Running | State::Stopped) => InstanceState::Running,
            Some(State::Paused) => InstanceState::Paused,
        };
        InstanceInfo { id: self.options.id.clone(), state, vmm_version: version(), app_name: "secretvmm".into() }
    }
}

fn mmds_fault(err: &mmds::Error) -> Fault {
    match err {
        mmds::Error::TooLarge { .. } => Fault::too_large(err.to_string()),
        _ => Fault::from_error(err),
    }
}

fn version() -> String {
    version::FIRECRACKER.to_owned()
}
