// SPDX-License-Identifier: Apache-2.0
//! The description of the API: schemas from the types, operations from a table. What is checked in as
//! `resources/openapi.json` is kept equal to it by a test.
//!
//! Operations have Firecracker's ids, from which generated clients take their names.

use utoipa::ToSchema;
use utoipa::openapi::path::{HttpMethod, OperationBuilder, Parameter, ParameterBuilder, ParameterIn};
use utoipa::openapi::request_body::RequestBodyBuilder;
use utoipa::openapi::schema::{AdditionalProperties, Object, ObjectBuilder, Type};
use utoipa::openapi::{
    ComponentsBuilder, Content, ContentBuilder, InfoBuilder, LicenseBuilder, OpenApi, OpenApiBuilder, PathItem,
    PathsBuilder, Ref, RefOr, Required, Response, ResponseBuilder, Schema,
};

use crate::resources::{
    Attestation, Balloon, BalloonHintingStart, BalloonStatisticsUpdate, BalloonUpdate, BootSource, CpuConfig, Drive,
    DriveUpdate, Entropy, FaultMessage, InstanceAction, InstanceInfo, Logger, MachineConfig, MachineConfigUpdate,
    MemoryHotplug, MemoryHotplugUpdate, MemoryInfo, Metrics, MmdsConfig, NetworkInterface, NetworkInterfaceUpdate,
    Pmem, PmemUpdate, Serial, SnapshotCreate, SnapshotLoad, Version, VmConfigFile, VmUpdate, Vsock,
};
use secretvmm_evidence::Nonce;

const JSON: &str = "application/json";

/// One method on one path.
struct Operation {
    method: HttpMethod,
    path: &'static str,
    id: &'static str,
    summary: &'static str,
    body: Option<Schemas>,
    body_required: bool,
    /// What has to follow a `?`.
    query: Option<Parameter>,
    answer: Option<Schemas>,
    refused: bool,
}

/// A schema and those that it refers to.
struct Schemas {
    name: Option<String>,
    all: Vec<(String, RefOr<Schema>)>,
}

impl Schemas {
    fn of<T: ToSchema>() -> Self {
        let mut all = vec![(T::name().into_owned(), T::schema())];
        T::schemas(&mut all);
        Self { name: Some(T::name().into_owned()), all }
    }

    /// Any object.
    fn any() -> Self {
        Self { name: None, all: Vec::new() }
    }

    fn content(&self) -> Content {
        let schema = match &self.name {
            Some(name) => RefOr::Ref(Ref::from_schema_name(name)),
            None => RefOr::T(Schema::Object(any_object())),
        };
        ContentBuilder::new().schema(Some(schema)).build()
    }
}

fn any_object() -> Object {
    let free = AdditionalProperties::FreeForm(true);
    ObjectBuilder::new().schema_type(Type::Object).additional_properties(Some(free)).build()
}

fn operation(method: HttpMethod, path: &'static str, id: &'static str, summary: &'static str) -> Operation {
    Operation { method, path, id, summary, body: None, body_required: true, query: None, answer: None, refused: false }
}

fn get(path: &'static str, id: &'static str, summary: &'static str) -> Operation {
    operation(HttpMethod::Get, path, id, summary)
}

fn put<T: ToSchema>(path: &'static str, id: &'static str, summary: &'static str) -> Operation {
    Operation { body: Some(Schemas::of::<T>()), ..operation(HttpMethod::Put, path, id, summary) }
}

fn patch<T: ToSchema>(path: &'static str, id: &'static str, summary: &'static str) -> Operation {
    Operation { body: Some(Schemas::of::<T>()), ..operation(HttpMethod::Patch, path, id, summary) }
}

impl Operation {
    fn answers<T: ToSchema>(self) -> Self {
        Self { answer: Some(Schemas::of::<T>()), ..self }
    }

    /// With a reason that hidden memory gives.
    fn refused(self) -> Self {
        Self { refused: true, ..self }
    }
}

