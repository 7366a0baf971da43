// SPDX-License-Identifier: Apache-2.0
//! From method, path and body to an [`Action`]. Nothing but its arguments decides.

use serde::de::DeserializeOwned;

use crate::action::{Action, Any, Fault, Live, Setup};
use crate::json::{from_slice, object_from_slice};
use crate::refused;
use crate::resources::{
    ActionType, Balloon, BalloonHintingStart, BalloonStatisticsUpdate, BalloonUpdate, Drive, DriveUpdate,
    InstanceAction, MachineConfig, MachineConfigUpdate, MemoryHotplug, MemoryHotplugUpdate, MmdsConfig, MmdsVersion,
    NetworkInterface, NetworkInterfaceUpdate, Pmem, PmemUpdate, SnapshotCreate, SnapshotLoad, VmState, VmUpdate, Vsock,
};
use secretvmm_evidence::Nonce;

/// A request that makes sense.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// What is asked.
    pub action: Action,
    /// It uses something that Firecracker wants to remove; the answer says so in a header.
    pub deprecated: bool,
}

impl From<Action> for Request {
    fn from(action: Action) -> Self {
        Self { action, deprecated: false }
    }
}

/// Every path and its methods.
pub(crate) const ROUTES: &[(&str, &[&str])] = &[
    ("/", &["GET"]),
    ("/actions", &["PUT"]),
    ("/attestation", &["GET"]),
    ("/balloon", &["GET", "PUT", "PATCH"]),
    ("/balloon/hinting/start", &["PATCH"]),
    ("/balloon/hinting/status", &["GET"]),
    ("/balloon/hinting/stop", &["PATCH"]),
    ("/balloon/statistics", &["GET", "PATCH"]),
    ("/boot-source", &["PUT"]),
    ("/cpu-config", &["PUT"]),
    ("/drives/{drive_id}", &["PUT", "PATCH"]),
    ("/entropy", &["PUT"]),
    ("/hotplug/memory", &["GET", "PUT", "PATCH"]),
    ("/logger", &["PUT"]),
    ("/machine-config", &["GET", "PUT", "PATCH"]),
    ("/memory", &["GET"]),
    ("/metrics", &["PUT"]),
    ("/mmds", &["GET", "PUT", "PATCH"]),
    ("/mmds/config", &["PUT"]),
    ("/network-interfaces/{iface_id}", &["PUT", "PATCH"]),
    ("/pmem/{id}", &["PUT", "PATCH"]),
    ("/serial", &["PUT"]),
    ("/snapshot/create", &["PUT"]),
    ("/snapshot/load", &["PUT"]),
    ("/version", &["GET"]),
    ("/vm", &["PATCH"]),
    ("/vm/config", &["GET"]),
    ("/vsock", &["PUT"]),
];

/// Reads a request. Slashes at both ends of `path` do not matter; `query` is what follows a `?`.
pub fn parse(method: &str, path: &str, query: Option<&str>, body: &[u8]) -> Result<Request, Fault> {
    let words: Vec<&str> = path.trim_matches('/').split('/').filter(|word| !word.is_empty()).collect();
    check_route(method, path, &words)?;
    check_body(method, &words, body)?;
    match (words.as_slice(), query) {
        (["attestation"], query) => return Ok(Action::Live(Live::GetAttestation(nonce(query)?)).into()),
        (_, Some(query)) => return Err(Fault::new(format!("There are no queries here; leave ?{query} out"))),
        (_, None) => {}
    }
    match method {
        "GET" => get(&words),
        "PUT" => put(&words, body),
        _ => patch(&words, body),
    }
}

