//! The files of TLS: PEM, as Kea's own TLS parameters have them.

use std::collections::{BTreeSet, HashSet};
use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};

use crate::config;

/// The most octets of a file: a list of all public authorities has some 200 KiB, a long list of
/// revoked certificates some MiB.
const MAX_FILE: u64 = 32 * 1024 * 1024;

/// The most entries of a directory of trust anchors: a system's directory has some 300.
const MAX_ENTRIES: usize = 10_000;

/// Error of a file of TLS. The message names the parameter, the file, and the contents that it must
/// have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFileError {
    /// The parameter.
    pub parameter: Parameter,
    /// The file.
    pub path: PathBuf,
    /// The problem.
    pub problem: String,
}

impl fmt::Display for TlsFileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let TlsFileError {
            parameter,
            path,
            problem,
        } = self;
        write!(
            f,
            "parameter 'advanced.{}' is {path:?}: {problem}; it must be {}",
            parameter.name(),
            parameter.allowed()
        )
    }
}

impl std::error::Error for TlsFileError {}

/// A parameter that names a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parameter {
    /// `trust-anchor`
    TrustAnchor,
    /// `cert-file`
    CertFile,
    /// `key-file`
    KeyFile,
    /// `crl-file`
    CrlFile,
}

impl Parameter {
    /// Returns the name.
    pub fn name(self) -> &'static str {
        match self {
            Parameter::TrustAnchor => "trust-anchor",
            Parameter::CertFile => "cert-file",
            Parameter::KeyFile => "key-file",
            Parameter::CrlFile => "crl-file",
        }
    }

    /// Returns the contents that the file must have.
    fn allowed(self) -> &'static str {
        match self {
            Parameter::TrustAnchor => {
                "a PEM file with the certificates of the authorities that issue the requesters' \
                 certificates, or a directory of such files"
            }
            Parameter::CertFile => {
                "a PEM file with the server's certificate, followed by those of intermediate authorities"
            }
            Parameter::KeyFile => {
                "a PEM file with the unencrypted private key (PKCS #8, PKCS #1 or SEC 1) of the \
                 certificate in 'advanced.cert-file'"
            }
            Parameter::CrlFile => "a PEM file with certificate revocation lists",
        }
    }

    /// Returns the error of a file.
    pub fn error(self, path: &Path, problem: impl fmt::Display) -> TlsFileError {
        TlsFileError {
            parameter: self,
            path: path.to_owned(),
            problem: problem.to_string(),
        }
    }
}

/// The contents of the files.
#[derive(Debug)]
pub struct Files {
    /// The certificates of authorities, each with its file; not empty, without duplicates.
    pub anchors: Vec<(PathBuf, CertificateDer<'static>)>,
    /// The server's certificate and those of intermediate authorities; not empty.
    pub chain: Vec<CertificateDer<'static>>,
    /// The server's private key.
    pub key: PrivateKeyDer<'static>,
    /// The lists of revoked certificates; not empty if there is to be one.
    pub revoked: Vec<CertificateRevocationListDer<'static>>,
}

impl Files {
    /// Reads all files.
    ///
    /// # Errors
    /// The first file that cannot be used.
    pub fn read(tls: &config::Tls) -> Result<Files, TlsFileError> {
        let chain = sections(Parameter::CertFile, &tls.cert_file)?;
        let revoked = match &tls.crl_file {
            Some(path) => sections(Parameter::CrlFile, path)?,
            None => Vec::new(),
        };
        Ok(Files {
            anchors: anchors(&tls.trust_anchor)?,
            chain,
            key: key(&tls.key_file)?,
            revoked,
        })
    }
}

/// Reads the trust anchors: a file, or all files in a directory.
fn anchors(path: &Path) -> Result<Vec<(PathBuf, CertificateDer<'static>)>, TlsFileError> {
    let error = |problem: &dyn fmt::Display| Parameter::TrustAnchor.error(path, problem);
    let metadata = fs::metadata(path).map_err(|cause| error(&cause))?;
    let mut found = Vec::new();
    let mut known = HashSet::new();
    let mut add = |file: &Path, certificates: Vec<CertificateDer<'static>>| {
        for certificate in certificates {
            if known.insert(certificate.clone()) {
                found.push((file.to_owned(), certificate));
            }
        }
    };
    if !metadata.is_dir() {
        add(path, sections(Parameter::TrustAnchor, path)?);
        return Ok(found);
    }
    for file in files_in(path).map_err(|cause| error(&cause))? {
        let octets = read(Parameter::TrustAnchor, &file)?;
        // Keys, revocation lists and notes may be in the directory, too.
        if contains(&octets, b"-----BEGIN CERTIFICATE-----") {
            add(&file, parse(Parameter::TrustAnchor, &file, &octets)?);
        }
    }
    if found.is_empty() {
        return Err(error(&"no file in the directory has a certificate"));
    }
    Ok(found)
}

