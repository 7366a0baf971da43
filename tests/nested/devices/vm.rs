// SPDX-License-Identifier: Apache-2.0
//! A `secretvmm` that is told by its API what to do.

use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use secretvmm_api::client::{Client, Error};
use secretvmm_tests::artifacts::{GUEST_BZIMAGE, artifact};
use secretvmm_tests::guest::{BOOT_LIMIT, CMDLINE, Ending, Guest, GuestBuilder, STEP_LIMIT};
use serde_json::{Value, json};

use crate::support::Scratch;

/// The process, its console and its API.
pub(crate) struct Vm {
    pub(crate) guest: Guest,
    pub(crate) api: Client,
    /// Files of this test; the socket is among them.
    pub(crate) scratch: Scratch,
}

impl Vm {
    /// Starts a VMM that waits for requests.
    pub(crate) fn new(name: &str) -> Result<Self> {
        Self::with_arguments(name, &[])
    }

    /// The same, with more arguments.
    pub(crate) fn with_arguments(name: &str, arguments: &[&str]) -> Result<Self> {
        let scratch = Scratch::new(name)?;
        let socket = scratch.path("api.sock");
        let guest = GuestBuilder::api(&socket).arguments(arguments.iter().copied()).start()?;
        Self::of(guest, scratch, &socket)
    }

    /// A VMM that was started in another way and listens at `socket`.
    pub(crate) fn of(guest: Guest, scratch: Scratch, socket: &Path) -> Result<Self> {
        let api = connect(socket, &guest)?;
        Ok(Vm { guest, api, scratch })
    }

    /// Sets the demo guest as what boots, with parameters after the usual command line.
    pub(crate) fn boots_demo(&self, parameters: &str) -> Result<()> {
        self.boots(&artifact(GUEST_BZIMAGE)?, &format!("{CMDLINE} quiet {parameters}"), None)
    }

    /// Sets what boots.
    pub(crate) fn boots(&self, kernel: &Path, cmdline: &str, initrd: Option<&Path>) -> Result<()> {
        let mut source = json!({ "kernel_image_path": kernel, "boot_args": cmdline });
        if let Some(initrd) = initrd {
            source["initrd_path"] = json!(initrd);
        }
        self.put("/boot-source", &source)
    }

    /// `PUT`, which must succeed.
    pub(crate) fn put(&self, path: &str, body: &Value) -> Result<()> {
        self.api.put(path, body).with_context(|| format!("PUT {path} {body}: {}", self.guest.messages.text()))
    }

    /// `PATCH`, which must succeed.
    pub(crate) fn patch(&self, path: &str, body: &Value) -> Result<()> {
        self.api.patch(path, body).with_context(|| format!("PATCH {path} {body}: {}", self.guest.messages.text()))
    }

    /// `GET`, which must succeed.
    pub(crate) fn get(&self, path: &str) -> Result<Value> {
        self.api.get(path).with_context(|| format!("GET {path}: {}", self.guest.messages.text()))
    }

    /// `PUT /actions`.
    pub(crate) fn action(&self, action: &str) -> Result<()> {
        self.put("/actions", &json!({ "action_type": action }))
    }

    /// `PATCH /vm`.
    pub(crate) fn set_state(&self, state: &str) -> Result<()> {
        self.patch("/vm", &json!({ "state": state }))
    }

    /// What `GET /` says about the VM.
    pub(crate) fn state(&self) -> Result<String> {
        Ok(self.get("/")?["state"].as_str().context("No state")?.to_owned())
    }

    /// Starts the demo guest and waits for its shell.
    pub(crate) fn start_to_shell(&mut self) -> Result<()> {
        self.action("InstanceStart")?;
        self.guest.wait_for_shell()
    }

    /// A drive that is not the root device.
    pub(crate) fn drive(&self, id: &str, path: &Path, more: &Value) -> Result<()> {
        let mut drive = json!({ "drive_id": id, "path_on_host": path, "is_root_device": false });
        merge(&mut drive, more);
        self.put(&format!("/drives/{id}"), &drive)
    }

    /// Asserts that a request is refused with status 400, a fault message with every word of `says`, and a VMM that is
    /// still there.
    pub(crate) fn refuses(&self, method: &str, path: &str, body: &Value, says: &[&str]) -> Result<()> {
        self.refuses_with(400, method, path, body, says)
    }

    /// The same with another status.
    pub(crate) fn refuses_with(
        &self,
        expected: u16,
        method: &str,
        path: &str,
        body: &Value,
        says: &[&str],
    ) -> Result<()> {
        let what = format!("{method} {path} {body}");
        let sent = if body.is_null() { Vec::new() } else { serde_json::to_vec(body)? };
        match self.api.request(method, path, sent) {
            Ok((status, _)) => bail!("{what} gave status {status}"),
            Err(Error::Fault { status, message }) => {
                ensure!(status == expected, "{what} gave status {status}: {message}");
                for word in says {
                    ensure!(message.contains(word), "{what}: the fault message does not say {word:?}: {message}");
                }
            }
            Err(error) => return Err(error).with_context(|| format!("{what}: {}", self.guest.messages.text())),
        }
        self.get("/version").map(drop)
    }

    /// Waits for the VMM's good end.
    pub(crate) fn ends_well(&mut self) -> Result<()> {
        let ending = self.guest.wait(BOOT_LIMIT)?;
        let messages = self.guest.all_messages();
        ensure!(ending == Ending::Code(0), "Ended with {ending:?}: {messages}\n{}", self.guest.console.text());
        ensure!(!messages.contains("panicked"), "secretvmm panicked: {messages}");
        Ok(())
    }

    /// Powers the demo guest off from its shell.
    pub(crate) fn power_off(mut self) -> Result<()> {
        self.guest.type_line("poweroff -f")?;
        self.ends_well()
    }
}

/// Waits until the API answers.
fn connect(socket: &Path, guest: &Guest) -> Result<Client> {
    let client = Client::new(socket)?;
    let deadline = Instant::now() + STEP_LIMIT;
    loop {
        match client.get::<Value>("/version") {
            Ok(_) => return Ok(client),
            Err(error) if Instant::now() > deadline => {
                return Err(error).with_context(|| format!("The API does not answer: {}", guest.messages.text()));
            }
            Err(_) => sleep(Duration::from_millis(20)),
        }
    }
}

fn merge(to: &mut Value, from: &Value) {
    if let (Some(to), Some(from)) = (to.as_object_mut(), from.as_object()) {
        to.extend(from.clone());
    }
}

/// A file of `bytes` zeros (a hole).
pub(crate) fn empty_file(scratch: &Scratch, name: &str, bytes: u64) -> Result<PathBuf> {
    let path = scratch.path(name);
    std::fs::File::create(&path)?.set_len(bytes)?;
    Ok(path)
}
