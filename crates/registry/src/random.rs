//! Names nobody can guess.

/// 128 random bits as 32 hexadecimal digits.
///
/// # Panics
/// The kernel gives no random bytes, which Linux always does once booted.
pub fn id() -> String {
    hex::encode(bytes::<16>())
}

/// Random bytes.
///
/// # Panics
/// As [`id`].
pub fn bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).expect("the kernel gives random bytes");
    bytes
}
