//! Builds the C++ side of the bridge against the installed Kea; builds nothing without the feature `hook`.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    #[cfg(feature = "hook")]
    if let Err(error) = hook::build() {
        for line in error.lines() {
            println!("cargo::error={line}");
        }
        std::process::exit(1);
    }
}

/// The part that needs Kea.
#[cfg(feature = "hook")]
mod hook {
    use std::collections::BTreeSet;
    use std::env;
    use std::fmt::Write;
    use std::fs;
    use std::path::{Path, PathBuf};
    use std::process::Command;

    /// The name of the C++ side's archive, without `lib` and `.a`.
    const ARCHIVE: &str = "kea_blq_shim";

    /// Where distributions put Kea's headers.
    const DEFAULT_INCLUDE_DIR: &str = "/usr/include/kea";

    /// Replacements for headers that Kea's headers include but that one of its releases does not
    /// install.
    const COMPATIBILITY_HEADERS: &str = "include/compat/kea-2.2";

    /// Advice about missing headers.
    const HOW_TO_INSTALL: &str = "Install Kea's headers and the compiler: on Debian \
        `apt-get install kea-dev libboost-dev libssl-dev g++` of the very release of Kea the hook \
        is to run in (isc-kea-dev where Kea is from ISC's packages, as Kea 3.2 is), or name their directory \
        in KEA_INCLUDE_DIR. To build everything but the hook, with no Kea: `cargo build --no-default-features`.";

    /// Compiles the bridge and the shim, and sets the options of the linker.
    pub fn build() -> Result<(), String> {
        for watched in ["cpp-shim", "include", "src/ffi/bridge.rs"] {
            println!("cargo::rerun-if-changed={watched}");
        }
        for variable in ["KEA_INCLUDE_DIR", "PKG_CONFIG_PATH", "OBJCOPY"] {
            println!("cargo::rerun-if-env-changed={variable}");
        }
        let include = include_dir();
        let header = include.join("hooks/hooks.h");
        println!("cargo::rerun-if-changed={}", header.display());
        let text = fs::read_to_string(&header).map_err(|error| {
            format!(
                "Kea's header {} cannot be read: {error}.\n{HOW_TO_INSTALL}",
                header.display()
            )
        })?;
        let version = hooks_version(&text).ok_or_else(|| {
            format!(
                "{} defines no KEA_HOOKS_VERSION.\n{HOW_TO_INSTALL}",
                header.display()
            )
        })?;
        println!("cargo::rustc-env=KEA_HOOKS_VERSION={version}");

        let mut bridge = cxx_build::bridge("src/ffi/bridge.rs");
        bridge
            .file("cpp-shim/callouts.cc")
            .file("cpp-shim/server.cc")
            .std("c++17")
            .define("KEA_BLQ_HOOKS_VERSION", version.to_string().as_str())
            // Included as system headers, without warnings, since these concern Kea only.
            .flag("-isystem")
            .flag(
                include
                    .to_str()
                    .ok_or("Kea's include directory is not UTF-8")?,
            )
            // Searched after Kea's directory, so that Kea's own header has precedence.
            .flag("-idirafter")
            .flag(COMPATIBILITY_HEADERS)
            .flag_if_supported("-Wextra")
            .flag_if_supported("-fvisibility=hidden")
            .flag_if_supported("-fstack-protector-strong");
        // The C library checks lengths only in optimised code, and warns otherwise.
        if env::var("OPT_LEVEL").is_ok_and(|level| level != "0") {
            bridge
                .flag("-U_FORTIFY_SOURCE")
                .define("_FORTIFY_SOURCE", "2");
        }
        bridge.try_compile(ARCHIVE).map_err(|error| {
            format!("the C++ side did not build against Kea {version}: {error}\n{HOW_TO_INSTALL}")
        })?;
        weaken()?;
        hide_bridge()?;

        // The library stays loaded: its threads may outlive dlclose for an instant, and state
        // survives reconfigurations.
        println!("cargo::rustc-link-arg-cdylib=-Wl,-z,nodelete");
        // Debuggers find separate debug information by it.
        println!("cargo::rustc-link-arg-cdylib=-Wl,--build-id=sha1");
        Ok(())
    }

