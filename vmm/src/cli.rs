//! The command line.

use std::path::PathBuf;

use clap::{ArgAction, Args, Parser, ValueEnum};
use log::LevelFilter;

use crate::config::{self, DEFAULT_CMDLINE, VmConfig, parse_memory};
use crate::memory::{RamKind, SecretOptions};

const AFTER_HELP: &str = "\
Memory:
  secret           memfd_secret: absent from the host kernel's direct map, for this process alone
    ,huge=auto       2 MiB pages where there are any, else 4 KiB (default)
    ,huge=require    2 MiB pages or an error
    ,huge=off        4 KiB pages, allocated when the guest touches them; never from the pool
    ,pool=auto       from the pool reserved at boot if this user may, else from free memory (default)
    ,pool=boot       from the pool, which has 2 MiB pages only, or an error
  shared           ordinary memory, which the host can read

Terminal:
  Standard input and output are the guest's serial console (ttyS0).
  Ctrl-A x         quit
  Ctrl-A Ctrl-A    send one Ctrl-A to the guest
  The end of standard input does not end the VM.

Exit codes:
  0      the guest powered off or rebooted, or Ctrl-A x was typed
  1      the VMM failed while the guest was running
  2      wrong usage
  3      nothing was started: preflight refused, or the host has not the memory; the message says what to do
  4      the guest triple-faulted
  5      the guest's kernel panicked
  128+N  ended by signal N (143 SIGTERM, 130 SIGINT, 129 SIGHUP)";

const USAGE: &str = "secretvmm --kernel <PATH> [OPTIONS]\n       secretvmm --config-file <JSON> [--log-level <LEVEL>]";

/// Run a virtual machine whose memory is hidden from the host kernel
///
/// Guest memory comes from memfd_secret(2) and is absent from the host kernel's direct map. The
/// host kernel needs the secretvmm series, which is checked before anything is started.
#[derive(Debug, Parser)]
#[command(name = "secretvmm", version, override_usage = USAGE, after_help = AFTER_HELP)]
#[command(disable_help_flag = true, disable_version_flag = true)]
pub struct Cli {
    #[command(flatten)]
    boot: Boot,
    #[command(flatten)]
    machine: Machine,
    #[command(flatten)]
    general: General,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "What to boot")]
struct Boot {
    /// Kernel: a bzImage, or an ELF vmlinux built with CONFIG_PVH
    #[arg(long, value_name = "PATH", required_unless_present = "config_file")]
    kernel: Option<PathBuf>,
    /// Initial RAM disk
    #[arg(long, value_name = "PATH")]
    initrd: Option<PathBuf>,
    /// Kernel command line; replaces the default altogether
    #[arg(long, value_name = "STR", default_value = DEFAULT_CMDLINE)]
    cmdline: String,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Machine")]
struct Machine {
    /// Guest memory with a suffix K, M or G, at least 32M; rounded up to a multiple of 2M
    #[arg(long, value_name = "SIZE", default_value = "512M", value_parser = parse_memory)]
    mem: u64,
    /// Number of vCPUs, 1 to 32
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=i64::from(config::MAX_CPUS)))]
    cpus: u8,
    /// What guest memory is made of: secret or shared; see below
    #[arg(long, value_name = "KIND", default_value = "secret", value_parser = parse_ram)]
    memory: RamKind,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "General")]
struct General {
    /// Take kernel and machine from a JSON file ("boot-source" and "machine-config") instead
    #[arg(long, value_name = "JSON", conflicts_with_all = ["kernel", "initrd", "cmdline", "mem", "cpus", "memory"])]
    config_file: Option<PathBuf>,
    /// How much to say on standard error: off, error, warn, info, debug or trace
    #[arg(long, value_name = "LEVEL", default_value = "warn", value_parser = parse_level)]
    log_level: LevelFilter,
    /// Print this help; -h prints a summary
    #[arg(short, long, action = ArgAction::Help)]
    help: Option<bool>,
    /// Print the version
    #[arg(short = 'V', long, action = ArgAction::Version)]
    version: Option<bool>,
}

