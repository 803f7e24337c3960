//! Signals that are passed on to the container, by name.

/// Every signal that can be caught, except those that are about this process itself (a child's end, a closed pipe,
/// faults, job control of our own terminal is passed on like the rest).
pub const FORWARDED: &[(i32, &str)] = &[
    (1, "HUP"),
    (2, "INT"),
    (3, "QUIT"),
    (6, "ABRT"),
    (10, "USR1"),
    (12, "USR2"),
    (14, "ALRM"),
    (15, "TERM"),
    (16, "STKFLT"),
    (18, "CONT"),
    (20, "TSTP"),
    (21, "TTIN"),
    (22, "TTOU"),
    (24, "XCPU"),
    (25, "XFSZ"),
    (26, "VTALRM"),
    (27, "PROF"),
    (28, "WINCH"),
    (29, "IO"),
    (30, "PWR"),
];

/// The window size has changed.
pub const WINCH: i32 = 28;

/// A signal's name, as the API takes it.
pub fn name(signal: i32) -> Option<&'static str> {
    FORWARDED
        .iter()
        .find(|(number, _)| *number == signal)
        .map(|(_, name)| *name)
}