/// Says what is wrong with a method or path that does not exist.
fn check_route(method: &str, path: &str, words: &[&str]) -> Result<(), Fault> {
    let matches = |route: &str| {
        let mut pattern = route.split('/').filter(|word| !word.is_empty());
        words.iter().all(|word| pattern.next().is_some_and(|p| p == *word || p.starts_with('{')))
            && pattern.next().is_none()
    };
    // "/drives" without an id, which deserves better than that there is no such path.
    if let ["drives" | "network-interfaces" | "pmem"] = words {
        return Err(Fault::new(format!("There has to be an id after {path}")));
    }
    match ROUTES.iter().find(|(route, _)| matches(route)) {
        None => Err(Fault::new(format!("There is no path {path} (asked with {method})"))),
        Some((route, methods)) if !methods.contains(&method) => {
            Err(Fault::new(format!("There is no {method} on {route}, only {}", methods.join(", "))))
        }
        Some(_) => Ok(()),
    }
}

/// A question has no body, everything else has one, with two exceptions.
fn check_body(method: &str, words: &[&str], body: &[u8]) -> Result<(), Fault> {
    match (method, words, body.is_empty()) {
        ("GET", _, false) => Err(Fault::new("A GET request has no body; leave it out")),
        ("GET", _, true) | ("PATCH", ["balloon", "hinting", ..], true) => Ok(()),
        (_, _, true) => Err(Fault::new(format!("A {method} request needs a body with JSON"))),
        (_, _, false) => Ok(()),
    }
}

/// The one query that there is.
fn nonce(query: Option<&str>) -> Result<Nonce, Fault> {
    let hex = query.and_then(|query| query.strip_prefix("nonce="));
    let hex = hex.ok_or_else(|| Fault::new("Ask with a nonce of your own and nothing else: ?nonce=HEX"))?;
    hex.parse().map_err(|err| Fault::new(format!("The nonce is not valid. {err}")))
}

fn get(words: &[&str]) -> Result<Request, Fault> {
    Ok(match words {
        [] => Action::Any(Any::GetInstanceInfo),
        ["version"] => Action::Any(Any::GetVersion),
        ["vm", "config"] => Action::Any(Any::GetVmConfig),
        ["machine-config"] => Action::Any(Any::GetMachineConfig),
        ["memory"] => Action::Live(Live::GetMemory),
        ["mmds"] => Action::Any(Any::GetMmds),
        ["balloon", ..] => return Err(Fault::new(refused::BALLOON)),
        ["hotplug", ..] => return Err(Fault::new(refused::MEMORY_HOTPLUG)),
        _ => return Err(no_such_path()),
    }
    .into())
}

fn put(words: &[&str], body: &[u8]) -> Result<Request, Fault> {
    Ok(match words {
        ["boot-source"] => Action::Setup(Setup::PutBootSource(from_slice(body)?)),
        ["cpu-config"] => Action::Setup(Setup::PutCpuConfig(from_slice(body)?)),
        ["machine-config"] => return put_machine(from_slice(body)?),
        ["drives", id] => {
            Action::Setup(Setup::PutDrive(from_slice_with_id(id, body, |drive: &Drive| &drive.drive_id)?))
        }
        ["network-interfaces", id] => {
            Action::Setup(Setup::PutNetworkInterface(from_slice_with_id(id, body, |net: &NetworkInterface| {
                &net.iface_id
            })?))
        }
        ["vsock"] => return put_vsock(from_slice(body)?),
        ["entropy"] => Action::Setup(Setup::PutEntropy(from_slice(body)?)),
        ["serial"] => Action::Setup(Setup::PutSerial(from_slice(body)?)),
        ["logger"] => Action::Setup(Setup::PutLogger(from_slice(body)?)),
        ["metrics"] => Action::Setup(Setup::PutMetrics(from_slice(body)?)),
        ["mmds"] => Action::Any(Any::PutMmds(object_from_slice(body)?)),
        ["mmds", "config"] => return put_mmds_config(from_slice(body)?),
        ["actions"] => match from_slice::<InstanceAction>(body)?.action_type {
            ActionType::InstanceStart => Action::Setup(Setup::Start),
            ActionType::SendCtrlAltDel => Action::Live(Live::SendCtrlAltDel),
            ActionType::SendPowerButton => Action::Live(Live::SendPowerButton),
            ActionType::FlushMetrics => Action::Live(Live::FlushMetrics),
        },
        ["balloon"] => return refuse::<Balloon>(body, refused::BALLOON),
        ["hotplug", "memory"] => return refuse::<MemoryHotplug>(body, refused::MEMORY_HOTPLUG),
        ["pmem", id] => {
            from_slice_with_id(id, body, |pmem: &Pmem| &pmem.id)?;
            return Err(Fault::new(refused::PMEM));
        }
        ["snapshot", "create"] => return refuse::<SnapshotCreate>(body, refused::SNAPSHOT),
        ["snapshot", "load"] => return load_snapshot(&from_slice(body)?),
        _ => return Err(no_such_path()),
    }
    .into())
}

