// SPDX-License-Identifier: Apache-2.0
//! A setting of a control group, as the command line has it.

use std::path::Path;

use super::write;
use crate::error::Error;

/// A file of a control group and what to write to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Setting {
    file: String,
    value: String,
}

impl Setting {
    /// Reads `FILE=VALUE`, where FILE is `CONTROLLER.NAME`.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let (file, value) = text.split_once('=').ok_or("a setting is FILE=VALUE, such as memory.max=1G")?;
        let named = file.split_once('.').is_some_and(|(controller, name)| !controller.is_empty() && !name.is_empty());
        match named && !file.contains('/') && !value.is_empty() {
            true => Ok(Setting { file: file.to_owned(), value: value.to_owned() }),
            false => Err(format!("{file:?} is not a control group's file, such as memory.max")),
        }
    }

    pub(super) fn controller(&self) -> &str {
        self.file.split('.').next().unwrap_or_default()
    }

    pub(super) fn has_no_controller(&self, version: u8, see: &'static str) -> Error {
        Error::NoController { version, controller: self.controller().to_owned(), see }
    }

    pub(super) fn write(&self, group: &Path) -> Result<(), Error> {
        write(&group.join(&self.file), &self.value)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn settings_name_a_file_of_a_controller() {
        let setting = Setting::parse("memory.max=1G").unwrap();
        assert_eq!((setting.controller(), setting.value.as_str()), ("memory", "1G"));
        for text in ["memory.max", "memory=1", "../memory.max=1", "memory.max=", ".max=1"] {
            assert!(Setting::parse(text).is_err(), "{text}");
        }
    }
}
