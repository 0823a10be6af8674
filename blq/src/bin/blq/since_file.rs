//! The file of `--since-file`: the query-start-time to go on from, kept from run to run.

use std::fs::{self, File, Permissions};
use std::io::{self, Read, Write};
use std::net::Ipv4Addr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use blq::text::escape;
use blq::{Primary, Query, Vss};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::cells::{colons, utc};

/// The first field of a file.
const FORMAT: &str = "since-file 1";

/// Octets of the longest file that is read: a file with the longest identifiers has fewer.
const LONGEST: u64 = 1 << 20;

/// A file that is valid for the server and query, or does not exist yet.
#[derive(Debug)]
pub struct SinceFile {
    /// The path, without symbolic links if the file exists.
    path: PathBuf,
    /// The server as on the command line, with its port.
    server: String,
    /// The query without its times.
    query: String,
    /// The contents; `None` if the file does not exist.
    contents: Option<Contents>,
}

/// The contents of a file, in JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Contents {
    /// [`FORMAT`].
    blq: String,
    /// The server as on the command line, with its port.
    server: String,
    /// The server identifier of the answer, if the server sent one.
    #[serde(skip_serializing_if = "Option::is_none")]
    server_identifier: Option<Ipv4Addr>,
    /// The query without its times.
    query: String,
    /// The query-start-time of the next query.
    start: u32,
    /// `start` in RFC 3339. Any damage to one of the two is thus found.
    start_at: String,
}

/// The reason why a file cannot be used.
#[derive(Debug, Error)]
pub enum Unusable {
    /// The file cannot be read, or its directory cannot be written.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// The path is that of a directory, device or pipe.
    #[error("it is no file")]
    NoFile,
    /// The contents are not those of a file of this kind.
    #[error("it is damaged, or no file of `--since-file` ({0}); {ADVICE}")]
    Damaged(String),
    /// The file is of another server.
    #[error("it is of the server {0}, not {1}; {ADVICE}")]
    OtherServer(String, String),
    /// The file is of another query.
    #[error("it is of the query `{0}`, not `{1}`; {ADVICE}")]
    OtherQuery(String, String),
}

/// Advice on a file that cannot be used.
const ADVICE: &str = "use a file of its own for each server and query, or remove this one to begin \
                      again with all bindings; it is unchanged";

impl SinceFile {
    /// Reads the file for a query to a server; it need not exist. Nothing is changed.
    ///
    /// # Errors
    /// The file is of another server or query, is damaged, or could not be read or replaced later.
    pub fn open(path: &Path, host: &str, port: u16, query: &Query) -> Result<SinceFile, Unusable> {
        let host = host.trim_end_matches('.').to_ascii_lowercase();
        let mut file = SinceFile {
            path: path.to_path_buf(),
            server: format!("{host}:{port}"),
            query: describe(query),
            contents: None,
        };
        match fs::symlink_metadata(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error.into()),
            Ok(_) => {
                // A symbolic link stays; the file behind it is replaced.
                file.path = fs::canonicalize(path)?;
                if !fs::metadata(&file.path)?.is_file() {
                    return Err(Unusable::NoFile);
                }
                let contents = Contents::parse(&read(&file.path)?)?;
                file.check(&contents)?;
                file.contents = Some(contents);
            }
        }
        // A directory without write permission is found before the query, not after the answer.
        drop(file.temporary()?);
        Ok(file)
    }

    /// Checks that the contents are of this server and query.
    fn check(&self, contents: &Contents) -> Result<(), Unusable> {
        let shown = |text: &str| escape(text).to_string();
        if contents.server != self.server {
            return Err(Unusable::OtherServer(
                shown(&contents.server),
                self.server.clone(),
            ));
        }
        if contents.query != self.query {
            return Err(Unusable::OtherQuery(
                shown(&contents.query),
                self.query.clone(),
            ));
        }
        Ok(())
    }

    /// Returns the query-start-time; `None` if the file does not exist.
    pub fn start(&self) -> Option<u32> {
        self.contents.as_ref().map(|contents| contents.start)
    }

    /// Checks the server identifier of a reply: a name may lead to several servers, which have their
    /// own clocks and changes.
    ///
    /// # Errors
    /// The file is of a server with another identifier.
    pub fn check_server(&self, identifier: Option<Ipv4Addr>) -> Result<(), Unusable> {
        let known = self
            .contents
            .as_ref()
            .and_then(|contents| contents.server_identifier);
        match (known, identifier) {
            (Some(known), Some(other)) if known != other => Err(Unusable::OtherServer(
                format!("with identifier {known}"),
                other.to_string(),
            )),
            _ => Ok(()),
        }
    }

    /// Replaces the file: whoever reads it at any time, also after a failure of the machine, finds the
    /// old contents or the new ones.
    ///
    /// # Errors
    /// The file could not be written; it has the old contents.
    pub fn write(&self, start: u32, identifier: Option<Ipv4Addr>) -> io::Result<()> {
        let known = self
            .contents
            .as_ref()
            .and_then(|contents| contents.server_identifier);
        let contents = Contents {
            blq: FORMAT.into(),
            server: self.server.clone(),
            server_identifier: identifier.or(known),
            query: self.query.clone(),
            start,
            start_at: utc(start.into()),
        };
        let mut file = self.temporary()?;
        file.write_all(contents.to_text()?.as_bytes())?;
        file.as_file().sync_all()?;
        file.persist(&self.path).map_err(|failure| failure.error)?;
        File::open(self.directory())?.sync_all()
    }

    /// Creates a file beside the one to be replaced, with its permissions.
    fn temporary(&self) -> io::Result<tempfile::NamedTempFile> {
        let permissions = match fs::metadata(&self.path) {
            Ok(metadata) => metadata.permissions(),
            Err(_) => Permissions::from_mode(0o666),
        };
        let name = self.path.file_name().ok_or(io::ErrorKind::IsADirectory)?;
        let mut prefix = std::ffi::OsString::from(".");
        prefix.push(name);
        prefix.push(".");
        tempfile::Builder::new()
            .prefix(&prefix)
            .permissions(permissions)
            .tempfile_in(self.directory())
    }

    /// Returns the directory of the file.
    fn directory(&self) -> &Path {
        match self.path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        }
    }
}

