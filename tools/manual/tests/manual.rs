// SPDX-License-Identifier: GPL-2.0

//! The files that are made have all of the command line, and the page is one that can be read.

use bowctl_manual::{command, files};
use clap::Command;

fn file(name: &str) -> String {
    let (_, data) = files()
        .unwrap()
        .into_iter()
        .find(|(found, _)| *found == name)
        .unwrap();

    String::from_utf8(data).unwrap()
}

/// Returns the page without what roff needs before some characters.
fn words() -> String {
    file("bowctl.8")
        .replace("\\-", "-")
        .replace("\\(aq", "'")
        .replace("\\*(Aq", "'")
        .replace("\\fB", "")
        .replace("\\fI", "")
        .replace("\\fR", "")
        .replace('\n', " ")
}

fn options(command: &Command) -> Vec<String> {
    command
        .get_arguments()
        .filter_map(|argument| argument.get_long())
        .map(|long| format!("--{long}"))
        .collect()
}

#[test]
fn the_page_has_each_command_and_option() {
    let page = file("bowctl.8").replace("\\-", "-");
    let heads = page.split(".SS ").skip(1);
    let command = command();
    let commands: Vec<_> = command.get_subcommands().collect();

    assert!(commands.len() > 9);
    assert_eq!(heads.clone().count(), commands.len());
    for (section, command) in heads.zip(commands) {
        assert!(section.starts_with(&format!("\"bowctl {}\"\n", command.get_name())));
        for option in options(command) {
            let own = section.split("\n.S").next().unwrap();

            assert!(
                own.contains(&format!("\\fB{option}\\fR")),
                "{option}: {own}"
            );
        }
    }
    for option in options(&command).iter().chain([&"--help".to_owned()]) {
        assert!(page.contains(option), "{option}");
    }
}

#[test]
fn the_page_has_each_help_text() {
    let page = words();
    let command = command();

    for subcommand in command.get_subcommands() {
        let about = subcommand.get_about().unwrap().to_string();

        assert!(page.contains(&about), "{about}");
        for argument in subcommand.get_arguments() {
            let help = argument.get_help().map(ToString::to_string);
            let help = help.filter(|help| !help.is_empty());

            assert!(
                help.as_ref().is_some_and(|help| page.contains(help)),
                "{}: {help:?}",
                argument.get_id()
            );
        }
        // What prints JSON says what is in it.
        let json = subcommand
            .get_arguments()
            .any(|argument| argument.get_id() == "json");
        let section = subcommand.get_after_long_help().map(ToString::to_string);
        assert_eq!(
            json,
            section.is_some_and(|text| text.starts_with("JSON:\n"))
        );
    }
    for section in ["NAME", "SYNOPSIS", "DESCRIPTION", "OPTIONS", "COMMANDS"] {
        assert!(page.contains(&format!(".SH {section}")), "{section}");
    }
    for section in ["EXAMPLES", "EXIT CODES", "FILES", "NOTES", "SEE ALSO"] {
        assert!(page.contains(&format!(".SH \"{section}\"")), "{section}");
    }
}

/// Each line is text or one of the few requests that the page needs; what is opened is closed.
#[test]
fn the_page_is_sound() {
    let page = file("bowctl.8");
    let requests = [
        "\\\"", "TH", "SH", "SS", "TP", "PP", "IP", "RS", "RE", "br", "nf", "fi", "ie", "el",
    ];
    let mut depth = 0;
    let mut filled = true;

    for line in page.lines() {
        assert!(!line.starts_with('\''), "{line}");
        for (at, _) in line.match_indices('\\') {
            let escape = &line[at + 1..];
            let known = [
                "fB", "fI", "fR", "-", "e", "(aq", "*(Aq", "&", "\"", "n(.g", "(bu",
            ];

            // A backslash that is the second of two is none.
            assert!(
                known.iter().any(|known| escape.starts_with(known)),
                "{line}"
            );
        }
        let Some(request) = line.strip_prefix('.') else {
            continue;
        };
        let request = request.split(' ').next().unwrap();
        assert!(requests.contains(&request), "{line}");
        match request {
            "RS" => depth += 1,
            "RE" => depth -= 1,
            "nf" => filled = false,
            "fi" => filled = true,
            "SH" | "SS" => assert!(depth == 0 && filled, "{line}"),
            _ => {}
        }
        assert!(depth >= 0);
    }
    assert!(depth == 0 && filled);
    assert_eq!(page.matches(".TH ").count(), 1);
    // Text that is not filled fits a terminal, indented as it is.
    for text in page.split("\n.nf\n").skip(1) {
        let text = text.split("\n.fi\n").next().unwrap().replace("\\-", "-");

        for line in text.lines() {
            assert!(line.len() <= 72, "{line}");
        }
    }
}

#[test]
fn the_completions_have_each_command_and_option() {
    let command = command();

    for name in ["bowctl.bash", "_bowctl", "bowctl.fish"] {
        let text = file(name);

        for subcommand in command.get_subcommands() {
            assert!(text.contains(subcommand.get_name()), "{name}");
            for option in options(subcommand) {
                // fish has `-l json`.
                let option = match name {
                    "bowctl.fish" => format!("-l {}", option.trim_start_matches('-')),
                    _ => option,
                };

                assert!(text.contains(&option), "{name}: {option}");
            }
        }
    }
}

/// The same command line makes the same files, whenever that is.
#[test]
fn the_files_have_no_date() {
    assert_eq!(files().unwrap(), files().unwrap());
    assert!(file("bowctl.8").contains(".TH BOWCTL 8"));
}

/// The page has each setting of the file that is installed, with its default, in the same order.
#[test]
fn the_page_of_the_configuration_has_each_setting() {
    let settings: Vec<_> = include_str!("../../root/bow.conf")
        .lines()
        .filter_map(|line| line.strip_prefix('#')?.split_once('='))
        .filter(|(name, _)| name.chars().all(|c| c.is_ascii_uppercase() || c == '_'))
        .map(|(name, value)| format!("{name} \"({value})"))
        .collect();
    let page = file("bow.conf.5");
    let found: Vec<_> = page
        .lines()
        .filter_map(|line| line.strip_prefix(".BR "))
        .filter(|line| line.contains(" \" ("))
        .map(|line| {
            line.replace("\" (", "\"(")
                .trim_end_matches('"')
                .trim_end_matches(" *")
                .to_owned()
        })
        .collect();

    assert_eq!(settings.len(), 12);
    assert_eq!(found, settings);
}

/// The page of the whole names what the initramfs, units and others call.
#[test]
fn the_page_of_the_root_has_each_action() {
    let page = file("bow-root.7").replace("\\-", "-");
    let command = command();
    let root = command.find_subcommand("root").unwrap();
    let action = root
        .get_arguments()
        .find(|argument| argument.get_id() == "action")
        .unwrap();

    for value in action.get_possible_values() {
        assert!(
            page.contains(&format!("bowctl root {}", value.get_name())),
            "{value:?}"
        );
    }
    for unit in include_str!("../../bowctl/src/commands/root.rs")
        .lines()
        .filter_map(|line| line.trim().strip_prefix("\"bow-")?.strip_suffix("\","))
    {
        assert!(page.contains(&format!("bow-{unit}")), "{unit}");
    }
}
