//! What the nested host's kernel knows and says.

pub mod direct_map;
pub mod fdinfo;
pub mod kernel_log;
pub mod page_tables;
pub mod process;
pub mod stage2;
