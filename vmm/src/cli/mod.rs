// SPDX-License-Identifier: Apache-2.0
//! The command line.

mod commands;
mod device;

use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgAction, Args, Parser, ValueEnum};
use log::LevelFilter;

use secretvmm_api::{Entropy, LogLevel, Logger, Metrics, MmdsContents, VmConfigFile, Vsock};

use self::commands::Command;
use self::device::{Disk, Net};
use crate::config::{self, DEFAULT_CMDLINE, VmConfig, parse_memory};
use crate::controller::Options;
use crate::memory::{RamKind, SecretOptions};
use crate::sandbox::Sandbox;
use crate::version;

const AFTER_HELP: &str = "\
Backing of guest memory:
  secret           memfd_secret: absent from the host kernel's direct map, for this process alone
    ,huge=auto       2 MiB pages where there are any, else 4 KiB (default)
    ,huge=require    2 MiB pages or an error
    ,huge=off        4 KiB pages, allocated when the guest touches them; never from the pool
    ,pool=auto       from the pool reserved at boot if this user may, else from free memory (default)
    ,pool=boot       from the pool, which has 2 MiB pages only, or an error
    ,populate=background
                     allocated beside the running guest, what it touches first (default);
                     with huge=require, pool=boot or --attestation-key as populate=all
    ,populate=all    allocated whole before the guest runs, or an error
    ,populate=touch  2 MiB pages, allocated when the guest touches them; the VM ends if there are none left
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
  6      the guest did not shut down within --shutdown-timeout and was stopped
  148    the VMM made a system call that is forbidden to it; the message names it
  128+N  ended by signal N (143 SIGTERM, 130 SIGINT, 129 SIGHUP)";

const USAGE: &str = "secretvmm --kernel <PATH> [OPTIONS]\n       secretvmm --config-file <JSON> [OPTIONS]\n       \
                     secretvmm --api-sock <PATH> [OPTIONS]\n       secretvmm <COMMAND>";

/// Firecracker's.
const USUAL_SOCKET: &str = "/run/firecracker.socket";

/// Flags that stand for the API where no kernel is given. Without any of them, help is what is wanted.
const FOR_THE_API: [&str; 3] = ["config_file", "api_sock", "id"];

/// Run a virtual machine whose memory is hidden from the host kernel
///
/// Guest memory comes from memfd_secret(2) and is absent from the host kernel's direct map. The
/// host kernel needs the secretvmm series, which is checked before anything is started.
///
/// With --kernel or --config-file the VM starts at once. With --api-sock alone it is described and
/// started by requests to Firecracker's HTTP API.
#[derive(Debug, Parser)]
#[command(name = "secretvmm", display_name = "Firecracker", version = version::LINES, override_usage = USAGE, after_help = AFTER_HELP)]
#[command(disable_help_flag = true, disable_version_flag = true, disable_help_subcommand = true)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    boot: Boot,
    #[command(flatten)]
    machine: Machine,
    #[command(flatten)]
    devices: Devices,
    #[command(flatten)]
    api: Api,
    #[command(flatten)]
    attestation: Attestation,
    #[command(flatten)]
    logging: Logging,
    #[command(flatten)]
    general: General,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "What to boot")]
