// SPDX-License-Identifier: Apache-2.0
//! What kind of program is to be started: one that needs nothing but itself.

use std::fs::File;
use std::io;
use std::path::Path;

use elf::abi::{EM_X86_64, ET_DYN, ET_EXEC, PT_INTERP};
use elf::endian::AnyEndian;
use elf::{ElfStream, ParseError};

use crate::error::Error;

/// Refuses what could not be executed in an empty root.
///
/// # Errors
/// The file is no ELF program for x86-64, or names a dynamic loader.
pub(crate) fn check(path: &Path, file: File) -> Result<(), Error> {
    let not = |what| Error::Executable { path: path.into(), what };
    let mut elf = match ElfStream::<AnyEndian, _>::open_stream(file) {
        Ok(elf) => elf,
        Err(ParseError::IOError(source)) if source.kind() != io::ErrorKind::UnexpectedEof => {
            return Err(Error::ExecFile { path: path.into(), source });
        }
        Err(_) => return Err(not("not an ELF file")),
    };
    if elf.ehdr.e_machine != EM_X86_64 || ![ET_EXEC, ET_DYN].contains(&elf.ehdr.e_type) {
        return Err(not("an ELF file, but not an x86-64 program"));
    }
    let Some(loader) = elf.segments().iter().find(|segment| segment.p_type == PT_INTERP).copied() else {
        return Ok(());
    };
    let name = elf.segment_data(&loader).map(|bytes| String::from_utf8_lossy(bytes).into_owned());
    let loader = name.unwrap_or_default().trim_end_matches('\0').to_owned();
    Err(Error::Dynamic { path: path.into(), loader })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn program_with_a_loader_is_refused_with_its_name() {
        // Debian's and this test's own: one of them is dynamic anywhere.
        let path = std::env::current_exe().unwrap();
        let err = check(&path, File::open(&path).unwrap()).unwrap_err();
        assert!(matches!(&err, Error::Dynamic { loader, .. } if loader.contains("ld-linux")), "{err}");
    }

    #[test]
    fn file_that_is_no_program_is_refused() {
        let file = tempfile::NamedTempFile::new().unwrap();
        for contents in [&b""[..], b"#!/bin/sh\n", &[0x7f; 4096], b"\x7fELF"] {
            std::fs::write(file.path(), contents).unwrap();
            let err = check(file.path(), File::open(file.path()).unwrap()).unwrap_err();
            assert!(matches!(err, Error::Executable { .. }), "{err}");
        }
    }
}
