//! Writes the manual page and the shell completions of `blq`, made from the definitions of its command
//! line, into a directory: `blq-manual DIRECTORY`.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use clap::Command;
use clap_complete::{Shell, generate_to};
use clap_mangen::Man;

fn main() -> ExitCode {
    let Some(directory) = std::env::args_os().nth(1) else {
        eprintln!("usage: blq-manual DIRECTORY");
        return ExitCode::from(2);
    };
    let directory = Path::new(&directory);
    match write_all(directory, blq::cli::command()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{}: {error}", directory.display());
            ExitCode::FAILURE
        }
    }
}

/// Writes all files into `directory`: `blq.1`, a page for each subcommand, and the completions under the names that the shells
/// look for.
fn write_all(directory: &Path, mut command: Command) -> io::Result<()> {
    fs::create_dir_all(directory)?;
    command.build();
    for page_of in std::iter::once(&command).chain(command.get_subcommands()) {
        let name = page_of.get_display_name().unwrap_or(page_of.get_name());
        let mut page = File::create(directory.join(format!("{name}.1")))?;
        write_page(&mut page, page_of.clone())?;
        page.flush()?;
    }
    for (shell, name) in [
        (Shell::Bash, "blq"),
        (Shell::Zsh, "_blq"),
        (Shell::Fish, "blq.fish"),
    ] {
        let written = generate_to(shell, &mut command, "blq", directory)?;
        fs::rename(written, directory.join(name))?;
    }
    Ok(())
}

/// Writes the manual page. The text of `--help` after the options keeps its lines.
fn write_page(page: &mut dyn Write, command: Command) -> io::Result<()> {
    let notes = command.get_after_help().map(ToString::to_string);
    let version = command.get_version().unwrap_or_default().to_owned();
    let has_subcommands = command.has_subcommands();
    let title = command
        .get_display_name()
        .unwrap_or(command.get_name())
        .to_owned();
    let man = Man::new(command)
        .title(title)
        .source(format!("blq {version}"));
    man.render_title(page)?;
    man.render_name_section(page)?;
    man.render_synopsis_section(page)?;
    man.render_description_section(page)?;
    man.render_options_section(page)?;
    if has_subcommands {
        man.render_subcommands_section(page)?;
    }
    if let Some(notes) = notes {
        writeln!(page, ".SH NOTES\n.nf")?;
        for line in notes.lines() {
            writeln!(page, "{}", escaped(line))?;
        }
        writeln!(page, ".fi")?;
    }
    writeln!(
        page,
        ".SH SEE ALSO\n.BR kea\\-dhcp4 (8)\n.br\nRFC 6926, RFC 7724, RFC 4388"
    )
}

/// Returns a line of text as troff prints it: its backslashes and hyphens as they are, and no request.
fn escaped(line: &str) -> String {
    let line = line.replace('\\', "\\e").replace('-', "\\-");
    match line.chars().next() {
        Some('.' | '\'') => format!("\\&{line}"),
        _ => line,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_option_is_in_the_page_and_in_the_completions() {
        let directory = tempfile::tempdir().unwrap();
        let command = blq::cli::command();
        write_all(directory.path(), command.clone()).unwrap();
        let options: Vec<&str> = command
            .get_arguments()
            .filter_map(|a| a.get_long())
            .collect();
        assert!(options.contains(&"relay-id"));
        for file in ["blq.1", "blq", "_blq", "blq.fish"] {
            let text = fs::read_to_string(directory.path().join(file)).unwrap();
            for option in &options {
                let marked = match file {
                    "blq.1" => format!("--{option}").replace('-', "\\-"),
                    "blq.fish" => format!("-l {option}"),
                    _ => format!("--{option}"),
                };
                assert!(text.contains(&marked), "{file} lacks {marked}");
            }
        }
    }

    #[test]
    fn a_subcommand_has_a_page() {
        let directory = tempfile::tempdir().unwrap();
        write_all(directory.path(), blq::cli::command()).unwrap();
        let page = fs::read_to_string(directory.path().join("blq-status.1")).unwrap();
        assert!(page.contains("\\-\\-prometheus"), "{page}");
    }

    #[test]
    fn lines_of_text_are_no_requests() {
        assert_eq!(escaped(".br a-b"), "\\&.br a\\-b");
        assert_eq!(escaped("'x\\y"), "\\&'x\\ey");
    }
}
