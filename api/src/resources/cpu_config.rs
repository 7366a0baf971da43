// SPDX-License-Identifier: Apache-2.0
//! `/cpu-config`: changes to what the guest's processors look like.

use serde::{Deserialize, Serialize};

/// The body of `PUT /cpu-config`. One that changes nothing is fine; the VMM refuses others.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(remote = "Self", deny_unknown_fields, default)]
pub struct CpuConfig {
    /// KVM capabilities to ask for, or with `!` in front to leave out.
    pub kvm_capabilities: Vec<String>,
    /// Changes to CPUID leaves.
    pub cpuid_modifiers: Vec<CpuidModifier>,
    /// Changes to model specific registers.
    pub msr_modifiers: Vec<RegisterModifier>,
    /// Changes to registers of an ARM vCPU.
    pub reg_modifiers: Vec<RegisterModifier>,
    /// Changes to features of an ARM vCPU.
    pub vcpu_features: Vec<FeatureModifier>,
}

impl CpuConfig {
    /// Whether nothing is to be changed.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// A change to one CPUID leaf.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(remote = "Self", deny_unknown_fields)]
pub struct CpuidModifier {
    /// Leaf, such as `0x7`.
    pub leaf: String,
    /// Subleaf, such as `0x0`.
    pub subleaf: String,
    /// KVM's flags of the leaf.
    #[cfg_attr(feature = "openapi", schema(maximum = 4_294_967_295_u32, format = Int64))]
    pub flags: u32,
    /// Changes to its registers.
    pub modifiers: Vec<CpuidRegisterModifier>,
}

/// A change to one register of a CPUID leaf.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(remote = "Self", deny_unknown_fields)]
pub struct CpuidRegisterModifier {
    /// Which one.
    pub register: CpuidRegister,
    /// `0b` and for every bit 0, 1 or x (leave it).
    pub bitmap: String,
}

/// A register of a CPUID leaf.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs)]
pub enum CpuidRegister {
    Eax,
    Ebx,
    Ecx,
    Edx,
}

/// A change to a register that has an address.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(remote = "Self", deny_unknown_fields)]
pub struct RegisterModifier {
    /// Its address, such as `0x10a`.
    pub addr: String,
    /// `0b` and for every bit 0, 1 or x (leave it).
    pub bitmap: String,
}

/// A change to a word of an ARM vCPU's features.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(remote = "Self", deny_unknown_fields)]
pub struct FeatureModifier {
    /// Index of the word.
    #[cfg_attr(feature = "openapi", schema(maximum = 4_294_967_295_u32, format = Int64))]
    pub index: u32,
    /// `0b` and for every bit 0, 1 or x (leave it).
    pub bitmap: String,
}
