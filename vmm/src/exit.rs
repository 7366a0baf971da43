//! From how a VM ended to what the shell sees.

use crate::control::Outcome;

/// Wrong usage, also of a configuration file (clap's own choice, too).
pub const USAGE: u8 = 2;
/// Nothing was started: preflight refused, or guest memory could not be had.
pub const PREFLIGHT: u8 = 3;
/// The VMM failed.
pub const FAILURE: u8 = 1;
/// A thread made a system call that its filter forbids; Firecracker's code.
pub const BAD_SYSCALL: u8 = 148;

/// The exit code of a VM that was started.
pub fn code(outcome: &Outcome) -> u8 {
    match outcome {
        Outcome::PowerOff | Outcome::Reset | Outcome::Quit => 0,
        Outcome::Failure(_) => FAILURE,
        Outcome::TripleFault => 4,
        Outcome::Panic => 5,
        Outcome::TimeLimit => 6,
        Outcome::Signal(signal) => 128_u8.saturating_add(u8::try_from(*signal).unwrap_or(u8::MAX)),
    }
}

/// Prints an error and everything below it on one line.
pub fn report(err: &dyn std::error::Error) {
    eprintln!("secretvmm: error: {}", line(err));
}

/// An error and everything below it, as one line.
pub fn line(err: &dyn std::error::Error) -> String {
    let mut text = err.to_string();
    let mut source = err.source();
    while let Some(err) = source {
        text = format!("{text}: {err}");
        source = err.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_follows_the_documented_table() {
        for (outcome, expected) in [
            (Outcome::PowerOff, 0),
            (Outcome::Reset, 0),
            (Outcome::Quit, 0),
            (Outcome::TripleFault, 4),
            (Outcome::Panic, 5),
            (Outcome::TimeLimit, 6),
            (Outcome::Signal(libc::SIGTERM), 143),
            (Outcome::Signal(libc::SIGHUP), 129),
        ] {
            assert_eq!(code(&outcome), expected, "{outcome:?}");
        }
    }
}
