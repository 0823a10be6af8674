//! Certificates made for a test: authorities, servers, requesters.

// No test uses all items.
#![allow(dead_code)]

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer, DnType,
    IsCa, KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams, SerialNumber, date_time_ymd,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// The serial number of the next certificate.
static SERIAL: AtomicU64 = AtomicU64::new(1);

/// An authority that issues certificates.
pub struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate with its key.
pub struct Identity {
    /// The certificate in PEM form.
    pub certificate: String,
    /// The key in PEM form, PKCS #8.
    pub key: String,
    /// The serial number.
    pub serial: SerialNumber,
}

impl Authority {
    /// Creates an authority.
    pub fn new(name: &str) -> Authority {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().unwrap();
        Authority(CertifiedIssuer::self_signed(params, key).unwrap())
    }

    /// Returns the certificate in PEM form.
    pub fn certificate(&self) -> String {
        self.0.pem()
    }

    /// Issues a certificate with these subject alternative names.
    pub fn issue(&self, names: &[&str]) -> Identity {
        self.issue_with(names, |_| {})
    }

    /// Issues a certificate with these subject alternative names, and changed in this way.
    pub fn issue_with(
        &self,
        names: &[&str],
        change: impl FnOnce(&mut CertificateParams),
    ) -> Identity {
        let (params, key) = leaf(names, change);
        let certificate = params.signed_by(&key, &self.0).unwrap();
        Identity {
            certificate: certificate.pem(),
            key: key.serialize_pem(),
            serial: params.serial_number.unwrap(),
        }
    }

    /// Returns a list of these revoked certificates in PEM form, whose next one is out in the year
    /// `next`.
    pub fn revoke(&self, identities: &[&Identity], next: i32) -> String {
        let revoked = identities.iter().map(|identity| RevokedCertParams {
            serial_number: identity.serial.clone(),
            revocation_time: date_time_ymd(2025, 1, 1),
            reason_code: None,
            invalidity_date: None,
        });
        let params = CertificateRevocationListParams {
            this_update: date_time_ymd(2025, 1, 2),
            next_update: date_time_ymd(next, 1, 1),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: revoked.collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        params.signed_by(&self.0).unwrap().pem().unwrap()
    }
}

/// Returns the parameters of a certificate that is valid from 2025 to 2095, and its key.
fn leaf(
    names: &[&str],
    change: impl FnOnce(&mut CertificateParams),
) -> (CertificateParams, KeyPair) {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut params = CertificateParams::new(names).unwrap();
    params.not_before = date_time_ymd(2025, 1, 1);
    params.not_after = date_time_ymd(2095, 1, 1);
    params.serial_number = Some(SERIAL.fetch_add(1, Ordering::Relaxed).into());
    params.distinguished_name.push(DnType::CommonName, "leaf");
    change(&mut params);
    (params, KeyPair::generate().unwrap())
}

impl Identity {
    /// Creates a certificate that is signed by its own key.
    pub fn self_signed(names: &[&str]) -> Identity {
        let (params, key) = leaf(names, |_| {});
        Identity {
            certificate: params.self_signed(&key).unwrap().pem(),
            key: key.serialize_pem(),
            serial: params.serial_number.unwrap(),
        }
    }

    /// Returns the certificate.
    pub fn certificate_der(&self) -> CertificateDer<'static> {
        CertificateDer::from_pem_slice(self.certificate.as_bytes()).unwrap()
    }

    /// Returns the key.
    pub fn key_der(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::from_pem_slice(self.key.as_bytes()).unwrap()
    }
}

/// A directory with the files of a server.
pub struct Files {
    /// The directory.
    directory: tempfile::TempDir,
    /// The authority of the server and of its requesters.
    pub authority: Authority,
}

impl Files {
    /// Creates the files of a server: `ca.pem`, `server.pem`, `server.key`.
    pub fn new() -> Files {
        let files = Files {
            directory: tempfile::tempdir().unwrap(),
            authority: Authority::new("authority"),
        };
        let server = files.authority.issue(&["dhcp.example.net"]);
        files.write("ca.pem", &files.authority.certificate());
        files.write("server.pem", &server.certificate);
        files.write("server.key", &server.key);
        files
    }

    /// Returns the path of a file.
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Returns the directory.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Writes a file.
    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, text).unwrap();
        path
    }

    /// Returns the parameters that name the files, as members of a JSON map.
    pub fn parameters(&self) -> String {
        let path = |name| serde_json::to_string(&self.path(name)).unwrap();
        format!(
            r#""trust-anchor": {}, "cert-file": {}, "key-file": {}"#,
            path("ca.pem"),
            path("server.pem"),
            path("server.key")
        )
    }
}
