// SPDX-License-Identifier: Apache-2.0
//! What has been made, so that a start that fails leaves nothing.

use std::fs;
use std::path::{Path, PathBuf};

use crate::error::Error;

/// Files and folders that this program made, the last one last. Dropping it removes them.
#[derive(Debug, Default)]
pub(crate) struct Made(Vec<PathBuf>);

impl Made {
    /// Makes the folder, and those above it that are missing.
    ///
    /// # Errors
    /// The system's, with the folder.
    pub(crate) fn folders(&mut self, path: &Path) -> Result<(), Error> {
        let missing: Vec<_> = path.ancestors().take_while(|folder| !folder.exists()).collect();
        for folder in missing.into_iter().rev() {
            match fs::create_dir(folder) {
                Ok(()) => self.note(folder),
                // Another jailer may make the common ones at the same time.
                Err(_) if folder.is_dir() => {}
                Err(source) => return Err(Error::file("Making the folder", folder)(source)),
            }
        }
        Ok(())
    }

    /// Remembers something that was just made.
    pub(crate) fn note(&mut self, path: impl Into<PathBuf>) {
        self.0.push(path.into());
    }

    /// Everything stays.
    pub(crate) fn keep(mut self) {
        self.0.clear();
    }
}

impl Drop for Made {
    fn drop(&mut self) {
        for path in self.0.iter().rev() {
            // A folder that others have used since is not empty and stays.
            let _ = fs::remove_file(path).or_else(|_| fs::remove_dir(path));
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn what_was_made_goes_and_what_was_there_stays() {
        let there = tempfile::tempdir().unwrap();
        let file = there.path().join("a/b/file");
        let mut made = Made::default();
        made.folders(&there.path().join("a/b")).unwrap();
        fs::write(&file, "x").unwrap();
        made.note(&file);
        drop(made);
        assert!(there.path().exists() && !there.path().join("a").exists());
    }

    #[test]
    fn what_is_kept_stays() {
        let there = tempfile::tempdir().unwrap();
        let mut made = Made::default();
        made.folders(&there.path().join("a/b")).unwrap();
        made.keep();
        assert!(there.path().join("a/b").exists());
    }
}
