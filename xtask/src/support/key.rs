// SPDX-License-Identifier: Apache-2.0
//! Cache keys: a hash over everything that decides what a build gives.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use sha2::{Digest, Sha256};

/// Collects labelled inputs into a key of 16 hexadecimal digits.
pub(crate) struct Key(Sha256);

impl Key {
    /// `recipe` names the build and its version: raise it when the way of
    /// building changes what comes out.
    pub(crate) fn new(recipe: &str) -> Self {
        Self(Sha256::new()).with("recipe", recipe)
    }

    /// Adds a value. Lengths are hashed too, so that values cannot run together.
    pub(crate) fn with(mut self, label: &str, value: impl AsRef<[u8]>) -> Self {
        for part in [label.as_bytes(), value.as_ref()] {
            self.0.update((part.len() as u64).to_le_bytes());
            self.0.update(part);
        }
        self
    }

    /// Adds a file's content.
    pub(crate) fn with_file(self, label: &str, path: &Path) -> Result<Self> {
        let content = fs::read(path).with_context(|| format!("Cannot read {}", path.display()))?;
        Ok(self.with(label, content))
    }

    pub(crate) fn finish(self) -> String {
        self.0.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn key_depends_on_recipe_label_value_and_their_borders() {
        let key = |recipe: &str, label: &str, value: &str| Key::new(recipe).with(label, value).finish();
        let base = key("r", "ab", "c");
        assert_eq!(base, key("r", "ab", "c"));
        assert_eq!(base.len(), 16);
        for other in [key("s", "ab", "c"), key("r", "a", "bc"), key("r", "ab", "d")] {
            assert_ne!(base, other);
        }
    }
}