#[rustfmt::skip] // One line an operation, however long.
fn operations() -> Vec<Operation> {
    vec![
        get("/", "describeInstance", "What runs here, and where it stands").answers::<InstanceInfo>(),
        put::<InstanceAction>("/actions", "createSyncAction", "Starts the VM, asks its guest to shut down, or writes metrics out"),
        Operation { query: Some(nonce_parameter()), ..get("/attestation", "getAttestation", "A token that says which VM this is, and what the kernel says of it and of itself now; after the start").answers::<Attestation>() },
        get("/balloon", "describeBalloonConfig", "Refused: there is no balloon").refused(),
        put::<Balloon>("/balloon", "putBalloon", "Refused: there is no balloon").refused(),
        patch::<BalloonUpdate>("/balloon", "patchBalloon", "Refused: there is no balloon").refused(),
        Operation { body_required: false, ..patch::<BalloonHintingStart>("/balloon/hinting/start", "startBalloonHinting", "Refused: there is no balloon") }.refused(),
        get("/balloon/hinting/status", "describeBalloonHinting", "Refused: there is no balloon").refused(),
        operation(HttpMethod::Patch, "/balloon/hinting/stop", "stopBalloonHinting", "Refused: there is no balloon").refused(),
        get("/balloon/statistics", "describeBalloonStats", "Refused: there is no balloon").refused(),
        patch::<BalloonStatisticsUpdate>("/balloon/statistics", "patchBalloonStatsInterval", "Refused: there is no balloon").refused(),
        put::<BootSource>("/boot-source", "putGuestBootSource", "Sets kernel, initial RAM disk and command line; before the start"),
        put::<CpuConfig>("/cpu-config", "putCpuConfiguration", "Changes what vCPUs look like; before the start"),
        put::<Drive>("/drives/{drive_id}", "putGuestDriveByID", "Sets a block device; before the start"),
        patch::<DriveUpdate>("/drives/{drive_id}", "patchGuestDriveByID", "Changes a block device; after the start"),
        put::<Entropy>("/entropy", "putEntropyDevice", "Sets the source of random numbers; before the start"),
        get("/hotplug/memory", "getMemoryHotplug", "Refused: memory cannot be plugged in").refused(),
        put::<MemoryHotplug>("/hotplug/memory", "putMemoryHotplug", "Refused: memory cannot be plugged in").refused(),
        patch::<MemoryHotplugUpdate>("/hotplug/memory", "patchMemoryHotplug", "Refused: memory cannot be plugged in").refused(),
        put::<Logger>("/logger", "putLogger", "Sets where the log goes; before the start"),
        get("/machine-config", "getMachineConfiguration", "vCPUs and memory").answers::<MachineConfig>(),
        put::<MachineConfig>("/machine-config", "putMachineConfiguration", "Sets vCPUs and memory; before the start"),
        patch::<MachineConfigUpdate>("/machine-config", "patchMachineConfiguration", "Changes vCPUs and memory, at least one field; before the start"),
        get("/memory", "getMemory", "What guest memory is made of, and what the kernel says about it now; after the start").answers::<MemoryInfo>(),
        put::<Metrics>("/metrics", "putMetrics", "Sets where metrics go; before the start"),
        Operation { answer: Some(Schemas::any()), ..get("/mmds", "getMmds", "The metadata") },
        Operation { body: Some(Schemas::any()), ..operation(HttpMethod::Put, "/mmds", "putMmds", "Sets the metadata") },
        Operation { body: Some(Schemas::any()), ..operation(HttpMethod::Patch, "/mmds", "patchMmds", "Merges into the metadata (RFC 7396)") },
        put::<MmdsConfig>("/mmds/config", "putMmdsConfig", "Sets how the guest reaches the metadata; before the start"),
        put::<NetworkInterface>("/network-interfaces/{iface_id}", "putGuestNetworkInterfaceByID", "Sets a network device; before the start"),
        patch::<NetworkInterfaceUpdate>("/network-interfaces/{iface_id}", "patchGuestNetworkInterfaceByID", "Changes a network device's limits; after the start"),
        put::<Pmem>("/pmem/{id}", "putGuestPmemByID", "Refused: there is no pmem device").refused(),
        patch::<PmemUpdate>("/pmem/{id}", "patchGuestPmemByID", "Refused: there is no pmem device").refused(),
        put::<Serial>("/serial", "putSerialDevice", "Sets where the serial console goes; before the start"),
        put::<SnapshotCreate>("/snapshot/create", "createSnapshot", "Refused: there are no snapshots").refused(),
        put::<SnapshotLoad>("/snapshot/load", "loadSnapshot", "Refused: there are no snapshots").refused(),
        get("/version", "getFirecrackerVersion", "The version of the VMM").answers::<Version>(),
        patch::<VmUpdate>("/vm", "patchVm", "Pauses or resumes the VM; after the start"),
        get("/vm/config", "getExportVmConfig", "All of the configuration").answers::<VmConfigFile>(),
        put::<Vsock>("/vsock", "putGuestVsock", "Sets the vsock device; before the start"),
    ]
}

/// The description.
pub fn description() -> OpenApi {
    let mut components = ComponentsBuilder::new().schemas_from_iter(Schemas::of::<FaultMessage>().all);
    for (_, name, response) in faults() {
        components = components.response(name, response);
    }
    let mut paths = PathsBuilder::new();
    for operation in operations() {
        for schemas in [&operation.body, &operation.answer].into_iter().flatten() {
            components = components.schemas_from_iter(schemas.all.clone());
        }
        let item = PathItem::new(operation.method.clone(), describe(&operation));
        paths = paths.path(operation.path, item);
    }
    let license = LicenseBuilder::new().name("Apache-2.0").identifier(Some("Apache-2.0")).build();
    let info = InfoBuilder::new()
        .title("secretvmm")
        .version(env!("CARGO_PKG_VERSION"))
        .description(Some("Firecracker's API for VMs whose memory is hidden from the host. HTTP on a unix socket."))
        .license(Some(license))
        .build();
    OpenApiBuilder::new().info(info).paths(paths.build()).components(Some(components.build())).build()
}