struct Boot {
    /// Kernel: a bzImage, or an ELF vmlinux built with CONFIG_PVH
    #[arg(long, value_name = "PATH", required_unless_present_any = FOR_THE_API)]
    kernel: Option<PathBuf>,
    /// Initial RAM disk
    #[arg(long, value_name = "PATH", requires = "kernel")]
    initrd: Option<PathBuf>,
    /// Kernel command line; replaces the default altogether
    #[arg(long, value_name = "STR", default_value = DEFAULT_CMDLINE, requires = "kernel")]
    cmdline: String,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Machine")]
struct Machine {
    /// Guest memory with a suffix K, M or G, at least 32M; rounded up to a multiple of 2M
    #[arg(long, value_name = "SIZE", default_value = "512M", value_parser = parse_memory, requires = "kernel")]
    mem: u64,
    /// Number of vCPUs, 1 to 32
    #[arg(long, value_name = "N", default_value_t = 1, requires = "kernel", value_parser = clap::value_parser!(u8).range(1..=i64::from(config::MAX_CPUS)))]
    cpus: u8,
    /// What guest memory is made of: secret (default) or shared; see below
    #[arg(long, value_name = "KIND", value_parser = parse_backing, requires = "kernel")]
    backing: Option<RamKind>,
    /// The name of --backing before.
    #[arg(long, hide = true, value_name = "KIND", value_parser = parse_backing, requires = "kernel")]
    memory: Option<RamKind>,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Devices")]
struct Devices {
    /// Block device; may be repeated. The first is the root device, unless --cmdline has a root=
    #[arg(long = "disk", value_name = "PATH[,ro]", value_parser = device::parse_disk, requires = "kernel")]
    disks: Vec<Disk>,
    /// Network interface on a TAP device; may be repeated
    #[arg(long = "net", value_name = "tap=NAME[,mac=MAC]", value_parser = device::parse_net, requires = "kernel")]
    nets: Vec<Net>,
    /// Sockets between host and guest (vsock): the guest's CID, and a unix socket on the host
    #[arg(long, value_name = "cid=N,uds=PATH", value_parser = device::parse_vsock, requires = "kernel")]
    vsock: Option<Vsock>,
    /// An entropy device
    #[arg(long, requires = "kernel")]
    rng: bool,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "HTTP API (Firecracker's)")]
struct Api {
    /// Serve the API on this unix socket; /run/firecracker.socket if there is neither --kernel nor --no-api
    #[arg(long, value_name = "PATH")]
    api_sock: Option<PathBuf>,
    /// Take the VM from a JSON file with the API's resources
    #[arg(long, value_name = "JSON", conflicts_with = "kernel")]
    config_file: Option<PathBuf>,
    /// Do not serve the API (the default with --kernel or --config-file)
    #[arg(long, conflicts_with = "api_sock")]
    no_api: bool,
    /// Name of the VM in the API and in logs
    #[arg(long, value_name = "NAME", default_value = "anonymous-instance", value_parser = parse_id)]
    id: String,
    /// Contents of the metadata service (MMDS), a JSON file
    #[arg(long, value_name = "JSON")]
    metadata: Option<PathBuf>,
    /// Maximum size of a request body
    #[arg(long, value_name = "BYTES", default_value_t = 51200)]
    http_api_max_payload_size: usize,
    /// Maximum size of the metadata; by default that of a request body
    #[arg(long, value_name = "BYTES")]
    mmds_size_limit: Option<usize>,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Attestation")]
struct Attestation {
    /// Sign tokens (GET /attestation) with this Ed25519 key; it is made, with mode 0600, if it is not there
    #[arg(long, value_name = "FILE")]
    attestation_key: Option<PathBuf>,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Logs and metrics")]
struct Logging {
    /// How much to log: off, error, warning (default), info, debug or trace
    #[arg(long, visible_alias = "level", value_name = "LEVEL", value_parser = parse_level)]
    log_level: Option<LevelFilter>,
    /// Log to this file or named pipe instead of standard error
    #[arg(long, value_name = "PATH")]
    log_path: Option<PathBuf>,
    /// Begin each message in the file with its level
    #[arg(long)]
    show_level: bool,
    /// Begin each message in the file with its place in the source
    #[arg(long)]
    show_log_origin: bool,
    /// Log only what comes from this module
    #[arg(long, value_name = "MODULE")]
    module: Option<String>,
    /// Write metrics to this file or named pipe, as lines of JSON
    #[arg(long, value_name = "PATH")]
    metrics_path: Option<PathBuf>,
    /// Log how long the guest takes to boot, when it writes 123 to 0xc0000000
    #[arg(long)]
    boot_timer: bool,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "General")]
struct General {
    /// Let every thread make every system call; by default each is confined to those that it needs
    #[arg(long)]
    no_seccomp: bool,
    /// Let threads reach every file of this user; by default they are confined to those that they need (Landlock)
    #[arg(long)]
    no_landlock: bool,
    /// Open only files in this folder when a client replaces a drive's; may be repeated. By default a file may be
    /// anywhere but in /proc and /sys
    #[arg(long, value_name = "FOLDER")]
    drives_from: Vec<PathBuf>,
    /// Let vCPUs share a core with other processes; by default, where the host can, they do so with each other only
    #[arg(long)]
    no_core_scheduling: bool,
    /// Keep the rights of root's that this process has; by default they are given up before the guest runs
    #[arg(long)]
    keep_capabilities: bool,
    /// Filters compiled for Firecracker: refused, for they allow its system calls and not this program's
    #[arg(long, value_name = "PATH", value_parser = no_filter)]
    seccomp_filter: Option<String>,
    /// Accepted for callers of Firecracker, with a warning: every device here is on virtio-mmio
    #[arg(long)]
    enable_pci: bool,
    /// How long a guest that is asked to shut down may take; SIGTERM then asks for it, instead of ending the VM at once
    #[arg(long, value_name = "SECONDS")]
    shutdown_timeout: Option<u32>,
    /// When this process was started, in microseconds; taken from jailers and not used
    #[arg(long, value_name = "US", hide = true)]
    start_time_us: Option<u64>,
    /// As above, of the CPU clock
    #[arg(long, value_name = "US", hide = true)]
    start_time_cpu_us: Option<u64>,
    /// CPU time of the parent
    #[arg(long, value_name = "US", hide = true)]
    parent_cpu_time_us: Option<u64>,
    /// Print this help; -h prints a summary
    #[arg(short, long, action = ArgAction::Help)]
    help: Option<bool>,
    /// Print the version
    #[arg(short = 'V', long, action = ArgAction::Version)]
    version: Option<bool>,
}

/// What the flags ask for.
pub struct Request {
    /// What is not the VM's configuration.
    pub options: Options,
    /// A VM to start at once.
    pub config: Option<VmConfig>,
    /// Where to serve the API.
    pub api_sock: Option<PathBuf>,
    /// The key that tokens are signed with.
    pub attestation_key: Option<PathBuf>,
    /// The most bytes of a request's body.
    pub payload_limit: usize,
    /// Contents of the metadata service.
    pub metadata: Option<MmdsContents>,
    /// Where messages go.
    pub logger: Logger,
    /// Where metrics go.
    pub metrics: Option<Metrics>,
}

/// `secret` with its options, or `shared`.
fn parse_backing(text: &str) -> Result<RamKind, String> {
    let mut words = text.split(',');
    match words.next() {
        Some("secret") => words.try_fold(SecretOptions::default(), set_option).map(RamKind::Secret),
        Some("shared") if words.next().is_none() => Ok(RamKind::Shared),
        Some("shared") => Err("shared takes no options".to_owned()),
        _ => Err("a backing is secret or shared; --mem has the size".to_owned()),
    }
}

fn set_option(mut options: SecretOptions, word: &str) -> Result<SecretOptions, String> {
    match word.split_once('=') {
        Some(("huge", value)) => options.huge = choice(value, "huge is auto, require or off")?,
        Some(("pool", value)) => options.pool = choice(value, "pool is auto or boot")?,
        Some(("populate", value)) => options.populate = choice(value, "populate is background, all or touch")?,
        _ => {
            return Err(
                "secret takes huge=auto|require|off, pool=auto|boot and populate=background|all|touch".to_owned()
            );
        }
    }
    Ok(options)
}

fn choice<T: ValueEnum>(value: &str, help: &str) -> Result<T, String> {
    T::from_str(value, false).map_err(|_| help.to_owned())
}

fn parse_level(text: &str) -> Result<LevelFilter, &'static str> {
    // Firecracker's word, which its documentation spells so.
    let text = if text.eq_ignore_ascii_case("warning") { "warn" } else { text };
    text.parse().map_err(|_| "give off, error, warning (or warn), info, debug or trace")
}

fn no_filter(_: &str) -> Result<String, &'static str> {
    Err("a filter compiled for Firecracker allows Firecracker's system calls, not this program's, which has its own; \
         leave it out, or give --no-seccomp")
}