/// Returns the files of a directory, ascending; a file to which several links refer is there once.
/// Links to nowhere are left out: removing an authority leaves them behind.
fn files_in(directory: &Path) -> io::Result<BTreeSet<PathBuf>> {
    let mut files = BTreeSet::new();
    for (count, entry) in fs::read_dir(directory)?.enumerate() {
        if count >= MAX_ENTRIES {
            let problem = format!("the directory has more than {MAX_ENTRIES} entries");
            return Err(io::Error::other(problem));
        }
        let path = entry?.path();
        match fs::canonicalize(&path) {
            Ok(file) if file.is_file() => {
                files.insert(file);
            }
            _ => {}
        }
    }
    Ok(files)
}

/// Reads the private key.
fn key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsFileError> {
    let octets = read(Parameter::KeyFile, path)?;
    PrivateKeyDer::from_pem_slice(&octets).map_err(|error| {
        // PKCS #8 has a section of its own for encrypted keys, the older forms a header.
        let problem = match contains(&octets, b"ENCRYPTED") {
            true => "the key is encrypted".to_owned(),
            false => problem(&error, "private key"),
        };
        Parameter::KeyFile.error(path, problem)
    })
}

/// Reads a file that must have a section of this kind.
fn sections<T: Section>(parameter: Parameter, path: &Path) -> Result<Vec<T>, TlsFileError> {
    let sections = parse(parameter, path, &read(parameter, path)?)?;
    match sections.is_empty() {
        true => Err(parameter.error(path, problem(&pem::Error::NoItemsFound, T::NAME))),
        false => Ok(sections),
    }
}

/// A kind of section of a PEM file.
trait Section: PemObject {
    /// The name in errors.
    const NAME: &'static str;
}

impl Section for CertificateDer<'static> {
    const NAME: &'static str = "certificate";
}

impl Section for CertificateRevocationListDer<'static> {
    const NAME: &'static str = "certificate revocation list";
}

/// Returns the sections of one kind in the octets of a file.
fn parse<T: Section>(
    parameter: Parameter,
    path: &Path,
    octets: &[u8],
) -> Result<Vec<T>, TlsFileError> {
    let sections: Result<Vec<T>, pem::Error> = T::pem_slice_iter(octets).collect();
    sections.map_err(|error| parameter.error(path, problem(&error, T::NAME)))
}

/// Describes an error of a PEM file that should have this content.
fn problem(error: &pem::Error, content: &str) -> String {
    match error {
        pem::Error::NoItemsFound => format!("the file has no {content} in PEM form"),
        pem::Error::MissingSectionEnd { .. } => "a section of the file has no end".to_owned(),
        pem::Error::IllegalSectionStart { .. } => {
            "a section of the file begins with a broken line".to_owned()
        }
        other => format!("the file is broken: {other}"),
    }
}

/// Whether these octets contain a text.
fn contains(octets: &[u8], text: &[u8]) -> bool {
    octets.windows(text.len()).any(|part| part == text)
}

/// Returns the octets of a file.
fn read(parameter: Parameter, path: &Path) -> Result<Vec<u8>, TlsFileError> {
    let read = || {
        // Opening a pipe would wait for its writer.
        if !fs::metadata(path)?.is_file() {
            return Err(io::Error::other("it is no regular file"));
        }
        let mut octets = Vec::new();
        let file = File::open(path)?;
        file.take(MAX_FILE + 1).read_to_end(&mut octets)?;
        if octets.len() as u64 > MAX_FILE {
            let problem = format!("it has more than {MAX_FILE} octets");
            return Err(io::Error::other(problem));
        }
        Ok(octets)
    };
    read().map_err(|error: io::Error| parameter.error(path, error))
}
