//! The C library's heap, told to stay small: glibc keeps an arena of its own for every thread that allocates.

/// Makes all threads share one arena. To be called before there are further threads.
pub fn share_one_arena() {
    #[cfg(target_env = "gnu")]
    // SAFETY: takes two numbers, touches only the allocator's own state under its own lock; 0 means "refused".
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 1);
    }
}

/// Gives memory that nothing uses back to the kernel, after work that needed much of it. Takes a millisecond or so.
pub fn trim() {
    #[cfg(target_env = "gnu")]
    // SAFETY: touches only the allocator's own state under its own locks; allocations that are in use stay where they are.
    unsafe {
        libc::malloc_trim(0);
    }
}
