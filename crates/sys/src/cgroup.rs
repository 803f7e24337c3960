//! Control group file systems: what is mounted where, statfs magic numbers.
