// SPDX-License-Identifier: Apache-2.0
//! The libcrypto of this process.

use std::ffi::{CStr, c_char, c_int, c_void};
use std::mem::transmute;
use std::sync::OnceLock;

use crate::memory;
use crate::settings::say;

type Malloc = unsafe extern "C" fn(usize, *const c_char, c_int) -> *mut c_void;
type Realloc = unsafe extern "C" fn(*mut c_void, usize, *const c_char, c_int) -> *mut c_void;
type Free = unsafe extern "C" fn(*mut c_void, *const c_char, c_int);
type Set = unsafe extern "C" fn(Option<Malloc>, Option<Realloc>, Option<Free>) -> c_int;
type Get = unsafe extern "C" fn(*mut Option<Malloc>, *mut Option<Realloc>, *mut Option<Free>);

struct Crypto {
    set: Set,
    get: Get,
}

static CRYPTO: OnceLock<Crypto> = OnceLock::new();

/// Sets the memory functions of libcrypto, which this library needs: a program that loads it later (Python's ssl)
/// finds it loaded.
pub(crate) fn redirect() -> Result<(), String> {
    let crypto = find().ok_or("libcrypto.so.3 was not found")?;
    // SAFETY: the three functions are what OpenSSL documents.
    if unsafe { (crypto.set)(Some(memory::malloc), Some(memory::realloc), Some(memory::free)) } == 1 {
        return Ok(());
    }
    Err("OpenSSL has allocated memory already, in another library's constructor".into())
}

fn find() -> Option<&'static Crypto> {
    if let Some(crypto) = CRYPTO.get() {
        return Some(crypto);
    }
    // SAFETY: nothing is loaded by this.
    let library = unsafe { libc::dlopen(c"libcrypto.so.3".as_ptr(), libc::RTLD_NOW | libc::RTLD_NOLOAD) };
    if library.is_null() {
        return None;
    }
    let symbol = |name: &CStr| {
        // SAFETY: the handle is open and stays so.
        let found = unsafe { libc::dlsym(library, name.as_ptr()) };
        (!found.is_null()).then_some(found)
    };
    let (set, get) = (symbol(c"CRYPTO_set_mem_functions")?, symbol(c"CRYPTO_get_mem_functions")?);
    // SAFETY: OpenSSL documents these types.
    let crypto = unsafe { Crypto { set: transmute::<*mut c_void, Set>(set), get: transmute::<*mut c_void, Get>(get) } };
    Some(CRYPTO.get_or_init(|| crypto))
}

/// Whether OpenSSL still allocates here.
pub(crate) fn is_redirected() -> bool {
    let Some(crypto) = CRYPTO.get() else { return false };
    let (mut malloc, mut realloc, mut free) = (None, None, None);
    // SAFETY: all three may be written.
    unsafe { (crypto.get)(&mut malloc, &mut realloc, &mut free) };
    malloc.is_some_and(|malloc| std::ptr::fn_addr_eq(malloc, memory::malloc as Malloc))
}

/// The program's own call, which this library comes before: refused as OpenSSL refuses one that is too late. OpenSSL
/// itself would let it replace the functions, as long as nothing was allocated.
///
/// # Safety
/// None of the arguments is used.
#[unsafe(no_mangle)]
#[allow(unreachable_pub)] // The program's linker reaches it.
pub unsafe extern "C" fn CRYPTO_set_mem_functions(_: Option<Malloc>, _: Option<Realloc>, _: Option<Free>) -> c_int {
    say(format_args!("The program wanted OpenSSL to use its own memory functions, which was refused"));
    0
}
