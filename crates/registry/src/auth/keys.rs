//! Keys: ours to sign with, others' to check with (PEM certificates, PEM public keys, JWK sets).

use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use ring::rand::SystemRandom;
use ring::signature::{
    self, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _, UnparsedPublicKey,
};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, SubjectPublicKeyInfoDer, UnixTime};
use serde::Deserialize;
use serde_json::{Value, json};
use x509_cert::der::asn1::UintRef;
use x509_cert::der::oid::ObjectIdentifier;
use x509_cert::der::{Decode, Reader, SliceReader};
use x509_cert::spki::SubjectPublicKeyInfoRef;

use super::AuthError;
use super::jwt::Header;

/// The key that signs our tokens (ECDSA, P-256).
pub struct SigningKey {
    pair: EcdsaKeyPair,
    random: SystemRandom,
    id: String,
}

impl std::fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SigningKey({})", self.id)
    }
}

impl SigningKey {
    /// A new one, as PKCS#8.
    ///
    /// # Errors
    /// The kernel gives no random bytes.
    pub fn generate() -> Result<Vec<u8>, AuthError> {
        EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new())
            .map(|document| document.as_ref().to_vec())
            .map_err(|error| AuthError::OwnKey(error.to_string()))
    }

    /// From PKCS#8.
    ///
    /// # Errors
    /// It is no such key.
    pub fn open(pkcs8: &[u8]) -> Result<SigningKey, AuthError> {
        let random = SystemRandom::new();
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8, &random)
            .map_err(|error| AuthError::OwnKey(error.to_string()))?;
        let hash = ring::digest::digest(&ring::digest::SHA256, pair.public_key().as_ref());
        Ok(SigningKey {
            id: URL_SAFE_NO_PAD.encode(&hash.as_ref()[..12]),
            pair,
            random,
        })
    }

    /// Its name in tokens.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Signs; 64 bytes, as JWS has them.
    pub fn sign(&self, message: &[u8]) -> Vec<u8> {
        let signature = self.pair.sign(&self.random, message);
        signature
            .expect("the kernel gives random bytes")
            .as_ref()
            .to_vec()
    }

    /// The public half as a JWK set.
    pub fn jwks(&self) -> Value {
        let point = self.pair.public_key().as_ref();
        json!({"keys": [{
            "kty": "EC", "crv": "P-256", "alg": "ES256", "use": "sig", "kid": self.id,
            "x": URL_SAFE_NO_PAD.encode(&point[1..33]), "y": URL_SAFE_NO_PAD.encode(&point[33..65]),
        }]})
    }
}

/// A public key that is trusted.
#[derive(Debug)]
struct Trusted {
    id: Option<String>,
    key: PublicKey,
}

#[derive(Debug)]
enum PublicKey {
    /// `0x04 x y` on P-256 or P-384.
    Ec(Vec<u8>),
    /// Ed25519.
    Ed(Vec<u8>),
    /// Modulus and exponent.
    Rsa(Vec<u8>, Vec<u8>),
}

/// All keys that are trusted, and who may vouch for others.
#[derive(Debug, Default)]
pub struct TrustedKeys {
    keys: Vec<Trusted>,
    roots: Vec<CertificateDer<'static>>,
}

#[derive(Deserialize)]
struct Jwk {
    kty: String,
    #[serde(default)]
    kid: Option<String>,
    #[serde(default)]
    x: String,
    #[serde(default)]
    y: String,
    #[serde(default)]
    n: String,
    #[serde(default)]
    e: String,
}

#[derive(Deserialize)]
struct JwkSet {
    keys: Vec<Jwk>,
}

impl TrustedKeys {
    /// Our own.
    pub fn of(key: &SigningKey) -> TrustedKeys {
        TrustedKeys {
            keys: vec![Trusted {
                id: Some(key.id.clone()),
                key: PublicKey::Ec(key.pair.public_key().as_ref().to_vec()),
            }],
            roots: Vec::new(),
        }
    }

    /// Adds what a file holds.
    ///
    /// # Errors
    /// It cannot be read, or holds nothing of use.
    pub fn load(&mut self, path: &Path) -> Result<(), AuthError> {
        let fail = |reason: String| AuthError::Key {
            path: path.to_owned(),
            reason,
        };
        let bytes = std::fs::read(path).map_err(|error| fail(error.to_string()))?;
        let before = (self.keys.len(), self.roots.len());
        if bytes.trim_ascii_start().starts_with(b"{") {
            let set = serde_json::from_slice::<JwkSet>(&bytes).or_else(|_| {
                serde_json::from_slice::<Jwk>(&bytes).map(|key| JwkSet { keys: vec![key] })
            });
            let set = set.map_err(|error| fail(error.to_string()))?;
            self.keys.extend(set.keys.into_iter().filter_map(jwk));
        } else {
            for certificate in CertificateDer::pem_slice_iter(&bytes).flatten() {
                let info = certificate_key(&certificate)
                    .ok_or_else(|| fail("a certificate makes no sense".to_owned()))?;
                self.keys
                    .extend(spki(&info).map(|key| Trusted { id: None, key }));
                self.roots.push(certificate);
            }
            for info in SubjectPublicKeyInfoDer::pem_slice_iter(&bytes).flatten() {
                self.keys
                    .extend(spki(info.as_ref()).map(|key| Trusted { id: None, key }));
            }
        }
        if before == (self.keys.len(), self.roots.len()) {
            return Err(fail(
                "no RSA, ECDSA or Ed25519 key or certificate is in it".to_owned(),
            ));
        }
        Ok(())
    }