fn parse_id(text: &str) -> Result<String, &'static str> {
    let fine = |c: char| c.is_ascii_alphanumeric() || c == '-';
    if (1..=64).contains(&text.len()) && text.chars().all(fine) {
        return Ok(text.to_owned());
    }
    Err("give 1 to 64 letters, digits and hyphens")
}

impl Cli {
    /// How much to log.
    pub fn log_level(&self) -> LevelFilter {
        self.logging.log_level.unwrap_or(LevelFilter::Warn)
    }

    /// The VM's name.
    pub fn id(&self) -> &str {
        &self.api.id
    }

    /// Where to log, as far as the flags say.
    pub fn logger(&self) -> Logger {
        self.logging.logger()
    }

    /// What threads are to be confined by.
    pub fn sandbox(&self) -> Sandbox {
        self.general.sandbox()
    }

    /// What is to be done instead of starting a VM.
    pub fn other_command(&self) -> Option<&Command> {
        self.command.as_ref()
    }

    /// What to start and to serve; the VM is validated.
    ///
    /// # Errors
    /// The configuration file cannot be used, or the VM makes no sense.
    pub fn into_request(self) -> Result<Request, config::Error> {
        if self.general.enable_pci {
            log::warn!("--enable-pci has no effect: every device is on virtio-mmio; leave it out");
        }
        let has_kernel = self.boot.kernel.is_some();
        let sandbox = self.sandbox();
        self.general.warn();
        let mut logger = self.logging.logger();
        let mut metrics = self.logging.metrics_path.map(|metrics_path| Metrics { metrics_path });
        let config = match (&self.api.config_file, self.boot.kernel) {
            (Some(path), _) => {
                let file = config::read_json::<VmConfigFile>(path)?;
                // Flags win over the file.
                logger = merged(logger, file.logger.clone());
                metrics = metrics.or(file.metrics.clone());
                Some(VmConfig::from_resources(&file)?)
            }
            (None, Some(kernel)) => Some(VmConfig {
                initrd: self.boot.initrd,
                mem_size: self.machine.mem,
                cpus: self.machine.cpus,
                backing: self.machine.backing()?,
                drives: device::drives(self.devices.disks, &self.boot.cmdline),
                networks: device::networks(self.devices.nets),
                vsock: self.devices.vsock,
                entropy: self.devices.rng.then(Entropy::default),
                cmdline: self.boot.cmdline,
                ..VmConfig::new(kernel)
            }),
            (None, None) => None,
        };
        if let Some(config) = &config {
            config.validate()?;
        }
        let metadata = self.api.metadata.as_deref().map(config::read_json).transpose()?;
        let api_sock = self.api.socket(has_kernel);
        let Api { id, http_api_max_payload_size: payload_limit, mmds_size_limit, .. } = self.api;
        let options = Options {
            id,
            boot_timer: self.logging.boot_timer,
            mmds_limit: mmds_size_limit.unwrap_or(payload_limit),
            sandbox,
            api_sock: api_sock.clone(),
            drives_from: self.general.drives_from,
            shutdown_timeout: self.general.shutdown_timeout.map(|seconds| Duration::from_secs(seconds.into())),
        };
        let attestation_key = self.attestation.attestation_key;
        if attestation_key.is_some() && api_sock.is_none() {
            return Err(config::Error::KeyWithoutApi);
        }
        Ok(Request { options, config, api_sock, attestation_key, payload_limit, logger, metrics, metadata })
    }
}