/// `secret` with its options, or `shared`.
fn parse_ram(text: &str) -> Result<RamKind, String> {
    let mut words = text.split(',');
    match words.next() {
        Some("secret") => words.try_fold(SecretOptions::default(), set_option).map(RamKind::Secret),
        Some("shared") if words.next().is_none() => Ok(RamKind::Shared),
        Some("shared") => Err("shared takes no options".to_owned()),
        _ => Err("give secret or shared".to_owned()),
    }
}

fn set_option(mut options: SecretOptions, word: &str) -> Result<SecretOptions, String> {
    match word.split_once('=') {
        Some(("huge", value)) => options.huge = choice(value, "huge is auto, require or off")?,
        Some(("pool", value)) => options.pool = choice(value, "pool is auto or boot")?,
        _ => return Err("secret takes huge=auto|require|off and pool=auto|boot".to_owned()),
    }
    Ok(options)
}

fn choice<T: ValueEnum>(value: &str, help: &str) -> Result<T, String> {
    T::from_str(value, false).map_err(|_| help.to_owned())
}

fn parse_level(text: &str) -> Result<LevelFilter, &'static str> {
    text.parse().map_err(|_| "give off, error, warn, info, debug or trace")
}

impl Cli {
    /// How much to log.
    pub fn log_level(&self) -> LevelFilter {
        self.general.log_level
    }

    /// The VM that the flags, or the file they name, describe; validated.
    pub fn into_config(self) -> Result<VmConfig, config::Error> {
        let config = match (self.general.config_file, self.boot.kernel) {
            (Some(file), _) => VmConfig::from_file(&file)?,
            (None, kernel) => VmConfig {
                // clap has made sure that there is one.
                kernel: kernel.unwrap_or_default(),
                initrd: self.boot.initrd,
                cmdline: self.boot.cmdline,
                memory: self.machine.mem,
                cpus: self.machine.cpus,
                ram: self.machine.memory,
            },
        };
        config.validate()?;
        Ok(config)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::memory::{Huge, Pool};
    use clap::CommandFactory;

    fn parse(line: &str) -> Result<VmConfig, String> {
        let cli = Cli::try_parse_from(line.split_whitespace()).map_err(|err| err.to_string())?;
        cli.into_config().map_err(|err| err.to_string())
    }

    #[test]
    fn command_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn quick_line_gives_secret_memory_and_defaults() {
        let config = parse("secretvmm --kernel bzImage --mem 2G").unwrap();
        assert_eq!(config, VmConfig { memory: 2 << 30, ..VmConfig::new("bzImage".into()) });
        assert_eq!(config.ram, RamKind::Secret(SecretOptions::default()));
    }

    #[test]
    fn memory_takes_options_in_any_order() {
        let ram = |text: &str| parse(&format!("secretvmm --kernel k --memory {text}")).unwrap().ram;
        assert_eq!(ram("shared"), RamKind::Shared);
        let expected = SecretOptions { huge: Huge::Require, pool: Pool::Boot };
        assert_eq!(ram("secret,pool=boot,huge=require"), RamKind::Secret(expected));
        assert_eq!(ram("secret,huge=require,pool=boot"), RamKind::Secret(expected));
        let expected = SecretOptions { huge: Huge::Off, pool: Pool::Auto };
        assert_eq!(ram("secret,huge=off"), RamKind::Secret(expected));
    }

    #[test]
    fn wrong_usage_is_refused() {
        for line in [
            "secretvmm",
            "secretvmm --kernel",
            "secretvmm --kernel k --cpus 0",
            "secretvmm --kernel k --cpus 33",
            "secretvmm --kernel k --mem 0M",
            "secretvmm --kernel k --mem 31M --cpus 1 extra",
            "secretvmm --kernel k --mem 2M",
            "secretvmm --kernel k --memory plain",
            "secretvmm --kernel k --memory shared,huge=require",
            "secretvmm --kernel k --memory secret,",
            "secretvmm --kernel k --memory secret,huge",
            "secretvmm --kernel k --memory secret,huge=yes",
            "secretvmm --kernel k --memory secret,pages=2M",
            "secretvmm --kernel k --memory secret,huge=off,pool=boot",
            "secretvmm --kernel k --config-file f",
            "secretvmm --config-file /nonexistent",
        ] {
            assert!(parse(line).is_err(), "{line}");
        }
    }
}
