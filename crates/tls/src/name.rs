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
    let attributes = subject.0.iter().flat_map(|part| part.0.iter());
    let name = attributes
        .filter(|attribute| attribute.oid == COMMON_NAME)
        .last()?;
    std::str::from_utf8(name.value.value())
        .ok()
        .map(str::to_owned)
}
