// SPDX-License-Identifier: Apache-2.0
//! `cargo xtask reference`: what a verifier of tokens can hold them against.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use elf::ElfBytes;
use elf::endian::AnyEndian;
use elf::note::Note;
use serde_json::{Map, Value, json};

use crate::linux::kernel::MUTANT;
use crate::support::cargo::build_release;
use crate::support::paths::{Paths, create_dir};
use crate::support::process;

/// The file, below target/artifacts.
const FILE: &str = "reference-values.json";

/// Guest kernels, below target/artifacts.
const GUESTS: [&str; 3] = ["guest/bzImage", "guest/vmlinux", "stock-cloud/vmlinuz"];

/// Write down the build ids of the host kernels, and the digests of the guest kernels and of the VMM, that have
/// been built: the reference values of secretvmm-verify.
///
/// Prints the path of the file, target/artifacts/reference-values.json.
#[derive(clap::Args)]
pub(crate) struct Args {}

pub(crate) fn run(paths: &Paths, _: &Args) -> Result<()> {
    build_release(paths)?;
    println!("{}", write(paths)?.display());
    Ok(())
}

/// Writes the file, of a VMM that has been built; gives its path.
pub(crate) fn write(paths: &Paths) -> Result<PathBuf> {
    let folder = paths.artifacts();
    create_dir(&folder)?;
    let vmm = paths.release().join("secretvmm");
    let mut kernels = Map::new();
    let mut vmms = Map::new();
    for guest in GUESTS.into_iter().filter(|guest| folder.join(guest).exists()) {
        let measured = measure(&vmm, &folder.join(guest))?;
        kernels.insert(guest.into(), measured["kernel"].clone());
        vmms.insert("secretvmm".into(), measured["vmm"].clone());
    }
    let values = json!({ "host": { "build_id": build_ids(&folder)? }, "vm": { "kernel": kernels, "vmm": vmms } });
    let file = folder.join(FILE);
    fs::write(&file, format!("{values:#}\n")).with_context(|| format!("Cannot write {}", file.display()))?;
    Ok(file)
}

/// What the VMM itself measures of a kernel, as for a token.
fn measure(vmm: &Path, kernel: &Path) -> Result<Value> {
    let text = process::output(Command::new(vmm).arg("measure").arg("--kernel").arg(kernel))?;
    serde_json::from_str(&text).with_context(|| format!("{} measured {}: {text}", vmm.display(), kernel.display()))
}

/// By the name of each patched host kernel among the artifacts.
fn build_ids(folder: &Path) -> Result<Map<String, Value>> {
    let mut ids = Map::new();
    for entry in fs::read_dir(folder).with_context(|| format!("Cannot read {}", folder.display()))? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        let vmlinux = folder.join(&name).join("vmlinux");
        let good = name.starts_with("host-") && !name.ends_with("-unpatched") && name != format!("host-{MUTANT}");
        if good && vmlinux.exists() {
            ids.insert(name, build_id(&vmlinux)?.into());
        }
    }
    Ok(ids)
}

/// The GNU build id in a vmlinux's notes, which the kernel shows in /sys/kernel/notes.
fn build_id(vmlinux: &Path) -> Result<String> {
    let bytes = fs::read(vmlinux).with_context(|| format!("Cannot read {}", vmlinux.display()))?;
    let file = ElfBytes::<AnyEndian>::minimal_parse(&bytes).context("Not an ELF file")?;
    let section = file.section_header_by_name(".notes")?.context("No notes")?;
    for note in file.section_data_as_notes(&section)? {
        if let Note::GnuBuildId(id) = note {
            return Ok(id.0.iter().map(|byte| format!("{byte:02x}")).collect());
        }
    }
    bail!("{} has no build id", vmlinux.display())
}
