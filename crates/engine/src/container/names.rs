//! Container names: what is allowed, and `adjective_surname` for those who don't care.

/// Docker's pattern as it stands in its message.
pub const ALLOWED: &str = "[a-zA-Z0-9][a-zA-Z0-9_.-]";

/// Whether a name (without leading slash) matches `[a-zA-Z0-9][a-zA-Z0-9_.-]+`.
pub fn is_valid(name: &str) -> bool {
    let mut bytes = name.bytes();
    let first = bytes
        .next()
        .is_some_and(|byte| byte.is_ascii_alphanumeric());
    first
        && name.len() > 1
        && bytes.all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-'))
}

/// A random `adjective_surname`; from the second attempt on with a digit.
pub fn generate(attempt: usize) -> String {
    let mut random = [0u8; 3];
    // Names need not be unpredictable: zeros on failure are still a name, and collisions are tried again.
    let _ = getrandom::fill(&mut random);
    let adjective = ADJECTIVES[usize::from(random[0]) % ADJECTIVES.len()];
    let surname = SURNAMES[usize::from(random[1]) % SURNAMES.len()];
    match attempt {
        0 => format!("{adjective}_{surname}"),
        _ => format!("{adjective}_{surname}{}", random[2] % 10),
    }
}

const ADJECTIVES: [&str; 64] = [
    "amber", "ample", "able", "airy", "azure", "balmy", "bold", "brave", "breezy", "brisk",
    "bright", "calm", "candid", "cheery", "clear", "clever", "cosy", "crisp", "deft", "dapper",
    "eager", "early", "earnest", "easy", "fair", "fleet", "fond", "frank", "fresh", "gentle",
    "glad", "golden", "grand", "handy", "hardy", "hearty", "honest", "jolly", "keen", "kind",
    "lively", "loyal", "lucid", "mellow", "merry", "neat", "nimble", "noble", "patient", "placid",
    "plucky", "proud", "quick", "quiet", "ready", "robust", "silver", "sober", "solid", "spry",
    "steady", "sunny", "swift", "tidy",
];

const SURNAMES: [&str; 64] = [
    "ampere",
    "anning",
    "backus",
    "banneker",
    "bardeen",
    "bassi",
    "bernoulli",
    "boole",
    "brahe",
    "braun",
    "cavendish",
    "celsius",
    "chandra",
    "cori",
    "coulomb",
    "crick",
    "dalton",
    "davy",
    "descartes",
    "diesel",
    "dirac",
    "doppler",
    "erlang",
    "faraday",
    "fourier",
    "fresnel",
    "galois",
    "gauss",
    "geiger",
    "germain",
    "gibbs",
    "halley",
    "harvey",
    "henry",
    "herschel",
    "hertz",
    "hilbert",
    "hooke",
    "huygens",
    "joule",
    "kelvin",
    "kepler",
    "lagrange",
    "laplace",
    "leibniz",
    "linnaeus",
    "maxwell",
    "mendel",
    "mersenne",
    "napier",
    "nernst",
    "noether",
    "ohm",
    "oersted",
    "pascal",
    "planck",
    "poisson",
    "rayleigh",
    "riemann",
    "runge",
    "siemens",
    "somerville",
    "stokes",
    "volta",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_dockers_pattern() {
        for good in ["ab", "a1", "web_1", "x.y-z", "0a"] {
            assert!(is_valid(good), "{good}");
        }
        for bad in ["", "a", "_ab", "-ab", ".ab", "a/b", "a b", "é2"] {
            assert!(!is_valid(bad), "{bad}");
        }
    }

    #[test]
    fn generated_names_are_valid() {
        for attempt in 0..200 {
            assert!(is_valid(&generate(attempt)));
        }
    }
}
