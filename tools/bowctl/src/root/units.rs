// SPDX-License-Identifier: GPL-2.0

//! Units of systemd that check, keep and undo an update.

use super::layout::{Obstacle, Weight};
use super::programs;
use crate::error::Result;

/// Units that are enabled with dm-bow.
const UNITS: [&str; 6] = [
    "bow-health.service",
    "bow-commit.service",
    "bow-deadline.timer",
    "bow-rollback.service",
    "bow-space.service",
    "bow-settle.service",
];

/// Has systemd `enable` or `disable` the units.
///
/// # Errors
///
/// Those of `systemctl`.
pub fn set(verb: &str) -> Result {
    let mut args = vec![verb, "--quiet"];

    args.extend(UNITS);
    programs::show("systemctl", &args)
}

/// Returns the units that are enabled; `None` where systemd does not answer.
fn enabled() -> Option<Vec<String>> {
    let mut args = vec!["show", "--property=Id,UnitFileState"];

    args.extend(UNITS);
    Some(enabled_in(&programs::output("systemctl", &args).ok()?))
}

/// Returns the units that are enabled by what `systemctl show` says, a paragraph each.
fn enabled_in(text: &str) -> Vec<String> {
    text.split("\n\n")
        .filter(|unit| unit.lines().any(|line| line == "UnitFileState=enabled"))
        .filter_map(|unit| unit.lines().find_map(|line| line.strip_prefix("Id=")))
        .map(str::to_owned)
        .collect()
}

/// Returns what is wrong with the units, without which nothing would keep an update, or undo it in time; `None` where
/// systemd does not answer.
pub fn obstacle() -> Option<Obstacle> {
    let enabled = enabled()?;
    let missing: Vec<_> = UNITS
        .into_iter()
        .filter(|unit| !enabled.iter().any(|name| name == unit))
        .collect();

    (!missing.is_empty()).then(|| Obstacle {
        name: "units",
        weight: Weight::Refused,
        reason: format!(
            "Not enabled, and needed to keep an update or to undo it: {}. `bowctl root enable` completes it.",
            missing.join(", ")
        ),
    })
}

/// Returns whether some of the units are enabled.
pub fn is_any_enabled() -> bool {
    enabled().is_some_and(|enabled| !enabled.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_systemd_says_is_read() {
        let text = "Id=bow-health.service\nUnitFileState=enabled\n\n\
                    Id=bow-commit.service\nUnitFileState=disabled\n\n\
                    UnitFileState=\nId=bow-space.service\n\n\
                    UnitFileState=enabled\nId=bow-settle.service\n";

        assert_eq!(
            enabled_in(text),
            ["bow-health.service", "bow-settle.service"]
        );
        assert_eq!(enabled_in(""), [""; 0]);
    }
}
