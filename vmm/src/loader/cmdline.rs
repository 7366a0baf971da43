// SPDX-License-Identifier: Apache-2.0
//! The kernel command line.

use super::Error;

/// Checks `cmdline` against the kernel's limit (without the NUL) and against characters that no
/// kernel parses.
pub fn check(cmdline: &str, limit: usize) -> Result<(), Error> {
    if cmdline.len() > limit {
        return Err(Error::CmdlineTooLong { actual: cmdline.len(), limit });
    }
    let control = cmdline.bytes().find(|byte| byte.is_ascii_control() && *byte != b'\t');
    control.map_or(Ok(()), |byte| Err(Error::CmdlineCharacter(byte)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn check_length_counts_up_to_the_limit() {
        assert!(check(&"a".repeat(2047), 2047).is_ok());
        assert!(matches!(check(&"a".repeat(2048), 2047), Err(Error::CmdlineTooLong { actual: 2048, limit: 2047 })));
    }

    #[test]
    fn check_control_characters_are_refused() {
        assert!(check("a\tb", 10).is_ok());
        assert!(matches!(check("a\0b", 10), Err(Error::CmdlineCharacter(0))));
        assert!(matches!(check("a\nb", 10), Err(Error::CmdlineCharacter(b'\n'))));
    }
}
