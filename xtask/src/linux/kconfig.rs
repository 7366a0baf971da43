// SPDX-License-Identifier: Apache-2.0
//! Configuration fragments, and the check that a kernel got what they ask for.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};

/// Options by name (`CONFIG_KVM`), with the value as written (`y`, `32`, `"x"`).
/// `n` stands for off.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Options(BTreeMap<String, String>);

impl Options {
    /// Reads fragments one after the other: a later line wins.
    pub(crate) fn read<'a>(fragments: impl IntoIterator<Item = &'a Path>) -> Result<Self> {
        let mut options = Self::default();
        for path in fragments {
            let text = fs::read_to_string(path).with_context(|| format!("Cannot read {}", path.display()))?;
            options.merge(&text).with_context(|| format!("Bad configuration fragment {}", path.display()))?;
        }
        Ok(options)
    }

    /// Adds the lines of one fragment.
    fn merge(&mut self, text: &str) -> Result<()> {
        for (number, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            match line.split_once('=') {
                Some((name, value)) if name.starts_with("CONFIG_") && !value.is_empty() => self.set(name, value),
                _ => bail!("Line {} is neither CONFIG_X=value nor a comment: {line}", number + 1),
            }
        }
        Ok(())
    }

    pub(crate) fn set(&mut self, name: &str, value: &str) {
        self.0.insert(name.to_owned(), value.to_owned());
    }

    /// The text that `KCONFIG_ALLCONFIG` takes.
    pub(crate) fn to_text(&self) -> String {
        self.0.iter().map(|(name, value)| format!("{name}={value}\n")).collect()
    }

    /// What is asked for here but is not so in the final `.config`.
    pub(crate) fn missing_in(&self, config: &str) -> Vec<String> {
        let set: BTreeMap<&str, &str> =
            config.lines().filter(|line| line.starts_with("CONFIG_")).filter_map(|line| line.split_once('=')).collect();
        self.0
            .iter()
            .filter(|(name, value)| set.get(name.as_str()).copied().unwrap_or("n") != value.as_str())
            .map(|(name, value)| match set.get(name.as_str()) {
                Some(got) => format!("{name}={value} (is {got})"),
                None => format!("{name}={value} (is off)"),
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn options(text: &str) -> Options {
        let mut options = Options::default();
        options.merge(text).unwrap();
        options
    }

    #[test]
    fn merge_later_line_wins_and_comments_are_skipped() {
        let merged = options("# why\nCONFIG_A=y\n\nCONFIG_B=\"x=y\"\nCONFIG_A=n\n");
        assert_eq!(merged.to_text(), "CONFIG_A=n\nCONFIG_B=\"x=y\"\n");
    }

    #[test]
    fn merge_refuses_what_kconfig_would_skip_in_silence() {
        for line in ["KVM=y", "CONFIG_KVM", "CONFIG_KVM=", "CONFIG_KVM y"] {
            assert!(Options::default().merge(line).is_err(), "{line}");
        }
    }

    #[test]
    fn missing_in_names_values_that_differ_and_options_that_are_off() {
        let asked = options("CONFIG_A=y\nCONFIG_B=y\nCONFIG_C=n\nCONFIG_D=n\nCONFIG_E=32\n");
        let missing = asked.missing_in("CONFIG_A=y\n# CONFIG_B is not set\nCONFIG_D=y\nCONFIG_E=64\n");
        assert_eq!(missing, ["CONFIG_B=y (is off)", "CONFIG_D=n (is y)", "CONFIG_E=32 (is 64)"]);
    }
}