impl General {
    fn sandbox(&self) -> Sandbox {
        Sandbox {
            seccomp: !self.no_seccomp,
            landlock: !self.no_landlock,
            capabilities: !self.keep_capabilities,
            core: !self.no_core_scheduling,
        }
    }

    /// A layer that is left out is told of.
    fn warn(&self) {
        if self.no_seccomp {
            log::warn!("threads may make every system call (--no-seccomp)");
        }
        if self.no_landlock {
            log::warn!("threads may reach every file of this user (--no-landlock)");
        }
        if self.no_core_scheduling {
            log::warn!("vCPUs may share a core with other processes (--no-core-scheduling)");
        }
        if self.keep_capabilities {
            log::warn!("threads keep the capabilities of this process (--keep-capabilities)");
        }
    }
}

impl Api {
    /// Where the API is served: where Firecracker would, unless the flags say otherwise. A guest that `--kernel` starts is
    /// not Firecracker's way.
    fn socket(&self, has_kernel: bool) -> Option<PathBuf> {
        let usual = || (!self.no_api && !has_kernel).then(|| PathBuf::from(USUAL_SOCKET));
        self.api_sock.clone().or_else(usual)
    }
}

impl Machine {
    /// What guest memory is made of, by the flag's name of today or of before.
    fn backing(&self) -> Result<RamKind, config::Error> {
        match (self.backing, self.memory) {
            (Some(_), Some(_)) => Err(config::Error::BackingTwice),
            (backing, before) => Ok(backing.or(before).unwrap_or(RamKind::Secret(SecretOptions::default()))),
        }
    }
}

impl Logging {
    fn logger(&self) -> Logger {
        Logger {
            log_path: self.log_path.clone(),
            level: self.log_level.map(level),
            show_level: self.show_level.then_some(true),
            show_log_origin: self.show_log_origin.then_some(true),
            module: self.module.clone(),
        }
    }
}

