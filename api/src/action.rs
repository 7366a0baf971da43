//! What a client can ask of the VMM, and what it answers: the only door between them.

use std::error::Error;
use std::fmt;

use hyper::StatusCode;
use serde::Serialize;
use tokio::sync::oneshot;

use error_reporter::Report;
use secretvmm_evidence::Nonce;

use crate::resources::{
    Attestation, BootSource, CpuConfig, Drive, DriveUpdate, Entropy, InstanceInfo, Logger, MachineConfig,
    MachineConfigUpdate, MemoryInfo, Metrics, MmdsConfig, MmdsContents, NetworkInterface, NetworkInterfaceUpdate,
    Serial, Version, VmConfigFile, Vsock,
};

/// What a client asks. Ids in path and body agree, and fields are within the bounds of their types;
/// whether it can be done now is for the VMM to say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// `GET /`, answered with [`Reply::InstanceInfo`].
    GetInstanceInfo,
    /// `GET /version`, answered with [`Reply::Version`].
    GetVersion,
    /// `GET /vm/config`, answered with [`Reply::VmConfig`].
    GetVmConfig,
    /// `GET /machine-config`, answered with [`Reply::MachineConfig`].
    GetMachineConfig,
    /// `GET /memory`, answered with [`Reply::Memory`].
    GetMemory,
    /// `GET /attestation?nonce=...`, after the start, answered with [`Reply::Attestation`].
    GetAttestation(Nonce),
    /// `GET /mmds`, answered with [`Reply::Mmds`].
    GetMmds,
    /// `PUT /boot-source`, before the start.
    PutBootSource(BootSource),
    /// `PUT /cpu-config`, before the start.
    PutCpuConfig(CpuConfig),
    /// `PUT /machine-config`, before the start.
    PutMachineConfig(MachineConfig),
    /// `PATCH /machine-config`, before the start; at least one field is there.
    PatchMachineConfig(MachineConfigUpdate),
    /// `PUT /drives/{drive_id}`, before the start; replaces the drive of that id.
    PutDrive(Drive),
    /// `PATCH /drives/{drive_id}`, after the start.
    PatchDrive(DriveUpdate),
    /// `PUT /network-interfaces/{iface_id}`, before the start; replaces the interface of that id.
    PutNetworkInterface(NetworkInterface),
    /// `PATCH /network-interfaces/{iface_id}`, after the start.
    PatchNetworkInterface(NetworkInterfaceUpdate),
    /// `PUT /vsock`, before the start.
    PutVsock(Vsock),
    /// `PUT /entropy`, before the start.
    PutEntropy(Entropy),
    /// `PUT /serial`, before the start.
    PutSerial(Serial),
    /// `PUT /logger`, before the start.
    PutLogger(Logger),
    /// `PUT /metrics`, before the start, once.
    PutMetrics(Metrics),
    /// `PUT /mmds`, at any time; too much of it is [`Fault::too_large`].
    PutMmds(MmdsContents),
    /// `PATCH /mmds`, at any time after it was put: a merge by RFC 7396.
    PatchMmds(MmdsContents),
    /// `PUT /mmds/config`, before the start.
    PutMmdsConfig(MmdsConfig),
    /// `PUT /actions` with `InstanceStart`.
    Start,
    /// `PUT /actions` with `SendCtrlAltDel`, after the start.
    SendCtrlAltDel,
    /// `PUT /actions` with `SendPowerButton`, after the start.
    SendPowerButton,
    /// `PUT /actions` with `FlushMetrics`, after the start.
    FlushMetrics,
    /// `PATCH /vm` with `Paused`, after the start.
    Pause,
    /// `PATCH /vm` with `Resumed`, after the start.
    Resume,
}

/// What the VMM answers when it has done what was asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Reply {
    /// To every action that is no question: status 204.
    NoContent,
    /// To [`Action::GetInstanceInfo`].
    InstanceInfo(InstanceInfo),
    /// To [`Action::GetVersion`].
    Version(Version),
    /// To [`Action::GetVmConfig`].
    VmConfig(Box<VmConfigFile>),
    /// To [`Action::GetMachineConfig`].
    MachineConfig(MachineConfig),
    /// To [`Action::GetMemory`].
    Memory(MemoryInfo),
    /// To [`Action::GetAttestation`].
    Attestation(Attestation),
    /// To [`Action::GetMmds`].
    Mmds(MmdsContents),
}

/// Why something was not done. The client gets `{"fault_message": "..."}`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    status: StatusCode,
    message: String,
}

impl Fault {
    /// Status 400: what was asked makes no sense, or not now.
    pub fn new(message: impl Into<String>) -> Self {
        Self { status: StatusCode::BAD_REQUEST, message: message.into() }
    }

    /// Status 413: more than there is room for.
    pub fn too_large(message: impl Into<String>) -> Self {
        Self { status: StatusCode::PAYLOAD_TOO_LARGE, message: message.into() }
    }

    /// Status 400 with an error and what caused it, as `error: cause: cause of that`.
    pub fn from_error(error: &dyn Error) -> Self {
        Self::new(Report::new(error).to_string())
    }

    /// The HTTP status.
    pub fn status(&self) -> u16 {
        self.status_code().as_u16()
    }

    pub(crate) fn status_code(&self) -> StatusCode {
        self.status
    }

    /// What to tell the client.
    pub fn message(&self) -> &str {
        &self.message
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl Error for Fault {}

/// One request on its way to the VMM, which answers exactly once. If it drops `reply` instead, the
/// client is told that the VMM is going away.
#[derive(Debug)]
pub struct Call {
    /// What is asked.
    pub action: Action,
    /// Where the answer goes.
    pub reply: oneshot::Sender<Result<Reply, Fault>>,
}