fn patch(words: &[&str], body: &[u8]) -> Result<Request, Fault> {
    Ok(match words {
        ["machine-config"] => return patch_machine(from_slice(body)?),
        ["drives", id] => {
            Action::Live(Live::PatchDrive(from_slice_with_id(id, body, |drive: &DriveUpdate| &drive.drive_id)?))
        }
        ["network-interfaces", id] => {
            Action::Live(Live::PatchNetworkInterface(from_slice_with_id(id, body, |net: &NetworkInterfaceUpdate| {
                &net.iface_id
            })?))
        }
        ["mmds"] => Action::Any(Any::PatchMmds(object_from_slice(body)?)),
        ["vm"] => match from_slice::<VmUpdate>(body)?.state {
            VmState::Paused => Action::Live(Live::Pause),
            VmState::Resumed => Action::Live(Live::Resume),
        },
        ["balloon"] => return refuse::<BalloonUpdate>(body, refused::BALLOON),
        ["balloon", "statistics"] => return refuse::<BalloonStatisticsUpdate>(body, refused::BALLOON),
        ["balloon", "hinting", "start"] if !body.is_empty() => {
            return refuse::<BalloonHintingStart>(body, refused::BALLOON);
        }
        ["balloon", ..] => return Err(Fault::new(refused::BALLOON)),
        ["hotplug", "memory"] => return refuse::<MemoryHotplugUpdate>(body, refused::MEMORY_HOTPLUG),
        ["pmem", id] => {
            from_slice_with_id(id, body, |pmem: &PmemUpdate| &pmem.id)?;
            return Err(Fault::new(refused::PMEM));
        }
        _ => return Err(no_such_path()),
    }
    .into())
}

fn put_machine(machine: MachineConfig) -> Result<Request, Fault> {
    let deprecated = machine.cpu_template.is_some();
    Ok(Request { action: Action::Setup(Setup::PutMachineConfig(machine)), deprecated })
}

fn patch_machine(update: MachineConfigUpdate) -> Result<Request, Fault> {
    if update == MachineConfigUpdate::default() {
        return Err(Fault::new("Nothing is to be changed; give at least one field"));
    }
    let deprecated = update.cpu_template.is_some();
    Ok(Request { action: Action::Setup(Setup::PatchMachineConfig(update)), deprecated })
}

fn put_vsock(vsock: Vsock) -> Result<Request, Fault> {
    let deprecated = vsock.vsock_id.is_some();
    Ok(Request { action: Action::Setup(Setup::PutVsock(vsock)), deprecated })
}

fn put_mmds_config(config: MmdsConfig) -> Result<Request, Fault> {
    let deprecated = config.version == MmdsVersion::V1;
    Ok(Request { action: Action::Setup(Setup::PutMmdsConfig(config)), deprecated })
}

fn load_snapshot(load: &SnapshotLoad) -> Result<Request, Fault> {
    match (&load.mem_backend, &load.mem_file_path) {
        (Some(_), Some(_)) => Err(Fault::new("Give either mem_backend or mem_file_path, not both")),
        (None, None) => Err(Fault::new("Give either mem_backend or mem_file_path")),
        _ => Err(Fault::new(refused::SNAPSHOT)),
    }
}

