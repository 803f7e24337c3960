//! Giving the program's own pages back: what a process read of its binary while it started and needs no more.

use std::ffi::c_void;
use std::ops::Range;

use libc::{PF_W, PT_LOAD, dl_phdr_info};

/// Takes code and constants of the running program out of this process's page table, so that only what is used from now on counts as
/// its memory. The pages stay in the page cache: the next access maps them again for about a microsecond per 64 KiB. Best effort.
///
/// A third of the binary is touched once, while a daemon starts: relocations, tables, code that sets things up.
pub fn release_code() {
    let mut segments: Vec<Range<usize>> = Vec::new();
    // SAFETY: the callback gets the pointer of `segments`, which outlives the call, and runs on this thread only.
    unsafe {
        libc::dl_iterate_phdr(
            Some(collect_read_only),
            std::ptr::from_mut(&mut segments).cast(),
        );
    }
    for segment in segments {
        // SAFETY: a segment without PF_W is a private mapping of the binary that nothing has written to (relocations apply to writable
        // segments only: a program with DT_TEXTREL does not start as static-pie), so what is read again from the file equals what is dropped.
        unsafe {
            libc::madvise(
                segment.start as *mut c_void,
                segment.len(),
                libc::MADV_DONTNEED,
            );
        }
    }
}

/// Adds the whole pages of every loaded segment that is never written to. Non-zero ends the walk: the first object is the program.
///
/// # Safety
/// Called by `dl_iterate_phdr(3)` with its own structure, and with the vector that [`release_code`] passes.
unsafe extern "C" fn collect_read_only(
    info: *mut dl_phdr_info,
    _size: usize,
    data: *mut c_void,
) -> libc::c_int {
    // SAFETY: takes a number; every Linux system knows this one.
    let page = address(unsafe { libc::sysconf(libc::_SC_PAGESIZE) });
    // SAFETY: per this function's contract, both pointers are valid and nobody else uses the vector meanwhile.
    let (info, segments) = unsafe { (&*info, &mut *data.cast::<Vec<Range<usize>>>()) };
    // SAFETY: the structure describes a loaded program: so many headers are at that address as long as it is loaded.
    let headers = unsafe { std::slice::from_raw_parts(info.dlpi_phdr, info.dlpi_phnum.into()) };
    for header in headers {
        if header.p_type == PT_LOAD && header.p_flags & PF_W == 0 {
            let start = address(info.dlpi_addr) + address(header.p_vaddr);
            let end = start + address(header.p_memsz);
            segments.push(start & !(page - 1)..end & !(page - 1));
        }
    }
    1
}

/// What the C library has as an integer of its own: an address or a length in this process.
fn address(number: impl TryInto<usize>) -> usize {
    number
        .try_into()
        .unwrap_or_else(|_| unreachable!("addresses are as wide as usize"))
}

#[cfg(test)]
mod tests {
    use super::release_code;

    #[test]
    fn code_that_was_given_back_still_runs() {
        let before = resident_kib();
        release_code();
        assert!(resident_kib() < before);
        assert_eq!(format!("{:?}", Some("as before")), "Some(\"as before\")");
    }

    /// What is mapped in this process, in KiB, counted page by page (smaps_rollup of proc_pid_smaps(5)); statm is only near it.
    fn resident_kib() -> u64 {
        let rollup = std::fs::read_to_string("/proc/self/smaps_rollup").expect("proc is mounted");
        let line = rollup.lines().find_map(|line| line.strip_prefix("Rss:"));
        let number = line.and_then(|rest| rest.split_whitespace().next());
        number
            .expect("there is such a line")
            .parse()
            .expect("a number")
    }
}