    /// Whether somebody trusted signed this.
    pub fn verify(&self, header: &Header, message: &[u8], signature: &[u8]) -> bool {
        if let Some(chain) = &header.x5c
            && let Some(key) = self.vouched(chain)
        {
            return verify_with(&key, &header.alg, message, signature);
        }
        self.keys
            .iter()
            .filter(|trusted| match (&trusted.id, &header.kid) {
                (Some(ours), Some(theirs)) => ours == theirs,
                _ => true,
            })
            .any(|trusted| verify_with(&trusted.key, &header.alg, message, signature))
    }

    /// The key of a chain of certificates that ends at one of ours.
    fn vouched(&self, chain: &[String]) -> Option<PublicKey> {
        let chain: Vec<CertificateDer<'static>> = chain
            .iter()
            .map(|text| STANDARD.decode(text).map(CertificateDer::from))
            .collect::<Result<_, _>>()
            .ok()?;
        let (leaf, between) = chain.split_first()?;
        if !self.roots.contains(leaf) {
            let anchors: Vec<_> = self
                .roots
                .iter()
                .filter_map(|root| webpki::anchor_from_trusted_cert(root).ok())
                .collect();
            let leaf = webpki::EndEntityCert::try_from(leaf).ok()?;
            leaf.verify_for_usage(
                webpki::ALL_VERIFICATION_ALGS,
                &anchors,
                between,
                UnixTime::now(),
                webpki::KeyUsage::client_auth(),
                None,
                None,
            )
            .ok()?;
        }
        spki(&certificate_key(leaf)?)
    }
}

fn verify_with(key: &PublicKey, algorithm: &str, message: &[u8], signed: &[u8]) -> bool {
    match (key, algorithm) {
        (PublicKey::Ec(point), "ES256") if point.len() == 65 => {
            UnparsedPublicKey::new(&signature::ECDSA_P256_SHA256_FIXED, point)
                .verify(message, signed)
                .is_ok()
        }
        (PublicKey::Ec(point), "ES384") if point.len() == 97 => {
            UnparsedPublicKey::new(&signature::ECDSA_P384_SHA384_FIXED, point)
                .verify(message, signed)
                .is_ok()
        }
        (PublicKey::Ed(key), "EdDSA") => UnparsedPublicKey::new(&signature::ED25519, key)
            .verify(message, signed)
            .is_ok(),
        (PublicKey::Rsa(n, e), _) => {
            let parameters: &signature::RsaParameters = match algorithm {
                "RS256" => &signature::RSA_PKCS1_2048_8192_SHA256,
                "RS384" => &signature::RSA_PKCS1_2048_8192_SHA384,
                "RS512" => &signature::RSA_PKCS1_2048_8192_SHA512,
                "PS256" => &signature::RSA_PSS_2048_8192_SHA256,
                _ => return false,
            };
            signature::RsaPublicKeyComponents { n, e }
                .verify(parameters, message, signed)
                .is_ok()
        }
        _ => false,
    }
}

fn jwk(key: Jwk) -> Option<Trusted> {
    let decode = |text: &str| URL_SAFE_NO_PAD.decode(text.trim_end_matches('=')).ok();
    let public = match key.kty.as_str() {
        "EC" => PublicKey::Ec([vec![4], decode(&key.x)?, decode(&key.y)?].concat()),
        "OKP" => PublicKey::Ed(decode(&key.x)?),
        "RSA" => PublicKey::Rsa(decode(&key.n)?, decode(&key.e)?),
        _ => return None,
    };
    Some(Trusted {
        id: key.kid,
        key: public,
    })
}

/// The SubjectPublicKeyInfo of a certificate (RFC 5280, section 4.1).
fn certificate_key(certificate: &CertificateDer<'_>) -> Option<Vec<u8>> {
    let parsed = webpki::EndEntityCert::try_from(certificate).ok()?;
    Some(parsed.subject_public_key_info().as_ref().to_vec())
}

/// The key in a SubjectPublicKeyInfo (RFC 5280, section 4.1.2.7).
fn spki(der: &[u8]) -> Option<PublicKey> {
    const RSA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");
    const EC: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");
    const ED25519: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.101.112");
    let info = SubjectPublicKeyInfoRef::from_der(der).ok()?;
    let bits = info.subject_public_key.as_bytes()?;
    match info.algorithm.oid {
        EC => Some(PublicKey::Ec(bits.to_vec())),
        ED25519 => Some(PublicKey::Ed(bits.to_vec())),
        RSA => rsa(bits),
        _ => None,
    }
}

/// `SEQUENCE { modulus INTEGER, publicExponent INTEGER }` (RFC 8017, appendix A.1.1).
fn rsa(der: &[u8]) -> Option<PublicKey> {
    let mut reader = SliceReader::new(der).ok()?;
    let numbers = reader.sequence(|numbers| {
        let modulus = UintRef::decode(numbers)?.as_bytes().to_vec();
        let exponent = UintRef::decode(numbers)?.as_bytes().to_vec();
        Ok((modulus, exponent))
    });
    let (modulus, exponent) = numbers.ok()?;
    Some(PublicKey::Rsa(modulus, exponent))
}
