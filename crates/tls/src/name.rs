//! Who a certificate names.

use x509_cert::Certificate;
use x509_cert::der::Decode;
use x509_cert::der::oid::ObjectIdentifier;

/// `id-at-commonName` (RFC 5280, appendix A.1).
const COMMON_NAME: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.4.3");

/// The common name of a certificate's subject; of several, the last, as Go's `pkix.Name` has it. Whatever string type it has: all that
/// certificates use for names today hold UTF-8 or ASCII.
#[must_use]
pub fn common_name(der: &[u8]) -> Option<String> {
    let certificate = Certificate::from_der(der).ok()?;
    let subject = certificate.tbs_certificate.subject;
    let mut attributes = subject.0.iter().flat_map(|part| part.0.iter());
    let name = attributes.rfind(|attribute| attribute.oid == COMMON_NAME)?;
    std::str::from_utf8(name.value.value())
        .ok()
        .map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn the_last_of_several_names_counts() {
        let made = |subject: &str| {
            let mut openssl = Command::new("openssl");
            openssl.args([
                "req",
                "-x509",
                "-newkey",
                "ed25519",
                "-nodes",
                "-keyout",
                "/dev/null",
            ]);
            let made = openssl
                .args(["-utf8", "-outform", "DER", "-subj", subject])
                .output();
            made.expect("openssl (openssl) runs").stdout
        };
        for (subject, expected) in [
            ("/O=test/CN=alice", Some("alice")),
            ("/CN=first/O=test/CN=second", Some("second")),
            ("/CN=Zo\u{e9}", Some("Zo\u{e9}")),
            ("/O=nobody", None),
        ] {
            assert_eq!(
                common_name(&made(subject)).as_deref(),
                expected,
                "{subject}"
            );
        }
        assert_eq!(common_name(b"nonsense"), None);
    }
}
