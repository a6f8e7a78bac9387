// SPDX-License-Identifier: GPL-2.0

//! Output of `status`: the state of a device, its space, and what can be done next.

use std::fmt::Write as _;

use serde::Serialize;

use super::{utc, Block};
use crate::words::{age, bar, bytes, duration};

/// A live bow device, or the log on a plain one.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Status {
    /// A live bow device.
    Live(LiveStatus),
    /// A plain device or image.
    Plain(PlainStatus),
}

/// The status of a live bow device.
#[derive(Clone, Debug, Serialize)]
pub struct LiveStatus {
    /// Device-mapper name.
    pub name: String,
    /// Device node.
    pub device: String,
    /// 0, 1 or 2.
    pub state: u32,
    /// A word for it.
    pub state_name: &'static str,
    /// Free space that is left, in bytes.
    pub free_bytes: u64,
    /// Size in bytes.
    pub size_bytes: u64,
    /// Underlying devices.
    pub below: Vec<String>,
    /// Mount points.
    pub mounted_on: Vec<String>,
    /// Policy for free space that runs out.
    pub on_full: Option<String>,
    /// `ok`, `low`, `full` or `failed`.
    pub condition: Option<String>,
    /// The newest log block, in state 1.
    pub header: Option<Block>,
    /// Age of the checkpoint.
    pub age_seconds: Option<u64>,
    /// Space, in state 1.
    pub space: Option<Space>,
    /// The target's own status line.
    pub target_status: Option<String>,
}

/// The status of a plain device or image.
#[derive(Clone, Debug, Serialize)]
pub struct PlainStatus {
    /// Its path.
    pub device: String,
    /// State of the log: `none`, `checkpoint`, `restoring` or `damaged`.
    pub log: &'static str,
    /// Description of the damage.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// The newest log block.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub header: Option<Block>,
    /// Age of the checkpoint.
    pub age_seconds: Option<u64>,
    /// Space, if the log can be read to its end.
    pub space: Option<Space>,
    /// Users of it.
    pub in_use: Vec<String>,
    /// Traces of writes without dm-bow since the checkpoint.
    pub foreign_writes: Vec<String>,
}

/// Use of the space that was free at the checkpoint, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Space {
    /// Free space then; none if the log does not say so.
    pub free_at_checkpoint: Option<u64>,
    /// Space that backups may still take; none if the log does not say so.
    pub free: Option<u64>,
    /// Space that backups and the log take.
    pub backups: u64,
    /// Space that the file system has taken, or may have; none if it is not known what was free.
    pub granted: Option<u64>,
}

impl Space {
    /// Draws the space as a bar, and says it in words.
    fn text(&self) -> String {
        let Some(free) = self.free else {
            return format!(
                "{} used by backups (how much is free, such a log does not say)",
                bytes(self.backups)
            );
        };
        let granted = self.granted.unwrap_or_default();
        let total = free.saturating_add(self.backups).saturating_add(granted);
        let mut text = format!(
            "{} {} free",
            bar(&[('#', self.backups), ('=', granted), ('.', free)]),
            bytes(free)
        );

        if self.free_at_checkpoint.is_some() {
            let _ = write!(text, " of {}", bytes(total));
        }
        let _ = write!(text, "; {} used by backups (#)", bytes(self.backups));
        if self.granted.is_some() {
            let _ = write!(text, ", {} by new data (=)", bytes(granted));
        }
        text
    }

    /// Returns whether less than a tenth of the space is left.
    fn is_short(&self) -> bool {
        let granted = self.granted.unwrap_or_default();
        let used = self.backups.saturating_add(granted);

        self.free.is_some_and(|free| free < used / 9)
    }
}

impl Status {
    /// Formats the report as lines of text.
    pub fn text(&self) -> String {
        match self {
            Self::Live(live) => live.text(),
            Self::Plain(plain) => plain.text(),
        }
    }
}

/// Returns when a checkpoint was taken, and its identity.
fn taken(header: &Block) -> String {
    let (Some(uuid), Some(time)) = (&header.uuid, header.time) else {
        return "taken at an unknown time (log version 1.0)".to_owned();
    };

    match age(time) {
        Some(age) => format!("taken {} ago, {}; {uuid}", duration(age), utc(time)),
        None => format!(
            "taken {}, which is yet to come by this machine's clock; {uuid}",
            utc(time)
        ),
    }
}

