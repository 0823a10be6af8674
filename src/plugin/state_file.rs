//! Checks of the configured path of the state file.
//!
//! The [store] judges the file that exists at a path. But not every file that Kea will write exists when the
//! configuration is read.

use std::ffi::OsString;
use std::fmt::Display;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::persist::{StoreError, store};

/// The files that `state-file` may name.
const ALLOWED: &str = "the path of a file that this library made, of an empty one, or of none yet";

/// The suffixes of the files that Kea's memfile and kea-lfc keep beside the lease file (Kea ARM, lease file
/// cleanup).
const BESIDE_LEASE_FILE: [&str; 5] = [".1", ".2", ".completed", ".output", ".pid"];

/// The most links that are followed, as in the operating system.
const MOST_LINKS: usize = 40;

/// Checks that the state file may be at `path`, without touching any file. `lease_file` returns the path of the
/// lease file by its name in Kea's `configuration` (JSON text), if it has one.
///
/// # Errors
/// The text for the administrator: the path is that of a file of Kea, or the store refuses it.
pub fn check(
    path: &Path,
    configuration: &[u8],
    lease_file: impl Fn(Option<&str>) -> Option<PathBuf>,
) -> Result<(), String> {
    let configuration: Value = serde_json::from_slice(configuration).unwrap_or_default();
    let dhcp4 = &configuration["Dhcp4"];
    let own = store::files(path).map(|file| resolved(&file));
    let is_there = |other: &Path| own.contains(&resolved(other));
    let leases = &dhcp4["lease-database"];
    if leases.is_null() || leases["type"] == "memfile" {
        let name = leases["name"].as_str().filter(|name| !name.is_empty());
        let of_leases = |file: &PathBuf| of_lease_file(file).any(|file| is_there(&file));
        if let Some(file) = lease_file(name).filter(of_leases) {
            let reason = format!("Kea keeps its leases in {}", file.display());
            return Err(refused(path, &reason));
        }
    }
    if log_files(dhcp4).any(|file| is_there(Path::new(file))) {
        return Err(refused(path, &"Kea logs there"));
    }
    match store::check(path) {
        Err(StoreError::Foreign(reason)) => Err(refused(path, &reason)),
        // A file that cannot be used now is tried again later, and Kea serves its clients meanwhile.
        _ => Ok(()),
    }
}

/// Returns the text that refuses a configuration with the state file at `path`.
pub fn refused(path: &Path, reason: &dyn Display) -> String {
    let value = Value::from(path.to_string_lossy());
    format!("parameter 'state-file' is {value}; it must be {ALLOWED}: {reason}")
}

/// Returns the lease file and the files beside it.
fn of_lease_file(file: &Path) -> impl Iterator<Item = PathBuf> + use<'_> {
    let ends = [""].into_iter().chain(BESIDE_LEASE_FILE);
    ends.map(move |end| {
        let mut name: OsString = file.into();
        name.push(end);
        PathBuf::from(name)
    })
}

/// Returns the outputs of Kea's log; not all of them are paths.
fn log_files(dhcp4: &Value) -> impl Iterator<Item = &str> {
    let loggers = dhcp4["loggers"].as_array().into_iter().flatten();
    // Versions of Kea differ in the name.
    let outputs = loggers.flat_map(|logger| {
        let outputs = ["output_options", "output-options"].map(|name| logger[name].as_array());
        outputs.into_iter().flatten().flatten()
    });
    outputs.filter_map(|output| output["output"].as_str())
}

/// Resolves a path: its last component if that is a link, and the canonical name of its directory.
fn resolved(path: &Path) -> PathBuf {
    let mut path = path.to_owned();
    for _ in 0..MOST_LINKS {
        let Ok(target) = fs::read_link(&path) else {
            break;
        };
        // An absolute target replaces the directory.
        path = directory(&path).join(target);
    }
    match (fs::canonicalize(directory(&path)), path.file_name()) {
        (Ok(directory), Some(name)) => directory.join(name),
        _ => path,
    }
}

