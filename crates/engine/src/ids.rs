//! Random identifiers.

/// 64 random hex digits, never all decimal in the first twelve: Docker avoids short ids that read as a number.
pub fn random() -> String {
    loop {
        let mut bytes = [0u8; 32];
        getrandom::fill(&mut bytes).expect("the kernel always has random bytes once it has booted");
        let id = hex::encode(bytes);
        if !id[..12].bytes().all(|byte| byte.is_ascii_digit()) {
            return id;
        }
    }
}

/// The first twelve digits, as shown to people.
pub fn short(id: &str) -> &str {
    id.get(..12).unwrap_or(id)
}
