//! A store's answer to a file in which one octet is another one.

use std::env;
use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::candidates::{self, Result};
use super::{ADDRESSES, value};

/// How many places are tried, evenly over the file.
const PLACES: u64 = 16;

/// The answer of a child that read the values written.
const RIGHT: i32 = 0;
/// The answer of a child that read other values without an error.
const WRONG: i32 = 10;
/// The answer of a child that got an error.
const NOTICED: i32 = 11;

/// In a child process: reads a store that was filled and then damaged.
pub fn read(name: &str, path: &Path) -> Result<()> {
    let mut next = 0;
    let mut is_right = true;
    let read = candidates::open(name, path).and_then(|store| {
        store.read_all(&mut |binding| {
            is_right &= next < ADDRESSES && binding == value(next, 0).binding;
            next += 1;
        })
    });
    let answer = match read {
        Err(_) => NOTICED,
        Ok(()) if is_right && next == ADDRESSES => RIGHT,
        Ok(()) => WRONG,
    };
    std::process::exit(answer)
}

/// Damages copies of a store in one place each, and counts what becomes of it.
pub fn measure(name: &str, directory: &Path) -> Result<Vec<(String, f64)>> {
    let copy = directory.with_extension("damaged");
    let mut counts = [0.0; 4];
    for place in 0..PLACES {
        let _ = fs::remove_dir_all(&copy);
        let mut files = Vec::new();
        copy_directory(directory, &copy, &mut files)?;
        let length = |path: &PathBuf| fs::metadata(path).map_or(0, |metadata| metadata.len());
        let largest = files
            .iter()
            .max_by_key(|path| length(path))
            .ok_or("no file")?;
        let offset = (2 * place + 1) * length(largest) / (2 * PLACES);
        let file = OpenOptions::new().read(true).write(true).open(largest)?;
        let mut octet = [0];
        file.read_exact_at(&mut octet, offset)?;
        file.write_all_at(&[octet[0] ^ 0x10], offset)?;
        let status = Command::new(env::current_exe()?)
            .args(["--child", "damaged", name])
            .arg(copy.join("store"))
            .stderr(Stdio::null())
            .status()?;
        counts[match status.code() {
            Some(RIGHT) => 0,
            Some(NOTICED) => 1,
            Some(WRONG) => 2,
            _ => 3,
        }] += 1.0;
    }
    fs::remove_dir_all(&copy)?;
    let names = ["harmless", "noticed", "unnoticed", "crash"].map(|what| format!("damage: {what}"));
    Ok(names.into_iter().zip(counts).collect())
}

/// Copies a directory; adds its files as copied to `files`.
fn copy_directory(from: &Path, to: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let copied = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_directory(&entry.path(), &copied, files)?;
        } else {
            fs::copy(entry.path(), &copied)?;
            files.push(copied);
        }
    }
    Ok(())
}