/// Returns the directory of a file.
fn directory(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use serde_json::json;

    use super::*;

    /// Checks a state file with a configuration of Kea whose lease files are in a directory.
    fn checked(path: &Path, dhcp4: &Value, directory: &Path) -> Result<(), String> {
        let text = json!({ "Dhcp4": dhcp4 }).to_string();
        let lease_file = |name: Option<&str>| Some(directory.join(name.unwrap_or("default.csv")));
        check(path, text.as_bytes(), lease_file)
    }

    /// Returns a configuration with a lease file of this name.
    fn with_leases_in(name: &str) -> Value {
        json!({ "lease-database": { "type": "memfile", "name": name } })
    }

    #[test]
    fn refuses_the_files_of_the_lease_database_before_there_are_any() {
        let directory = tempfile::tempdir().unwrap();
        let directory = directory.path();
        let configuration = with_leases_in("leases.csv");
        for name in [
            "leases.csv",
            "leases.csv.1",
            "leases.csv.2",
            "leases.csv.completed",
            "leases.csv.output",
            "leases.csv.pid",
        ] {
            let error = checked(&directory.join(name), &configuration, directory).unwrap_err();
            for part in ["'state-file'", name, "leases", "must be"] {
                assert!(error.contains(part), "{part} in {error}");
            }
        }
        // The name of the file of recent changes.
        let configuration = with_leases_in("leases.recent");
        assert!(checked(&directory.join("leases"), &configuration, directory).is_err());
        let configuration = with_leases_in("leases.csv");
        for name in ["leases.csv.3", "leases", "default.csv"] {
            assert_eq!(
                checked(&directory.join(name), &configuration, directory),
                Ok(())
            );
        }
        for configuration in [
            json!({}),
            json!({ "lease-database": { "type": "memfile" } }),
            with_leases_in(""),
        ] {
            let path = directory.join("default.csv.2");
            assert!(checked(&path, &configuration, directory).is_err());
        }
        assert_eq!(directory.read_dir().unwrap().count(), 0);
    }

    #[test]
    fn finds_the_lease_file_by_any_path() {
        let directory = tempfile::tempdir().unwrap();
        let directory = directory.path();
        fs::create_dir(directory.join("sub")).unwrap();
        symlink(directory, directory.join("sub/up")).unwrap();
        symlink("leases.csv.2", directory.join("link")).unwrap();
        symlink("../link", directory.join("sub/link")).unwrap();
        let configuration = with_leases_in("leases.csv");
        for path in [
            "sub/../leases.csv",
            "./leases.csv",
            "sub/up/leases.csv",
            "sub/up//sub/../leases.csv",
            "link",
            "sub/link",
        ] {
            let path = directory.join(path);
            assert!(
                checked(&path, &configuration, directory).is_err(),
                "{path:?}"
            );
        }
    }

    #[test]
    fn a_database_has_no_lease_file() {
        let directory = tempfile::tempdir().unwrap();
        let directory = directory.path();
        let configuration = json!({ "lease-database": { "type": "mysql", "name": "kea" } });
        for name in ["kea", "default.csv"] {
            assert_eq!(
                checked(&directory.join(name), &configuration, directory),
                Ok(())
            );
        }
    }

    #[test]
    fn refuses_the_files_of_kea_s_log() {
        let directory = tempfile::tempdir().unwrap();
        let directory = directory.path();
        let file = directory.join("kea.log");
        // Kea makes it before it logs.
        fs::write(&file, "").unwrap();
        for name in ["output_options", "output-options"] {
            let configuration = json!({ "loggers": [
                { "name": "kea-dhcp4" },
                { "name": "kea-dhcp4.x", name: [{ "output": "stdout" }, { "output": file }] },
            ] });
            assert!(checked(&file, &configuration, directory).is_err());
            assert_eq!(
                checked(&directory.join("other"), &configuration, directory),
                Ok(())
            );
        }
    }

    #[test]
    fn refuses_files_of_others_and_accepts_files_that_cannot_be_used_now() {
        let directory = tempfile::tempdir().unwrap();
        let directory = directory.path();
        let file = directory.join("notes");
        fs::write(&file, "text").unwrap();
        for path in [&file, directory] {
            let error = checked(path, &json!({}), directory).unwrap_err();
            for part in ["'state-file'", &path.display().to_string(), "this library"] {
                assert!(error.contains(part), "{part} in {error}");
            }
        }
        for path in ["absent", "no/such/directory", "notes/below"] {
            assert_eq!(
                checked(&directory.join(path), &json!({}), directory),
                Ok(())
            );
        }
    }
}
