// SPDX-License-Identifier: Apache-2.0
//! Linux kernels: where their source is, how they are configured and built.

pub(crate) mod compile;
pub(crate) mod kconfig;
pub(crate) mod kernel;
pub(crate) mod selftests;
pub(crate) mod series;
pub(crate) mod source;
pub(crate) mod stock;
