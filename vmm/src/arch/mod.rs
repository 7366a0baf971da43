//! What depends on the processor. One architecture exists.

pub mod x86_64;
