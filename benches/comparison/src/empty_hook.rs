//! A hook library whose `leases4_committed` returns at once: what Kea itself spends on calling a
//! callout.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::client::Result;

/// Where distributions install Kea's headers.
const INCLUDE: &str = "/usr/include/kea";

/// The header with the version of the hooks framework.
const HEADER: &str = "hooks/hooks.h";

/// Builds the library in a directory; `None` without Kea's headers or a C compiler.
pub fn build(directory: &Path) -> Result<Option<PathBuf>> {
    let include = env::var_os("KEA_INCLUDE_DIR").map_or_else(|| INCLUDE.into(), PathBuf::from);
    let Ok(header) = fs::read_to_string(include.join(HEADER)) else {
        return Ok(None);
    };
    let version = version(&header).ok_or("no KEA_HOOKS_VERSION in Kea's header")?;
    let source = directory.join("empty.c");
    let library = directory.join("libempty.so");
    fs::write(
        &source,
        format!(
            "int version(void) {{ return {version}; }}\n\
             int multi_threading_compatible(void) {{ return 1; }}\n\
             int leases4_committed(void *handle) {{ (void)handle; return 0; }}\n"
        ),
    )?;
    let compiler = env::var_os("CC").unwrap_or_else(|| "cc".into());
    let output = Command::new(compiler)
        .args(["-O2", "-shared", "-fPIC", "-o"])
        .arg(&library)
        .arg(&source)
        .output();
    match output {
        Err(_) => Ok(None),
        Ok(output) if output.status.success() => Ok(Some(library)),
        Ok(output) => Err(String::from_utf8_lossy(&output.stderr).into()),
    }
}

/// The version of the hooks framework in Kea's header.
fn version(header: &str) -> Option<u32> {
    let (_, after) = header.split_once("int KEA_HOOKS_VERSION = ")?;
    after.split(';').next()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_version_of_the_hooks_framework() {
        let header = "// Version 30003\nconst int KEA_HOOKS_VERSION = 30003;\n";
        assert_eq!(version(header), Some(30_003));
        assert_eq!(version("#define NOTHING"), None);
    }
}