impl Contents {
    /// Reads the contents of a file.
    fn parse(text: &str) -> Result<Contents, Unusable> {
        if text.is_empty() {
            return Err(Unusable::Damaged("it is empty".into()));
        }
        let contents: Contents = serde_json::from_str(text)
            .map_err(|error| Unusable::Damaged(escape(&error.to_string()).to_string()))?;
        if contents.blq != FORMAT {
            let format = escape(&contents.blq);
            return Err(Unusable::Damaged(format!(
                "its format is `{format}`, not `{FORMAT}`"
            )));
        }
        if contents.start_at != utc(contents.start.into()) {
            return Err(Unusable::Damaged(
                "`start` and `start_at` are different times".into(),
            ));
        }
        Ok(contents)
    }

    /// Returns the contents as the text of a file.
    fn to_text(&self) -> io::Result<String> {
        Ok(serde_json::to_string_pretty(self)? + "\n")
    }
}

/// Reads a file, up to a limit.
fn read(path: &Path) -> Result<String, Unusable> {
    let mut octets = Vec::new();
    File::open(path)?.take(LONGEST).read_to_end(&mut octets)?;
    String::from_utf8(octets).map_err(|_| Unusable::Damaged("it is not text".into()))
}

/// Describes a query without its times, so that different queries have different descriptions.
fn describe(query: &Query) -> String {
    let primary = match &query.primary {
        Primary::Mac { htype, address } => format!("mac {htype}/{}", colons(address)),
        Primary::ClientId(id) => format!("client-id {}", colons(id)),
        Primary::RemoteId(id) => format!("remote-id {}", colons(id)),
        Primary::RelayId(id) => format!("relay-id {}", colons(id)),
        Primary::All => "all".into(),
    };
    match &query.vpn {
        // RFC 6926 section 7.2: without a VPN-ID the query is for the default VPN.
        None | Some(Vss::Default) => primary,
        Some(Vss::All) => format!("{primary}, all VPNs"),
        Some(Vss::Name(name)) => format!("{primary}, VPN name {}", colons(name.as_bytes())),
        Some(Vss::Rfc2685(id)) => format!("{primary}, VPN-ID {}", colons(id)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Returns a query for all addresses.
    fn all() -> Query {
        Query::new(Primary::All)
    }

    /// Any contents of a file.
    fn any_contents() -> impl Strategy<Value = Contents> {
        (
            any::<String>(),
            any::<Option<u32>>(),
            any::<String>(),
            any::<u32>(),
        )
            .prop_map(|(server, identifier, query, start)| Contents {
                blq: FORMAT.into(),
                server,
                server_identifier: identifier.map(Ipv4Addr::from),
                query,
                start,
                start_at: utc(start.into()),
            })
    }

    #[test]
    fn keeps_the_start_from_run_to_run() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("since");
        let open = |query: &Query| SinceFile::open(&path, "Kea.example.", 67, query);
        let first = open(&all()).unwrap();
        assert_eq!(first.start(), None);
        assert!(!path.exists());
        first
            .write(1_700_000_000, Some([192, 0, 2, 1].into()))
            .unwrap();
        let next = open(&all()).unwrap();
        assert_eq!(next.start(), Some(1_700_000_000));
        assert!(next.check_server(None).is_ok());
        assert!(next.check_server(Some([192, 0, 2, 1].into())).is_ok());
        assert!(next.check_server(Some([192, 0, 2, 2].into())).is_err());
        next.write(1_700_000_001, None).unwrap();
        let next = open(&all()).unwrap();
        assert_eq!(next.start(), Some(1_700_000_001));
        assert!(next.check_server(Some([192, 0, 2, 2].into())).is_err());
        // Nothing else is left in the directory.
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }

    #[test]
    fn replaces_the_file_behind_a_symbolic_link() {
        let directory = tempfile::tempdir().unwrap();
        let (path, link) = (
            directory.path().join("since"),
            directory.path().join("link"),
        );
        SinceFile::open(&path, "s", 67, &all())
            .unwrap()
            .write(7, None)
            .unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o640)).unwrap();
        std::os::unix::fs::symlink(&path, &link).unwrap();
        SinceFile::open(&link, "s", 67, &all())
            .unwrap()
            .write(8, None)
            .unwrap();
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(
            SinceFile::open(&path, "s", 67, &all()).unwrap().start(),
            Some(8)
        );
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o640
        );
    }

    #[test]
    fn refuses_paths_that_are_no_files() {
        let directory = tempfile::tempdir().unwrap();
        let dangling = directory.path().join("dangling");
        std::os::unix::fs::symlink(directory.path().join("nowhere"), &dangling).unwrap();
        for path in [
            directory.path(),
            &dangling,
            Path::new("/dev/null"),
            Path::new(""),
            Path::new("/no/such/directory/file"),
        ] {
            assert!(SinceFile::open(path, "s", 67, &all()).is_err(), "{path:?}");
        }
    }

    /// RFC 6926 section 7.2: queries that select other bindings.
    #[test]
    fn describes_each_query_in_another_way() {
        let mut queries: Vec<Query> = [
            Primary::All,
            Primary::Mac {
                htype: 1,
                address: vec![1],
            },
            Primary::Mac {
                htype: 6,
                address: vec![1],
            },
            Primary::ClientId(vec![1]),
            Primary::RemoteId(vec![1]),
            Primary::RelayId(vec![1]),
            Primary::RelayId(b", all VPNs".to_vec()),
        ]
        .map(Query::new)
        .into();
        for vpn in [Vss::All, Vss::Name("all".into()), Vss::Rfc2685([0; 7])] {
            queries.push(Query {
                vpn: Some(vpn),
                ..all()
            });
        }
        let descriptions: std::collections::BTreeSet<String> =
            queries.iter().map(describe).collect();
        assert_eq!(descriptions.len(), queries.len());
        let default = Query {
            vpn: Some(Vss::Default),
            start: Some(1),
            ..all()
        };
        assert_eq!(describe(&default), describe(&all()));
    }

    proptest! {
        #[test]
        fn reads_what_it_writes(contents in any_contents()) {
            let text = contents.to_text().unwrap();
            prop_assert_eq!(Contents::parse(&text).unwrap(), contents);
        }

        /// A file cut short is refused.
        #[test]
        fn refuses_a_file_cut_short(contents in any_contents(), cut in any::<prop::sample::Index>()) {
            let text = contents.to_text().unwrap();
            let mut octets = text.into_bytes();
            // The last octet is the end of the line.
            octets.truncate(cut.index(octets.len() - 1));
            let text = String::from_utf8_lossy(&octets).into_owned();
            prop_assert!(Contents::parse(&text).is_err());
        }

        /// No damage to one character yields another start: changes would be missed.
        #[test]
        fn never_reads_another_start_from_a_damaged_file(
            contents in any_contents(),
            at in any::<prop::sample::Index>(),
            with in prop_oneof!["[0-9]", any::<char>().prop_map(String::from)],
        ) {
            let mut characters: Vec<String> =
                contents.to_text().unwrap().chars().map(String::from).collect();
            let at = at.index(characters.len());
            characters[at] = with;
            if let Ok(read) = Contents::parse(&characters.concat()) {
                prop_assert_eq!(read.start, contents.start);
            }
        }

        #[test]
        fn survives_any_text(text in any::<String>()) {
            let _ = Contents::parse(&text);
        }
    }
}
