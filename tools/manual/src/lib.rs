// SPDX-License-Identifier: GPL-2.0

//! The manual page and the shell completions of `bowctl`, made from its command line; and the pages bow.conf(5) and
//! bow-root(7), which are written by hand.
//!
//! This is a program of its own so that `bowctl` has no part of it. It needs no network and no
//! tools, once it is built.
//!
//! There is one page, with a section for each command. Of the texts that follow the options in
//! `--help`, each line that is not indented and ends with a colon begins a section of the page, or
//! a paragraph of the command's.

#![forbid(unsafe_code)]

use std::io;

use bowctl::cli::Cli;
use clap::builder::StyledStr;
use clap::{ArgAction, Command, CommandFactory};
use clap_complete::Shell;
use clap_mangen::Man;

/// Begins each page that `roff` writes: apostrophes for other formatters than groff.
const PREAMBLE: [&str; 2] = [".ie \\n(.g .ds Aq \\(aq", ".el .ds Aq '"];

/// A file and its contents.
pub type File = (&'static str, Vec<u8>);

/// Makes all files.
///
/// # Errors
///
/// None that can happen: all is written to memory.
pub fn files() -> io::Result<Vec<File>> {
    let shell = |shell| {
        let mut data = Vec::new();

        clap_complete::generate(shell, &mut Cli::command(), "bowctl", &mut data);
        data
    };

    Ok(vec![
        ("bowctl.8", page()?.into_bytes()),
        ("bow.conf.5", include_bytes!("../pages/bow.conf.5").to_vec()),
        ("bow-root.7", include_bytes!("../pages/bow-root.7").to_vec()),
        ("bowctl.bash", shell(Shell::Bash)),
        ("_bowctl", shell(Shell::Zsh)),
        ("bowctl.fish", shell(Shell::Fish)),
    ])
}

/// Returns the command line, complete. The commands have no `--help` of their own here: that there
/// is one is said once.
pub fn command() -> Command {
    let mut command = Cli::command()
        .disable_help_subcommand(true)
        .mut_subcommands(|subcommand| subcommand.disable_help_flag(true));

    command.build();
    command
}

/// Makes the manual page.
fn page() -> io::Result<String> {
    let command = command();
    let man = Man::new(command.clone())
        .title("BOWCTL")
        .section("8")
        .source("dm-bow")
        .manual("System administration");
    let mut page = format!(
        ".\\\" SPDX-License-Identifier: GPL-2.0\n.\\\" Made from the command line of bowctl.\n{}\n",
        PREAMBLE.join("\n")
    );

    page += &rendered(|out| man.render_title(out))?;
    page += &rendered(|out| man.render_name_section(out))?;
    page += ".SH SYNOPSIS\n";
    for (index, command) in command.get_subcommands().enumerate() {
        if index > 0 {
            page += ".br\n";
        }
        page += &synopsis(command);
    }
    page += &rendered(|out| man.render_description_section(out))?;
    page += ".SH OPTIONS\n";
    page += &section(|out| man.render_options_section(out))?;
    page += ".SH COMMANDS\n";
    for command in command.get_subcommands() {
        let man = Man::new(command.clone());

        page += &format!(".SS \"bowctl {}\"\n", command.get_name());
        page += &section(|out| man.render_description_section(out))?;
        page += &section(|out| man.render_options_section(out))?;
        for (heading, body) in headings(command.get_after_long_help()) {
            page += &format!(
                ".PP\n\\fB{}\\fR\n.RS 2\n{}.RE\n",
                escaped(&heading),
                verbatim(&body)
            );
        }
    }
    for (heading, body) in headings(command.get_after_long_help()) {
        page += &format!(
            ".SH \"{}\"\n{}",
            escaped(&heading.to_uppercase()),
            verbatim(&body)
        );
    }
    Ok(page)
}

/// Returns a line of the synopsis.
fn synopsis(command: &Command) -> String {
    let mut line = format!("\\fBbowctl {}\\fR", escaped(command.get_name()));

    for argument in command.get_arguments() {
        let values = argument.get_value_names().unwrap_or_default().join(" ");
        let value = format!("\\fI{}\\fR", escaped(&values));
        let shown = match argument.get_long() {
            Some(long) if argument.get_action().takes_values() => {
                format!("\\fB\\-\\-{}\\fR {value}", escaped(long))
            }
            Some(long) => format!("\\fB\\-\\-{}\\fR", escaped(long)),
            None if matches!(argument.get_action(), ArgAction::Append) => format!("{value}..."),
            None => value,
        };

        line += &match argument.is_required_set() {
            true => format!(" {shown}"),
            false => format!(" [{shown}]"),
        };
    }
    line + "\n"
}

/// Returns what a function writes, without the preamble.
fn rendered(render: impl FnOnce(&mut Vec<u8>) -> io::Result<()>) -> io::Result<String> {
    let mut data = Vec::new();

    render(&mut data)?;
    let text = String::from_utf8_lossy(&data);
    Ok(joined(text.lines().filter(|line| !PREAMBLE.contains(line))))
}

/// Returns what a function writes, without the preamble and the section's heading.
fn section(render: impl FnOnce(&mut Vec<u8>) -> io::Result<()>) -> io::Result<String> {
    let text = rendered(render)?;

    Ok(joined(
        text.lines().filter(|line| !line.starts_with(".SH ")),
    ))
}

/// Joins lines, and ends the last one too.
fn joined<L: AsRef<str>>(lines: impl Iterator<Item = L>) -> String {
    lines.fold(String::new(), |text, line| text + line.as_ref() + "\n")
}

/// Splits the text that follows the options into headings and what is below them.
fn headings(text: Option<&StyledStr>) -> Vec<(String, String)> {
    let text = text.map(ToString::to_string).unwrap_or_default();
    let mut headings: Vec<(String, String)> = Vec::new();

    for line in text.lines() {
        if !line.starts_with(' ') && line.ends_with(':') {
            headings.push((line.trim_end_matches(':').to_owned(), String::new()));
        } else if let Some((_, body)) = headings.last_mut() {
            body.push_str(line.strip_prefix("  ").unwrap_or(line));
            body.push('\n');
        }
    }
    headings
}

/// Returns text as it is, line by line.
fn verbatim(text: &str) -> String {
    let lines = joined(text.trim_end().lines().map(escaped));

    format!(".PP\n.nf\n{lines}.fi\n")
}

/// Escapes a line for roff.
fn escaped(line: &str) -> String {
    let line = line
        .replace('\\', "\\e")
        .replace('-', "\\-")
        .replace('\'', "\\(aq");

    match line.starts_with('.') {
        true => format!("\\&{line}"),
        false => line,
    }
}
