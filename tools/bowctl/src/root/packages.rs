// SPDX-License-Identifier: GPL-2.0

//! Packages: those that a command of apt would change, and whether dpkg has changed any, or is at it.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::programs;
use crate::error::Result;
use crate::lock;

/// Directory of dpkg's database.
const DPKG: &str = "/var/lib/dpkg";

/// Returns the packages that a command of apt would change; `None` if that cannot be told. The names of those that it
/// would remove have a hyphen after them, as on apt's own command line.
pub fn of_apt(command: &[String]) -> Option<Vec<String>> {
    let (program, args) = command.split_first()?;
    let name = program.rsplit('/').next()?;

    if !matches!(name, "apt" | "apt-get") {
        return None;
    }
    // By the same program: `apt upgrade` installs new packages, which `apt-get upgrade` does not.
    let mut simulation = vec!["--simulate", "--quiet"];
    simulation.extend(args.iter().map(String::as_str));
    let text = programs::output(program, &simulation).ok()?;

    Some(changed_packages(&text))
}

/// Returns the packages that a simulation of apt changes.
fn changed_packages(simulation: &str) -> Vec<String> {
    let mut packages: Vec<_> = simulation
        .lines()
        .filter_map(|line| {
            let mut words = line.split_whitespace();

            // One that is unpacked already is only configured.
            let step = words.next()?;
            matches!(step, "Inst" | "Conf" | "Remv" | "Purg").then_some(())?;
            let name = words.next()?;

            Some(match step {
                "Remv" | "Purg" => format!("{name}-"),
                _ => name.to_owned(),
            })
        })
        .collect();

    packages.sort();
    packages.dedup();
    packages
}

/// Version of dpkg's database, which is another one after each run of dpkg that may have changed something.
///
/// dpkg writes a file into `updates` before it begins with a package, and replaces `status` at the end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Database([(u64, i64, i64); 2]);

impl Database {
    /// Reads the version; `None` if there is no such database.
    pub fn read() -> Option<Self> {
        Self::at(Path::new(DPKG))
    }

    fn at(folder: &Path) -> Option<Self> {
        let version = |name: &str| {
            let metadata = fs::metadata(folder.join(name)).ok()?;

            Some((metadata.ino(), metadata.ctime(), metadata.ctime_nsec()))
        };

        Some(Self([version("status")?, version("updates")?]))
    }
}

/// Returns what dpkg says of packages that are not whole; `None` if all are, or there is no dpkg.
///
/// # Errors
///
/// If dpkg fails.
pub fn not_whole() -> Result<Option<String>> {
    if !programs::has("dpkg") {
        return Ok(None);
    }
    let audit = programs::output("dpkg", &["--audit"])?;

    Ok(Some(audit.trim().to_owned()).filter(|audit| !audit.is_empty()))
}

/// Returns whether dpkg is at work.
///
/// It has its database locked then. apt does too while it asks its questions, but not while dpkg runs.
pub fn is_dpkg_at_work() -> bool {
    lock::programs_with(&Path::new(DPKG).join("lock"))
        .iter()
        .any(|program| program == "dpkg")
}

/// Returns whether apt, or another program that installs packages, is at work.
///
/// It has this lock from its look at the packages to its end, also while dpkg runs.
pub fn is_frontend_at_work() -> bool {
    !lock::programs_with(&Path::new(DPKG).join("lock-frontend")).is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_simulation_is_read() {
        let text = "NOTE: This is only a simulation!\n\
                    Reading package lists...\n\
                    Inst libc6 [2.41-12] (2.41-13 Debian:13.3/stable [amd64])\n\
                    Remv old [1]\n\
                    Purg older [1]\n\
                    Conf libc6 (2.41-13 Debian:13.3/stable [amd64])\n\
                    Conf unpacked (1 Debian:13.3/stable [all])\n";

        assert_eq!(
            changed_packages(text),
            ["libc6", "old-", "older-", "unpacked"]
        );
        assert_eq!(changed_packages("0 upgraded, 0 newly installed\n"), [""; 0]);
    }

    #[test]
    fn only_apt_is_asked() {
        let words = |text: &str| -> Vec<String> { text.split(' ').map(str::to_owned).collect() };

        assert_eq!(of_apt(&words("dpkg -i x.deb")), None);
        assert_eq!(of_apt(&words("/usr/bin/aptitude upgrade")), None);
        assert_eq!(of_apt(&[]), None);
    }

    #[test]
    fn a_run_of_dpkg_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let version = || Database::at(folder.path());

        assert_eq!(version(), None);
        fs::write(path("status"), "Package: a\n").unwrap();
        fs::create_dir(path("updates")).unwrap();
        let before = version();
        assert!(before.is_some());
        assert_eq!(version(), before);

        // It has begun with a package.
        fs::write(path("updates/0000"), "").unwrap();
        let begun = version();
        assert_ne!(begun, before);

        // It is through.
        fs::write(path("status-new"), "Package: a\n").unwrap();
        fs::rename(path("status-new"), path("status")).unwrap();
        assert_ne!(version(), begun);
    }
}