/// Reads the body, so that its mistakes are told first, and refuses.
fn refuse<T: DeserializeOwned>(body: &[u8], why: &str) -> Result<Request, Fault> {
    from_slice::<T>(body)?;
    Err(Fault::new(why))
}

/// Reads a resource that has its id in the path and in the body.
fn from_slice_with_id<T: DeserializeOwned>(id: &str, body: &[u8], id_of: fn(&T) -> &String) -> Result<T, Fault> {
    if !id.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'_') {
        return Err(Fault::new(format!("The id {id:?} has other characters than letters, digits and underscores")));
    }
    let resource = from_slice(body)?;
    let other = id_of(&resource);
    if other != id {
        return Err(Fault::new(format!("The path has the id {id:?} and the body {other:?}; they have to agree")));
    }
    Ok(resource)
}

/// For a route that is in [`ROUTES`] and nowhere else; a test sees that there is none.
fn no_such_path() -> Fault {
    Fault::new("There is no such path")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;
    use crate::resources::{BootSource, CpuConfig, HugePages, MAX_MEM_SIZE_MIB};

    fn parse(method: &str, path: &str, body: &[u8]) -> Result<Request, Fault> {
        super::parse(method, path, None, body)
    }

    fn parse_json(method: &str, path: &str, body: &Value) -> Result<Request, Fault> {
        parse(method, path, body.to_string().as_bytes())
    }

    fn fault(method: &str, path: &str, body: &str) -> String {
        let fault = parse(method, path, body.as_bytes()).unwrap_err();
        assert_eq!(fault.status(), 400);
        fault.message().to_owned()
    }

    #[test]
    fn parse_every_question() {
        for (path, action) in [
            ("/", Action::Any(Any::GetInstanceInfo)),
            ("", Action::Any(Any::GetInstanceInfo)),
            ("/version", Action::Any(Any::GetVersion)),
            ("/version/", Action::Any(Any::GetVersion)),
            ("/vm/config", Action::Any(Any::GetVmConfig)),
            ("/machine-config", Action::Any(Any::GetMachineConfig)),
            ("/memory", Action::Live(Live::GetMemory)),
            ("/mmds", Action::Any(Any::GetMmds)),
        ] {
            assert_eq!(parse("GET", path, b""), Ok(action.into()), "{path}");
        }
    }

    #[test]
    fn parse_attestation_takes_a_nonce_and_nothing_else() {
        let ask = |query: Option<&str>| super::parse("GET", "/attestation", query, b"");
        let nonce: Nonce = "00112233445566aA".parse().unwrap();
        assert_eq!(ask(Some("nonce=00112233445566aA")), Ok(Action::Live(Live::GetAttestation(nonce)).into()));
        assert!(ask(Some(&format!("nonce={}", "ab".repeat(64)))).is_ok());
        for query in [
            None,
            Some(""),
            Some("nonce"),
            Some("nonce="),
            Some("nonce=00112233445566"),
            Some("nonce=0011223344556677889"),
            Some("nonce=001122334455667g"),
            Some("nonce=%30011223344556677"),
            Some("Nonce=0011223344556677"),
            Some("nonce=0011223344556677&nonce=0011223344556677"),
            Some("nonce=0011223344556677&x=1"),
            Some(&format!("nonce={}", "ab".repeat(65))),
        ] {
            let fault = ask(query).unwrap_err();
            assert!(fault.status() == 400 && fault.message().contains("nonce"), "{query:?}: {fault}");
        }
        assert!(super::parse("GET", "/memory", Some("nonce=0011223344556677"), b"").is_err());
    }

    #[test]
    fn parse_every_configuration_before_the_start() {
        let limiter = json!({"bandwidth": {"size": 1000, "refill_time": 100, "one_time_burst": 5}, "ops": null});
        for (path, body) in [
            ("/boot-source", json!({"kernel_image_path": "/k", "boot_args": "quiet", "initrd_path": "/i"})),
            ("/cpu-config", json!({})),
            ("/machine-config", json!({"vcpu_count": 2, "mem_size_mib": 256, "smt": false, "huge_pages": "2M"})),
            ("/drives/rootfs", json!({"drive_id": "rootfs", "is_root_device": true, "path_on_host": "/d"})),
            (
                "/drives/a_1",
                json!({"drive_id": "a_1", "is_root_device": false, "partuuid": "0eaa91a0-01", "cache_type": "Writeback",
                       "is_read_only": true, "path_on_host": "/d", "rate_limiter": limiter, "io_engine": "Async"}),
            ),
            ("/drives/v", json!({"drive_id": "v", "is_root_device": false, "socket": "/s"})),
            (
                "/network-interfaces/eth0",
                json!({"iface_id": "eth0", "host_dev_name": "tap0", "guest_mac": "06:00:AC:10:00:02", "mtu": 1500,
                       "rx_rate_limiter": limiter, "tx_rate_limiter": {}}),
            ),
            ("/vsock", json!({"guest_cid": 3, "uds_path": "/v.sock"})),
            ("/entropy", json!({"rate_limiter": limiter})),
            ("/entropy", json!({})),
            ("/serial", json!({"serial_out_path": "/log", "rate_limiter": {"size": 1, "refill_time": 1}})),
            ("/logger", json!({"log_path": "/l", "level": "warn", "show_level": true, "show_log_origin": false})),
            ("/metrics", json!({"metrics_path": "/m"})),
            ("/mmds", json!({"latest": {"meta-data": {"ami-id": "x"}}})),
            ("/mmds/config", json!({"network_interfaces": ["eth0"], "version": "V2", "ipv4_address": "169.254.170.2"})),
        ] {
            let request = parse_json("PUT", path, &body).unwrap();
            assert!(!request.deprecated, "{path}");
        }
        let body = json!({"kernel_image_path": "/k"});
        let boot = BootSource { kernel_image_path: "/k".into(), boot_args: None, initrd_path: None };
        assert_eq!(parse_json("PUT", "/boot-source", &body), Ok(Action::Setup(Setup::PutBootSource(boot)).into()));
        assert_eq!(
            parse("PUT", "/cpu-config", b"{}"),
            Ok(Action::Setup(Setup::PutCpuConfig(CpuConfig::default())).into())
        );
    }

    #[test]
    fn parse_every_change_and_order() {
        for (method, path, body, action) in [
            ("PUT", "/actions", json!({"action_type": "InstanceStart"}), Action::Setup(Setup::Start)),
            ("PUT", "/actions", json!({"action_type": "SendCtrlAltDel"}), Action::Live(Live::SendCtrlAltDel)),
            ("PUT", "/actions", json!({"action_type": "FlushMetrics"}), Action::Live(Live::FlushMetrics)),
            ("PATCH", "/vm", json!({"state": "Paused"}), Action::Live(Live::Pause)),
            ("PATCH", "/vm", json!({"state": "Resumed"}), Action::Live(Live::Resume)),
            (
                "PATCH",
                "/machine-config",
                json!({"huge_pages": "2M", "smt": null}),
                Action::Setup(Setup::PatchMachineConfig(MachineConfigUpdate {
                    huge_pages: Some(HugePages::Require2M),
                    ..Default::default()
                })),
            ),
            (
                "PATCH",
                "/drives/a",
                json!({"drive_id": "a"}),
                Action::Live(Live::PatchDrive(DriveUpdate {
                    drive_id: "a".into(),
                    path_on_host: None,
                    rate_limiter: None,
                })),
            ),
            (
                "PATCH",
                "/network-interfaces/a",
                json!({"iface_id": "a"}),
                Action::Live(Live::PatchNetworkInterface(NetworkInterfaceUpdate {
                    iface_id: "a".into(),
                    rx_rate_limiter: None,
                    tx_rate_limiter: None,
                })),
            ),
            ("PATCH", "/mmds", json!({}), Action::Any(Any::PatchMmds(serde_json::Map::new()))),
        ] {
            assert_eq!(parse_json(method, path, &body), Ok(action.into()), "{method} {path}");
        }
    }

    #[test]
    fn parse_what_firecracker_wants_to_remove_is_marked() {
        for (method, path, body) in [
            ("PUT", "/machine-config", json!({"vcpu_count": 1, "mem_size_mib": 128, "cpu_template": "None"})),
            ("PATCH", "/machine-config", json!({"cpu_template": "T2"})),
            ("PUT", "/vsock", json!({"vsock_id": "v", "guest_cid": 3, "uds_path": "/v"})),
            ("PUT", "/mmds/config", json!({"network_interfaces": ["eth0"]})),
        ] {
            assert!(parse_json(method, path, &body).unwrap().deprecated, "{method} {path}");
        }
    }

    #[test]
    fn parse_wrong_path_or_method_names_what_there_is() {
        assert_eq!(fault("GET", "/vms", ""), "There is no path /vms (asked with GET)");
        assert_eq!(fault("GET", "/machine-config/x", ""), "There is no path /machine-config/x (asked with GET)");
        assert_eq!(fault("GET", "/drives/a/b", ""), "There is no path /drives/a/b (asked with GET)");
        assert_eq!(fault("POST", "/machine-config", "{}"), "There is no POST on /machine-config, only GET, PUT, PATCH");
        assert_eq!(fault("DELETE", "/drives/a", ""), "There is no DELETE on /drives/{drive_id}, only PUT, PATCH");
        assert_eq!(fault("get", "/", ""), "There is no get on /, only GET");
        assert_eq!(fault("PUT", "/drives", "{}"), "There has to be an id after /drives");
        assert_eq!(fault("PUT", "/drives/", "{}"), "There has to be an id after /drives/");
    }

    #[test]
    fn parse_body_where_none_belongs_or_none_where_one_does() {
        assert_eq!(fault("GET", "/version", "{}"), "A GET request has no body; leave it out");
        assert_eq!(fault("PUT", "/vsock", ""), "A PUT request needs a body with JSON");
        assert_eq!(fault("PATCH", "/vm", ""), "A PATCH request needs a body with JSON");
    }

    #[test]
    fn parse_ids_have_to_be_sound_and_agree() {
        let body = r#"{"drive_id": "b", "is_root_device": false, "path_on_host": "/d"}"#;
        assert_eq!(fault("PUT", "/drives/a", body), r#"The path has the id "a" and the body "b"; they have to agree"#);
        let body = r#"{"iface_id": "b"}"#;
        assert!(fault("PATCH", "/network-interfaces/a", body).contains("have to agree"));
        assert!(fault("PUT", "/drives/a-b", "{}").contains("letters, digits and underscores"));
        assert!(fault("PUT", "/drives/%61", "{}").contains("letters, digits and underscores"));
        assert!(fault("PUT", "/pmem/a", r#"{"id": "b", "path_on_host": "/p"}"#).contains("have to agree"));
    }

    #[test]
    fn parse_bad_json_says_what_and_where() {
        for (method, path, body, message) in [
            ("PUT", "/boot-source", "{", "EOF while parsing an object at line 1 column 1"),
            ("PUT", "/boot-source", "{}", "missing field `kernel_image_path`"),
            ("PUT", "/boot-source", r#"{"kernel_image_path": 1}"#, "invalid type: integer `1`"),
            ("PUT", "/boot-source", r#"{"kernel_image_path": "k", "kernel_image_path": "k"}"#, "duplicate field"),
            ("PUT", "/boot-source", r#"{"kernel_image_path": "k", "x": 1}"#, "unknown field `x`, expected one of"),
            ("PUT", "/boot-source", r#"{"kernel_image_path": "k"} x"#, "trailing characters"),
            ("PUT", "/boot-source", "[[[[", "invalid type: sequence, expected an object at line 1 column 0"),
            ("PUT", "/boot-source", r#"["/vmlinux"]"#, "expected an object"),
            ("PUT", "/entropy", r#"{"rate_limiter": []}"#, "expected an object at line 1 column 17"),
            ("PUT", "/cpu-config", r#"{"msr_modifiers": [["0x0", "0b0"]]}"#, "expected an object"),
            ("PUT", "/machine-config", r#"{"vcpu_count": 33, "mem_size_mib": 1}"#, "a number from 1 to 32"),
            ("PATCH", "/machine-config", r#"{"vcpu_count": 0}"#, "a number from 1 to 32"),
            ("PATCH", "/machine-config", r#"{"vcpu_count": null}"#, "at least one field"),
            ("PATCH", "/machine-config", "{}", "at least one field"),
            ("PUT", "/vsock", r#"{"guest_cid": 2, "uds_path": "/v"}"#, "a number from 3 to 4294967294"),
            ("PUT", "/actions", r#"{"action_type": "InstanceStop"}"#, "unknown variant `InstanceStop`"),
            ("PUT", "/actions", r#"{"action_type": "InstanceStart", "payload": ""}"#, "unknown field `payload`"),
            ("PATCH", "/vm", r#"{"state": "Running"}"#, "expected `Paused` or `Resumed`"),
            ("PUT", "/logger", r#"{"level": "loud"}"#, "unknown variant `loud`"),
            ("PUT", "/mmds", "[]", "has to be a JSON object"),
            ("PUT", "/mmds", r#"{"a": {"b": 1, "b": 2}}"#, "repeated key `b`"),
            ("PUT", "/mmds/config", r#"{"network_interfaces": []}"#, "at least one id"),
            ("PUT", "/mmds/config", r#"{"network_interfaces": ["a"], "ipv4_address": "10.0.0.1"}"#, "link-local"),
            ("PATCH", "/drives/a", r#"{"drive_id": "a", "is_read_only": true}"#, "unknown field `is_read_only`"),
            ("PATCH", "/drives/a", r#"{"drive_id": "a", "rate_limiter": {"ops": {"size": 1}}}"#, "missing field"),
        ] {
            let fault = fault(method, path, body);
            assert!(fault.contains(message), "{method} {path} {body}: {fault}");
        }
        let mtu = r#"{"iface_id": "a", "host_dev_name": "t", "mtu": 67}"#;
        assert!(fault("PUT", "/network-interfaces/a", mtu).contains("a number from 68 to 65535"));
        let mac = r#"{"iface_id": "a", "host_dev_name": "t", "guest_mac": "x"}"#;
        assert!(fault("PUT", "/network-interfaces/a", mac).contains("no MAC address"));
        assert!(parse("PUT", "/serial", b"{\"serial_out_path\": \"\xff\"}").is_err());
    }

    #[test]
    fn parse_what_hidden_memory_rules_out_says_why() {
        let snapshot = r#"{"snapshot_path": "/s", "mem_file_path": "/m"}"#;
        for (method, path, body, why) in [
            ("GET", "/balloon", "", refused::BALLOON),
            ("GET", "/balloon/statistics", "", refused::BALLOON),
            ("GET", "/balloon/hinting/status", "", refused::BALLOON),
            ("PUT", "/balloon", r#"{"amount_mib": 1, "deflate_on_oom": true}"#, refused::BALLOON),
            ("PATCH", "/balloon", r#"{"amount_mib": 1}"#, refused::BALLOON),
            ("PATCH", "/balloon/statistics", r#"{"stats_polling_interval_s": 1}"#, refused::BALLOON),
            ("PATCH", "/balloon/hinting/start", "", refused::BALLOON),
            ("PATCH", "/balloon/hinting/start", "{}", refused::BALLOON),
            ("PATCH", "/balloon/hinting/stop", "", refused::BALLOON),
            ("GET", "/hotplug/memory", "", refused::MEMORY_HOTPLUG),
            ("PUT", "/hotplug/memory", r#"{"total_size_mib": 1024}"#, refused::MEMORY_HOTPLUG),
            ("PATCH", "/hotplug/memory", r#"{"requested_size_mib": 1024}"#, refused::MEMORY_HOTPLUG),
            ("PUT", "/pmem/a", r#"{"id": "a", "path_on_host": "/p"}"#, refused::PMEM),
            ("PATCH", "/pmem/a", r#"{"id": "a"}"#, refused::PMEM),
            ("PUT", "/snapshot/create", snapshot, refused::SNAPSHOT),
            ("PUT", "/snapshot/load", snapshot, refused::SNAPSHOT),
        ] {
            assert_eq!(fault(method, path, body), why, "{method} {path}");
        }
        assert!(fault("PUT", "/balloon", "{}").contains("missing field"));
        assert!(fault("PUT", "/snapshot/load", r#"{"snapshot_path": "/s"}"#).contains("mem_backend"));
        assert!(fault("PATCH", "/balloon/hinting/start", r#"{"acknowledge_on_stop": 1}"#).contains("invalid type"));
    }

    #[test]
    fn parse_every_route_is_known() {
        for (route, methods) in ROUTES {
            let path = route.replace(['{', '}'], "");
            for method in *methods {
                for body in ["", "{}"] {
                    let fault = parse(method, &path, body.as_bytes()).err();
                    assert_ne!(fault, Some(no_such_path()), "{method} {path}");
                }
            }
        }
    }

    /// Text that looks like what the API takes.
    fn almost_json() -> impl Strategy<Value = String> {
        let word = prop_oneof![
            Just("\"drive_id\""),
            Just("\"vcpu_count\""),
            Just("\"rate_limiter\""),
            Just("\"ops\""),
            Just("\"size\""),
            Just("null"),
            Just("true"),
            Just("-1"),
            Just("1e309"),
            Just("18446744073709551616"),
            Just("{"),
            Just("}"),
            Just("["),
            Just("]"),
            Just(":"),
            Just(","),
            Just("\""),
            Just("\\u0000"),
            Just("\\ud800"),
        ];
        proptest::collection::vec(word, 0..40).prop_map(|words| words.concat())
    }

    fn route() -> impl Strategy<Value = (String, String)> {
        let any_route = (0..ROUTES.len(), 0..4usize).prop_map(|(index, method)| {
            let (route, methods) = ROUTES[index];
            (methods.get(method).unwrap_or(&"PUT").to_string(), route.replace(['{', '}'], ""))
        });
        prop_oneof![any_route, ("[A-Z]{0,7}", "[/a-z{}%._-]{0,40}"), (".*", ".*")]
    }

    proptest! {
        #[test]
        fn parse_never_panics_and_refuses_with_400(
            (method, path) in route(),
            body in prop_oneof![almost_json().prop_map(String::into_bytes), proptest::collection::vec(any::<u8>(), 0..200)],
        ) {
            if let Err(fault) = parse(&method, &path, &body) {
                prop_assert_eq!(fault.status(), 400);
                prop_assert!(!fault.message().is_empty());
            }
        }

        #[test]
        fn parse_machine_within_bounds_is_taken_as_it_is(vcpus in 0..40u8, mib in prop_oneof![0..1u64 << 27, any::<u64>()], smt: bool) {
            let body = json!({"vcpu_count": vcpus, "mem_size_mib": mib, "smt": smt});
            match parse_json("PUT", "/machine-config", &body) {
                Ok(Request { action: Action::Setup(Setup::PutMachineConfig(machine)), deprecated: false }) => {
                    prop_assert_eq!((machine.vcpu_count, machine.mem_size_mib, machine.smt), (vcpus, mib, smt));
                }
                Ok(other) => prop_assert!(false, "{:?}", other),
                Err(_) => prop_assert!(!(1..=32).contains(&vcpus) || !(1..=MAX_MEM_SIZE_MIB).contains(&mib)),
            }
        }
    }
}