    /// Makes the references to Kea's symbols weak.
    ///
    /// Kea's other daemons do not have all of its libraries. With strong references, they would
    /// fail to load the hook with the mangled name of a symbol; with weak ones, Kea calls load(),
    /// which logs the reason. `scripts/check-symbols` finds symbols that no library of Kea defines.
    fn weaken() -> Result<(), String> {
        let out = env::var("OUT_DIR").map_err(|error| format!("OUT_DIR: {error}"))?;
        let archive = Path::new(&out).join(format!("lib{ARCHIVE}.a"));
        let objcopy = env::var("OBJCOPY").unwrap_or_else(|_| "objcopy".to_owned());
        let done = Command::new(&objcopy)
            .args(["--wildcard", "--weaken-symbol=_Z*N*3isc*"])
            .arg(&archive)
            .status()
            .map_err(|error| {
                format!("{objcopy}, of the package binutils, cannot be run: {error}")
            })?;
        done.success()
            .then_some(())
            .ok_or_else(|| format!("{objcopy} failed on {}: {done}", archive.display()))
    }

    /// Keeps the bridge's functions out of the symbols that the library exports.
    ///
    /// Rust exports every function of C linkage from a cdylib, by a version script of its own, to which
    /// linkers accept no addition. A symbol that any object declares hidden is not exported all the
    /// same, so one more object declares those of cxx and of the bridge. `scripts/check-symbols` finds
    /// those left over.
    fn hide_bridge() -> Result<(), String> {
        let out = env::var("OUT_DIR").map_err(|error| format!("OUT_DIR: {error}"))?;
        let header = env::var("DEP_CXXBRIDGE1_HEADER")
            .map_err(|error| format!("the header of the crate cxx: {error}"))?;
        let cxx = Path::new(&header).with_file_name("../src/cxx.cc");
        // Its names are made by macros.
        let cxx = cc::Build::new()
            .cpp(true)
            .std("c++17")
            .file(&cxx)
            .try_expand()
            .map_err(|error| format!("{}: {error}", cxx.display()))?;
        let bridge = Path::new(&out).join("cxxbridge/sources/kea-blq/src/ffi/bridge.rs.cc");
        let bridge = fs::read(&bridge).map_err(|error| format!("{}: {error}", bridge.display()))?;

        // The references that an assembler needs to enter a symbol are in a section that linkers leave
        // out.
        let mut text = ".section .kea_blq.hidden,\"e\",%progbits\n".to_owned();
        for name in bridge_names(&cxx).union(&bridge_names(&bridge)) {
            writeln!(text, ".weak {name}\n.hidden {name}\n.quad {name}")
                .map_err(|error| error.to_string())?;
        }
        text.push_str(".section .note.GNU-stack,\"\",%progbits\n");
        let assembly = Path::new(&out).join("hidden.s");
        fs::write(&assembly, text).map_err(|error| format!("{}: {error}", assembly.display()))?;
        let objects = cc::Build::new()
            .file(&assembly)
            .try_compile_intermediates()
            .map_err(|error| format!("{}: {error}", assembly.display()))?;
        for object in objects {
            println!("cargo::rustc-link-arg-cdylib={}", object.display());
        }
        Ok(())
    }

    /// Returns the C names of cxx and of the bridge in C++ code.
    fn bridge_names(code: &[u8]) -> BTreeSet<String> {
        String::from_utf8_lossy(code)
            .split(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == '$'))
            .filter(|word| word.contains("cxxbridge1$"))
            .map(str::to_owned)
            .collect()
    }

    /// Returns Kea's include directory: `KEA_INCLUDE_DIR`, otherwise that of kea.pc, otherwise the
    /// usual place.
    fn include_dir() -> PathBuf {
        if let Some(directory) = env::var_os("KEA_INCLUDE_DIR") {
            return directory.into();
        }
        // Reads the variable only: the requirements of kea.pc include database packages that are
        // not used.
        let asked = Command::new("pkg-config")
            .args(["--variable=includedir", "kea"])
            .output();
        let answer = asked.ok().filter(|answer| answer.status.success());
        let directory = answer.and_then(|answer| String::from_utf8(answer.stdout).ok());
        match directory.as_deref().map(str::trim) {
            None | Some("") => DEFAULT_INCLUDE_DIR.into(),
            Some(directory) => Path::new(directory).join("kea"),
        }
    }

    /// Returns the number in `const int KEA_HOOKS_VERSION = ...;`, a constant that the preprocessor
    /// cannot read.
    fn hooks_version(header: &str) -> Option<u32> {
        let (_, after) = header.split_once("const int KEA_HOOKS_VERSION")?;
        let (value, _) = after.trim_start().strip_prefix('=')?.split_once(';')?;
        value.trim().parse().ok()
    }
}