/// Says what happens when free space runs out.
fn on_full(policy: &str) -> String {
    let meaning = match policy {
        "error" => {
            "a write that needs a backup fails with \"no space left\"; rollback stays possible"
        }
        "commit" => {
            "the checkpoint is committed by itself: there is no way back then, and writes go on"
        }
        "wait" => {
            "a write that needs a backup waits until there is space or the checkpoint is committed"
        }
        _ => "",
    };

    format!("{meaning} (on_full:{policy})")
        .trim_start()
        .to_owned()
}

impl LiveStatus {
    fn text(&self) -> String {
        let mut text = format!(
            "{} ({}) over {}: {} (state {})\n",
            self.name,
            self.device,
            self.below.join(", "),
            match self.state {
                0 => "no checkpoint; notes what is free",
                1 => "a checkpoint is open",
                _ => "the checkpoint is committed; everything is passed on",
            },
            self.state
        );
        let mut line = |head: &str, tail: &str| {
            let _ = writeln!(text, "  {head}: {tail}");
        };

        match self.condition.as_deref() {
            Some("low") => line(
                "LOW",
                "less space is free for backups than the low-water mark",
            ),
            Some("full") => line(
                "FULL",
                "a write has failed, or waits: there is no free space for its backup",
            ),
            Some("failed") => line(
                "FAILED",
                "the log could not be written, or the checkpoint not committed (`dmesg`)",
            ),
            _ => {}
        }
        if let Some(header) = &self.header {
            line("checkpoint", &taken(header));
            if let Some(boot) = header.next_boot() {
                line("next boot", &boot);
            }
        }
        if self.state == 0 {
            let known = format!(
                "{} of {} known to be free",
                bytes(self.free_bytes),
                bytes(self.size_bytes)
            );

            line("space", &known);
        }
        if let Some(space) = &self.space {
            line("space", &space.text());
        }
        if let (Some(policy), 0 | 1) = (&self.on_full, self.state) {
            line("when it runs out", &on_full(policy));
        }
        if !self.mounted_on.is_empty() {
            line("mounted on", &self.mounted_on.join(", "));
        }
        for advice in self.next() {
            line("next", &advice);
        }
        text
    }

    /// Says what can be done next.
    fn next(&self) -> Vec<String> {
        let name = &self.name;
        let mut advice = Vec::new();

        match self.state {
            0 => advice.push(format!(
                "`bowctl checkpoint {name}` trims the file system and takes a checkpoint"
            )),
            1 => {
                advice.push(format!("`bowctl commit {name}` keeps what is there now"));
                advice.push(format!(
                    "`bowctl rollback {name}` goes back to the checkpoint"
                ));
                if self.space.is_some_and(|space| space.is_short())
                    || matches!(self.condition.as_deref(), Some("low" | "full"))
                {
                    let point = self.mounted_on.first().map_or("its mount", String::as_str);

                    advice.push(format!(
                        "for more space, delete files that were written since the checkpoint, then \
                         `fstrim {point}`; or commit before it runs out; `dmsetup message {name} 0 \
                         on_full POLICY` changes what happens then"
                    ));
                }
            }
            _ => {
                advice.extend(self.mounted_on.first().map(|point| {
                    format!("`fstrim {point}`, when it suits: discards in state 1 were kept back")
                }));
                advice.push(format!(
                    "`bowctl checkpoint {name}` takes another checkpoint"
                ));
            }
        }
        advice
    }
}

impl PlainStatus {
    /// Returns whether the log has a free map, without which a checkpoint cannot be resumed.
    fn has_free_map(&self) -> bool {
        self.header
            .as_ref()
            .is_some_and(|header| header.free_map_sector.is_some())
    }