fn level(filter: LevelFilter) -> LogLevel {
    match filter {
        LevelFilter::Off => LogLevel::Off,
        LevelFilter::Error => LogLevel::Error,
        LevelFilter::Warn => LogLevel::Warning,
        LevelFilter::Info => LogLevel::Info,
        LevelFilter::Debug => LogLevel::Debug,
        LevelFilter::Trace => LogLevel::Trace,
    }
}

/// `first`, and what it leaves open from `second`.
fn merged(first: Logger, second: Option<Logger>) -> Logger {
    let Some(second) = second else { return first };
    Logger {
        log_path: first.log_path.or(second.log_path),
        level: first.level.or(second.level),
        show_level: first.show_level.or(second.show_level),
        show_log_origin: first.show_log_origin.or(second.show_log_origin),
        module: first.module.or(second.module),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::memory::{Huge, Pool, Populate};
    use clap::CommandFactory;

    fn parse(line: &str) -> Result<VmConfig, String> {
        let cli = Cli::try_parse_from(line.split_whitespace()).map_err(|err| err.to_string())?;
        let request = cli.into_request().map_err(|err| err.to_string())?;
        request.config.ok_or_else(|| "only an API".to_owned())
    }

    #[test]
    fn command_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn quick_line_gives_secret_memory_and_defaults() {
        let config = parse("secretvmm --kernel bzImage --mem 2G").unwrap();
        assert_eq!(config, VmConfig { mem_size: 2 << 30, ..VmConfig::new("bzImage".into()) });
        assert_eq!(config.backing, RamKind::Secret(SecretOptions::default()));
    }

    #[test]
    fn backing_has_its_old_name_but_not_both_and_errors_say_what_to_write() {
        assert_eq!(parse("secretvmm --kernel k --memory shared").unwrap().backing, RamKind::Shared);
        let both = parse("secretvmm --kernel k --backing secret --memory shared").unwrap_err();
        assert_eq!(both, "--memory is the old name of --backing; give --backing alone");
        let unknown = parse("secretvmm --kernel k --backing plain").unwrap_err();
        assert!(unknown.contains("a backing is secret or shared; --mem has the size"), "{unknown}");
    }

    #[test]
    fn backing_takes_options_in_any_order() {
        let ram = |text: &str| parse(&format!("secretvmm --kernel k --backing {text}")).unwrap().backing;
        assert_eq!(ram("shared"), RamKind::Shared);
        let expected = SecretOptions { huge: Huge::Require, pool: Pool::Boot, ..SecretOptions::default() };
        assert_eq!(ram("secret,pool=boot,huge=require"), RamKind::Secret(expected));
        assert_eq!(ram("secret,huge=require,pool=boot"), RamKind::Secret(expected));
        let expected = SecretOptions { populate: Populate::Touch, ..SecretOptions::default() };
        assert_eq!(ram("secret,populate=touch"), RamKind::Secret(expected));
        let expected = SecretOptions { huge: Huge::Off, ..SecretOptions::default() };
        assert_eq!(ram("secret,huge=off"), RamKind::Secret(expected));
    }

    #[test]
    fn version_begins_as_firecrackers_and_says_who_this_is() {
        let text = Cli::command().render_version();
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines[0], format!("Firecracker v{}", version::FIRECRACKER));
        assert_eq!(*lines.last().unwrap(), concat!("secretvmm ", env!("CARGO_PKG_VERSION")));
    }

    #[test]
    fn words_of_firecrackers_documentation_are_taken() {
        let cli = |line: &str| Cli::try_parse_from(line.split_whitespace());
        for word in ["Warning", "warn", "WARN"] {
            assert_eq!(cli(&format!("secretvmm --api-sock /s --level {word}")).unwrap().log_level(), LevelFilter::Warn);
        }
        assert!(cli("secretvmm --api-sock /s --level warned").is_err());
        assert!(cli("secretvmm --api-sock /s --enable-pci").unwrap().into_request().is_ok());
    }

    #[test]
    fn devices_become_resources() {
        let line = "secretvmm --kernel k --disk a,b.img --disk c,ro --net tap=t0 --net tap=t1,mac=06:00:ac:10:00:02 \
                    --vsock cid=3,uds=/v,w --rng";
        let config = parse(line).unwrap();
        let paths: Vec<_> = config.drives.iter().map(|drive| drive.path_on_host.clone().unwrap()).collect();
        assert_eq!(paths, [PathBuf::from("a,b.img"), PathBuf::from("c")]);
        assert!(config.drives[0].is_root_device && !config.drives[1].is_root_device);
        assert_eq!(config.drives[1].is_read_only, Some(true));
        assert_eq!(config.networks[1].guest_mac, Some("06:00:ac:10:00:02".parse().unwrap()));
        assert_eq!(config.vsock.unwrap().uds_path, PathBuf::from("/v,w"));
        assert!(config.entropy.is_some());
    }

    #[test]
    fn first_disk_is_no_root_device_if_the_command_line_names_one() {
        let cli =
            Cli::try_parse_from(["secretvmm", "--kernel", "k", "--disk", "d", "--cmdline", "quiet root=/dev/vdb"]);
        let config = cli.unwrap().into_request().unwrap().config.unwrap();
        assert!(!config.drives[0].is_root_device);
    }

    #[test]
    fn api_is_served_where_firecracker_serves_it() {
        let socket = |line: &str| {
            let cli = Cli::try_parse_from(line.split_whitespace()).unwrap();
            cli.api.socket(cli.boot.kernel.is_some())
        };
        for line in ["secretvmm --id a", "secretvmm --config-file f", "secretvmm --config-file f --id a"] {
            assert_eq!(socket(line), Some("/run/firecracker.socket".into()), "{line}");
        }
        for line in ["secretvmm --config-file f --no-api", "secretvmm --kernel k", "secretvmm --kernel k --id a"] {
            assert_eq!(socket(line), None, "{line}");
        }
        assert_eq!(socket("secretvmm --id a --api-sock /s"), Some("/s".into()));
    }

    #[test]
    fn api_socket_alone_waits_for_requests() {
        let cli = Cli::try_parse_from(["secretvmm", "--api-sock", "/s", "--id", "vm-1"]).unwrap();
        let request = cli.into_request().unwrap();
        assert!(request.config.is_none());
        assert_eq!((request.options.id.as_str(), request.api_sock), ("vm-1", Some("/s".into())));
    }

    #[test]
    fn commands_stand_alone() {
        let nonce = "00".repeat(8);
        let command = |line: &str| Cli::try_parse_from(line.split_whitespace()).map(|cli| cli.command.is_some());
        for line in [
            format!("secretvmm attest --api-sock s --nonce {nonce}"),
            format!("secretvmm attest --api-sock s --nonce {nonce} --output token"),
            "secretvmm public-key key.pem".to_owned(),
            "secretvmm measure --kernel k --initrd i --cmdline quiet".to_owned(),
        ] {
            assert!(command(&line).unwrap(), "{line}");
        }
        for line in [
            format!("secretvmm attest --nonce {nonce}"),
            "secretvmm attest --api-sock s".to_owned(),
            "secretvmm attest --api-sock s --nonce 00".to_owned(),
            format!("secretvmm --kernel k attest --api-sock s --nonce {nonce}"),
            "secretvmm public-key".to_owned(),
            "secretvmm measure".to_owned(),
            "secretvmm help".to_owned(),
        ] {
            assert!(command(&line).is_err(), "{line}");
        }
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
            "secretvmm --kernel k --backing secret --memory secret",
            "secretvmm --kernel k --backing plain",
            "secretvmm --kernel k --backing shared,huge=require",
            "secretvmm --kernel k --backing secret,",
            "secretvmm --kernel k --backing secret,huge",
            "secretvmm --kernel k --backing secret,huge=yes",
            "secretvmm --kernel k --backing secret,pages=2M",
            "secretvmm --kernel k --backing secret,huge=off,pool=boot",
            "secretvmm --kernel k --config-file f",
            "secretvmm --config-file /nonexistent",
            "secretvmm --api-sock /s --mem 1G",
            "secretvmm --api-sock /s --no-api",
            "secretvmm --kernel k --attestation-key f",
            "secretvmm --kernel k --id a/b",
            "secretvmm --kernel k --seccomp-filter f",
            "secretvmm --kernel k --disk ,ro",
            "secretvmm --kernel k --disk d,rw",
            "secretvmm --kernel k --net mac=06:00:ac:10:00:02",
            "secretvmm --kernel k --net tap=t,mac=06",
            "secretvmm --kernel k --vsock cid=3",
            "secretvmm --kernel k --vsock cid=2,uds=/v",
            "secretvmm --kernel k --rng --rng",
        ] {
            assert!(parse(line).is_err(), "{line}");
        }
    }
}
