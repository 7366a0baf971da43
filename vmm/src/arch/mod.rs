// SPDX-License-Identifier: Apache-2.0
//! What depends on the processor. One architecture exists.

pub mod x86_64;