    fn text(&self) -> String {
        let mut text = format!(
            "{}: {}\n",
            self.device,
            match self.log {
                "none" => "no checkpoint",
                "checkpoint" if self.has_free_map() =>
                    "an open checkpoint: `bowctl resume` goes on with it, `bowctl restore` goes back \
                     to it, `bowctl commit` keeps the new state",
                "checkpoint" =>
                    "an open checkpoint: `bowctl restore` goes back to it, `bowctl commit` keeps \
                     the new state",
                "restoring" => "a restore that has not finished: run `bowctl restore`",
                _ => "a damaged log",
            }
        );
        let mut line = |head: &str, tail: &str| {
            let _ = writeln!(text, "  {head}: {tail}");
        };

        if let Some(header) = &self.header {
            line("checkpoint", &taken(header));
            if let Some(boot) = header.next_boot() {
                line("next boot", &boot);
            }
            let log = format!(
                "{} log block{} of {} bytes, version {}",
                u64::from(header.sequence) + 1,
                if header.sequence == 0 { "" } else { "s" },
                header.block_size,
                header.version
            );
            line("log", &log);
        }
        if let Some(space) = &self.space {
            line("space", &space.text());
        }
        if let Some(error) = &self.error {
            line("damage", error);
        }
        for trace in &self.foreign_writes {
            line("written to without dm-bow", trace);
        }
        for user in &self.in_use {
            line("in use", user);
        }
        for advice in self.next() {
            line("next", &advice);
        }
        text
    }

    /// Says what can be done next.
    fn next(&self) -> Vec<String> {
        let device = &self.device;

        match self.log {
            // Who uses it has to end first.
            "checkpoint" if self.in_use.is_empty() => vec![
                format!("`bowctl diff {device}` and `bowctl map {device}` show what has changed"),
                format!(
                    "`bowctl restore --dry-run {device}` checks all that going back needs, and \
                     writes nothing"
                ),
            ],
            "damaged" => vec![
                "keep an image of the device before anything else".to_owned(),
                format!("`bowctl commit {device}` keeps the new state, if it is whole"),
            ],
            _ => Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn live(state: u32, space: Option<Space>) -> LiveStatus {
        LiveStatus {
            name: "data".to_owned(),
            device: "/dev/dm-0".to_owned(),
            state,
            state_name: "",
            free_bytes: 1 << 30,
            size_bytes: 1 << 32,
            below: vec!["vdb1".to_owned()],
            mounted_on: vec!["/mnt".to_owned()],
            on_full: Some("error".to_owned()),
            condition: Some("ok".to_owned()),
            header: None,
            age_seconds: None,
            space,
            target_status: None,
        }
    }

    fn space(free: u64) -> Space {
        Space {
            free_at_checkpoint: Some(4 << 20),
            free: Some(free),
            backups: 1 << 20,
            granted: Some((3 << 20) - free),
        }
    }

    #[test]
    fn state_0_says_how_to_begin() {
        let text = live(0, None).text();

        for part in [
            "no checkpoint",
            "1.00 GiB of 4.00 GiB",
            "bowctl checkpoint data",
        ] {
            assert!(text.contains(part), "{text}");
        }
    }

    #[test]
    fn state_1_says_how_to_end_and_what_is_left() {
        let text = live(1, Some(space(2 << 20))).text();

        for part in [
            "##########",
            "2.00 MiB free of 4.00 MiB",
            "1.00 MiB used by backups",
            "1.00 MiB by new data",
            "fails with \"no space left\"",
            "bowctl commit data",
            "bowctl rollback data",
        ] {
            assert!(text.contains(part), "{text}");
        }
        assert!(!text.contains("more space"), "{text}");
        let text = live(1, Some(space(1 << 17))).text();
        assert!(text.contains("`fstrim /mnt`; or commit"), "{text}");
    }

    #[test]
    fn each_policy_has_its_words() {
        for (policy, words) in [
            ("error", "fails"),
            ("commit", "no way back"),
            ("wait", "waits"),
        ] {
            assert!(on_full(policy).contains(words));
        }
        assert_eq!(on_full("later"), "(on_full:later)");
    }

    #[test]
    fn what_has_gone_wrong_comes_first() {
        for (condition, word) in [("low", "LOW"), ("full", "FULL"), ("failed", "FAILED")] {
            let mut live = live(1, None);

            live.condition = Some(condition.to_owned());
            assert!(live.text().lines().nth(1).unwrap().contains(word));
        }
    }
}
