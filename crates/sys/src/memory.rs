//! Giving memory back.

/// Returns free heap pages to the kernel (glibc's malloc_trim(3)).
pub fn trim_heap() {
    // SAFETY: takes a number; the allocator locks itself.
    #[cfg(target_env = "gnu")]
    unsafe {
        libc::malloc_trim(0);
    }
}
