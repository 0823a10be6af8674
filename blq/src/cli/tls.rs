//! The arguments of TLS.

use std::path::PathBuf;

use clap::Args;

use crate::tls::{self, FileError, IdentityFiles, Tls, TlsFiles};

/// The title of these arguments in the help.
const HEADING: &str = "TLS";

/// The arguments of TLS.
#[derive(Clone, Debug, Args)]
pub struct TlsArgs {
    /// Encrypt connections by TLS, which is requested by DHCPTLS (RFC 7724): with --ca
    #[arg(long, requires = "ca", conflicts_with = "udp", help_heading = HEADING)]
    pub tls: bool,

    /// The certificates of the authorities that issue servers' certificates: a PEM file, or a directory
    /// of them
    #[arg(long, value_name = "FILE|DIR", requires = "tls", help_heading = HEADING)]
    pub ca: Option<PathBuf>,

    /// The certificate of this requester, a PEM file; servers usually require one
    #[arg(long, value_name = "FILE", requires_all = ["tls", "key"], help_heading = HEADING)]
    pub cert: Option<PathBuf>,

    /// The private key of --cert, a PEM file that is not encrypted
    #[arg(long, value_name = "FILE", requires_all = ["tls", "cert"], help_heading = HEADING)]
    pub key: Option<PathBuf>,

    /// The DNS name or IP address that the server's certificate must have as subject alternative name
    /// [default: SERVER]
    #[arg(long, value_name = "NAME", requires = "tls", help_heading = HEADING)]
    #[arg(value_parser = server_name)]
    pub server_name: Option<String>,
}

impl TlsArgs {
    /// Reads the files for connections to the server `host`; `None` without `--tls`.
    ///
    /// # Errors
    /// A file cannot be used.
    pub fn read(&self, host: &str) -> Result<Option<Tls>, FileError> {
        let Some(ca) = self.ca.clone().filter(|_| self.tls) else {
            return Ok(None);
        };
        let identity = self.cert.clone().zip(self.key.clone());
        let files = TlsFiles {
            ca,
            identity: identity.map(|(certificate, key)| IdentityFiles { certificate, key }),
        };
        let name = self.server_name.as_deref().unwrap_or(host);
        Tls::from_files(&files, name).map(Some)
    }
}

/// Reads the name of a server.
fn server_name(value: &str) -> Result<String, String> {
    match tls::name(value) {
        Ok(_) => Ok(value.to_owned()),
        Err(_) => Err("a DNS name or an IP address is required".into()),
    }
}
