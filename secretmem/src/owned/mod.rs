// SPDX-License-Identifier: Apache-2.0
//! Secret memory with an owner.

mod allocator;
mod boxed;
mod string;
mod vec;

pub use allocator::Secret;
pub use boxed::SecretBox;
pub use string::SecretString;
pub use vec::SecretVec;