fn describe(operation: &Operation) -> utoipa::openapi::path::Operation {
    let mut builder = OperationBuilder::new().operation_id(Some(operation.id)).summary(Some(operation.summary));
    if let Some(name) = operation.path.split(['{', '}']).nth(1) {
        builder = builder.parameter(id_parameter(name));
    }
    if let Some(parameter) = &operation.query {
        builder = builder.parameter(parameter.clone());
    }
    if let Some(body) = &operation.body {
        let required = if operation.body_required { Required::True } else { Required::False };
        let body = RequestBodyBuilder::new().required(Some(required)).content(JSON, body.content()).build();
        builder = builder.request_body(Some(body));
    }
    if let Some((status, response)) = success(operation) {
        builder = builder.response(status, response);
    }
    for (status, name, _) in faults() {
        builder = builder.response(status, Ref::from_response_name(name));
    }
    builder.build()
}

/// The answers that every request can have.
fn faults() -> [(&'static str, &'static str, Response); 5] {
    let fault = |description| ResponseBuilder::new().description(description).content(JSON, fault_content()).build();
    [
        ("400", "BadRequest", fault("Not done: the request is wrong, or comes at a wrong time")),
        ("408", "RequestTimeout", fault("Not done: the body did not arrive in time")),
        ("413", "PayloadTooLarge", fault("Not done: the body is larger than there is room for")),
        ("431", "HeadTooLarge", Response::new("Not done: the request's head is too large")),
        ("503", "Ending", fault("Not done: the VM is ending")),
    ]
}

fn success(operation: &Operation) -> Option<(&'static str, Response)> {
    match &operation.answer {
        _ if operation.refused => None,
        Some(answer) => {
            Some(("200", ResponseBuilder::new().description("The answer").content(JSON, answer.content()).build()))
        }
        None => Some(("204", Response::new("Done"))),
    }
}

fn fault_content() -> Content {
    ContentBuilder::new().schema(Some(Ref::from_schema_name(FaultMessage::name()))).build()
}

fn id_parameter(name: &str) -> Parameter {
    let schema = ObjectBuilder::new().schema_type(Type::String).pattern(Some("^[A-Za-z0-9_]+$")).build();
    ParameterBuilder::new()
        .name(name)
        .parameter_in(ParameterIn::Path)
        .required(Required::True)
        .description(Some("The same as in the body"))
        .schema(Some(schema))
        .build()
}

fn nonce_parameter() -> Parameter {
    let schema = ObjectBuilder::new().schema_type(Type::String).pattern(Some(Nonce::PATTERN)).build();
    ParameterBuilder::new()
        .name("nonce")
        .parameter_in(ParameterIn::Query)
        .required(Required::True)
        .description(Some("8 to 64 bytes that the verifier has made up, in hexadecimal"))
        .schema(Some(schema))
        .build()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::collections::BTreeSet;
    use std::{env, fs};

    use serde_json::Value;

    use super::*;
    use crate::request::ROUTES;

    const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../resources/openapi.json");

    #[test]
    fn openapi_file_is_what_the_types_say() {
        let text = description().to_pretty_json().unwrap() + "\n";
        if env::var_os("UPDATE").is_some() {
            fs::write(FILE, &text).unwrap();
        }
        let same = fs::read_to_string(FILE).is_ok_and(|file| file == text);
        assert!(same, "resources/openapi.json is out of date: run UPDATE=1 cargo test -p secretvmm-api openapi");
    }

    #[test]
    fn openapi_has_every_route_once() {
        let description = serde_json::to_value(description()).unwrap();
        let described: BTreeSet<(String, String)> = description["paths"]
            .as_object()
            .unwrap()
            .iter()
            .flat_map(|(path, item)| {
                item.as_object().unwrap().keys().map(|method| (path.clone(), method.to_uppercase())).collect::<Vec<_>>()
            })
            .collect();
        let routes = ROUTES
            .iter()
            .flat_map(|(path, methods)| methods.iter().map(|method| (path.to_string(), method.to_string())));
        assert_eq!(described, routes.collect());
        assert_eq!(described.len(), operations().len());
    }

    #[test]
    fn openapi_objects_are_closed_and_references_lead_somewhere() {
        let description = serde_json::to_value(description()).unwrap();
        let schemas = description["components"]["schemas"].as_object().unwrap();
        for (name, schema) in schemas {
            if schema["type"] == "object" {
                assert_eq!(schema["additionalProperties"], Value::Bool(false), "{name}");
            }
        }
        for part in description.to_string().split("#/components/schemas/").skip(1) {
            let name = part.split('"').next().unwrap();
            assert!(schemas.contains_key(name), "{name}");
        }
    }
}
