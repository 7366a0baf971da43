// SPDX-License-Identifier: Apache-2.0
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

/// What a client asks, by when it can be done. Ids in path and body agree, and fields are within the bounds of their
/// types.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// At any time.
    Any(Any),
    /// Before the VM is started.
    Setup(Setup),
    /// Once the VM is started.
    Live(Live),
}

/// What can be asked at any time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Any {
    /// `GET /`, answered with [`Reply::InstanceInfo`].
    GetInstanceInfo,
    /// `GET /version`, answered with [`Reply::Version`].
    GetVersion,
    /// `GET /vm/config`, answered with [`Reply::VmConfig`].
    GetVmConfig,
    /// `GET /machine-config`, answered with [`Reply::MachineConfig`].
    GetMachineConfig,
    /// `GET /mmds`, answered with [`Reply::Mmds`].
    GetMmds,
    /// `PUT /mmds`; too much of it is [`Fault::too_large`].
    PutMmds(MmdsContents),
    /// `PATCH /mmds`; after it was put: a merge by RFC 7396.
    PatchMmds(MmdsContents),
}

/// What describes a VM, and starts it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Setup {
    /// `PUT /boot-source`.
    PutBootSource(BootSource),
    /// `PUT /cpu-config`.
    PutCpuConfig(CpuConfig),
    /// `PUT /machine-config`.
    PutMachineConfig(MachineConfig),
    /// `PATCH /machine-config`; at least one field is there.
    PatchMachineConfig(MachineConfigUpdate),
    /// `PUT /drives/{drive_id}`; replaces the drive of that id.
    PutDrive(Drive),
    /// `PUT /network-interfaces/{iface_id}`; replaces the interface of that id.
    PutNetworkInterface(NetworkInterface),
    /// `PUT /vsock`.
    PutVsock(Vsock),
    /// `PUT /entropy`.
    PutEntropy(Entropy),
    /// `PUT /serial`.
    PutSerial(Serial),
    /// `PUT /logger`.
    PutLogger(Logger),
    /// `PUT /metrics`, once.
    PutMetrics(Metrics),
    /// `PUT /mmds/config`.
    PutMmdsConfig(MmdsConfig),
    /// `PUT /actions` with `InstanceStart`.
    Start,
}

impl Setup {
    /// What a client calls it.
    pub fn name(&self) -> &'static str {
        match self {
            Self::PutBootSource(_) => "PUT /boot-source",
            Self::PutCpuConfig(_) => "PUT /cpu-config",
            Self::PutMachineConfig(_) => "PUT /machine-config",
            Self::PatchMachineConfig(_) => "PATCH /machine-config",
            Self::PutDrive(_) => "PUT /drives",
            Self::PutNetworkInterface(_) => "PUT /network-interfaces",
            Self::PutVsock(_) => "PUT /vsock",
            Self::PutEntropy(_) => "PUT /entropy",
            Self::PutSerial(_) => "PUT /serial",
            Self::PutLogger(_) => "PUT /logger",
            Self::PutMetrics(_) => "PUT /metrics",
            Self::PutMmdsConfig(_) => "PUT /mmds/config",
            Self::Start => "InstanceStart",
        }
    }
}

/// What is asked of a VM that was started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Live {
    /// `GET /memory`, answered with [`Reply::Memory`].
    GetMemory,
    /// `GET /attestation?nonce=...`, answered with [`Reply::Attestation`].
    GetAttestation(Nonce),
    /// `PATCH /drives/{drive_id}`.
    PatchDrive(DriveUpdate),
    /// `PATCH /network-interfaces/{iface_id}`.
    PatchNetworkInterface(NetworkInterfaceUpdate),
    /// `PUT /actions` with `SendCtrlAltDel`.
    SendCtrlAltDel,
    /// `PUT /actions` with `SendPowerButton`.
    SendPowerButton,
    /// `PUT /actions` with `FlushMetrics`.
    FlushMetrics,
    /// `PATCH /vm` with `Paused`.
    Pause,
    /// `PATCH /vm` with `Resumed`.
    Resume,
}

impl Live {
    /// What a client calls it.
    pub fn name(&self) -> &'static str {
        match self {
            Self::GetMemory => "GET /memory",
            Self::GetAttestation(_) => "GET /attestation",
            Self::PatchDrive(_) => "PATCH /drives",
            Self::PatchNetworkInterface(_) => "PATCH /network-interfaces",
            Self::SendCtrlAltDel => "SendCtrlAltDel",
            Self::SendPowerButton => "SendPowerButton",
            Self::FlushMetrics => "FlushMetrics",
            Self::Pause => "Pausing",
            Self::Resume => "Resuming",
        }
    }
}

/// What the VMM answers when it has done what was asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Reply {
    /// To every action that is no question: status 204.
    NoContent,
    /// To [`Any::GetInstanceInfo`].
    InstanceInfo(InstanceInfo),
    /// To [`Any::GetVersion`].
    Version(Version),
    /// To [`Any::GetVmConfig`].
    VmConfig(Box<VmConfigFile>),
    /// To [`Any::GetMachineConfig`].
    MachineConfig(MachineConfig),
    /// To [`Live::GetMemory`].
    Memory(MemoryInfo),
    /// To [`Live::GetAttestation`].
    Attestation(Attestation),
    /// To [`Any::GetMmds`].
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
