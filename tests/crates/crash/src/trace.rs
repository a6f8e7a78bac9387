// SPDX-License-Identifier: GPL-2.0

//! The trace of a recording: when each bio of both levels began and ended, and the marks, in one
//! order.

use crate::log_writes::Kind;
use std::collections::HashMap;

/// A moment: the number of events before it.
pub(crate) type Time = u32;

/// A moment that does not come.
pub(crate) const NEVER: Time = Time::MAX;

/// A bio that changes something, or a flush.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bio {
    pub(crate) kind: Kind,
    pub(crate) sector: u64,
    pub(crate) sectors: u64,
    /// The event of its submission.
    pub(crate) start: Time,
    /// The event of its end.
    pub(crate) end: Time,
    /// It ended with an error.
    pub(crate) failed: bool,
    /// The kernel's letters for the operation: bios with others are not taken for one another.
    pub(crate) flags: Flags,
}

/// The letters for an operation, as many as matter.
pub(crate) type Flags = [u8; 8];

impl Bio {
    fn last(&self) -> u64 {
        self.sector + self.sectors
    }
}

/// Bios and flushes that were traced.
pub(crate) struct Trace {
    /// The bios of each device, in the order in which they began.
    pub(crate) bios: HashMap<(u32, u32), Vec<Bio>>,
    /// The marks.
    pub(crate) marks: Vec<(Time, String)>,
    /// The number of events.
    pub(crate) events: Time,
}

/// Bios that have not ended, of one device.
type Open = HashMap<(Flags, u64), Vec<usize>>;

/// Reads the text of the kernel's `trace` file.
pub(crate) fn parse(text: &str) -> Result<Trace, String> {
    let mut trace = Trace {
        bios: HashMap::new(),
        marks: Vec::new(),
        events: 0,
    };
    let mut open: HashMap<(u32, u32), Open> = HashMap::new();
    let mut clock = 0;
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let unreadable = || format!("unreadable trace line: {line}");
        let Some((head, name, rest)) = split_event(line) else {
            continue;
        };
        let stamp: u64 = head
            .rsplit(char::is_whitespace)
            .next()
            .and_then(|word| word.parse().ok())
            .ok_or_else(unreadable)?;
        if stamp < clock {
            return Err(format!("the trace goes back in time: {line}"));
        }
        clock = stamp;
        let now = trace.events;
        if name == "tracing_mark_write" {
            if let Some(mark) = rest.strip_prefix("bow-crash: ") {
                trace.marks.push((now, mark.trim().to_owned()));
                trace.events += 1;
            }
            continue;
        }
        let Some(event) = Event::parse(rest).ok_or_else(unreadable)? else {
            continue;
        };
        let bios = trace.bios.entry(event.device).or_default();
        let open = open.entry(event.device).or_default();
        if name == "block_bio_queue" {
            let bio = event.bio(now);
            open.entry((bio.flags, bio.last()))
                .or_default()
                .push(bios.len());
            bios.push(bio);
        } else {
            // A bio that was split on the way says at its end only where its last part began.
            let bio = event.bio(now);
            let waiting = open.entry((bio.flags, bio.last())).or_default();
            let by = |fits: fn(u64, u64) -> bool| {
                waiting
                    .iter()
                    .position(|index| fits(bios[*index].sector, bio.sector))
            };
            let found = by(|began, ended| began == ended)
                .or_else(|| by(|began, ended| began < ended))
                .ok_or_else(|| format!("the end of a bio that never began: {line}"))?;
            let bio = &mut bios[waiting.remove(found)];
            bio.end = now;
            bio.failed = event.error != 0;
        }
        trace.events += 1;
    }
    Ok(trace)
}

fn split_event(line: &str) -> Option<(&str, &str, &str)> {
    [
        "block_bio_queue",
        "block_bio_complete",
        "tracing_mark_write",
    ]
    .into_iter()
    .find_map(|name| {
        let at = line.find(name)?;
        let head = line[..at].strip_suffix(": ")?;
        Some((head, name, line[at + name.len()..].strip_prefix(": ")?))
    })
}

struct Event {
    device: (u32, u32),
    kind: Kind,
    flags: Flags,
    sector: u64,
    sectors: u64,
    error: i32,
}

impl Event {
    /// Reads `254,0 WFS 16 + 8 [0]`. `Some(None)` for a read.
    fn parse(text: &str) -> Option<Option<Self>> {
        let words: Vec<_> = text.split_whitespace().collect();
        let [device, flags, sector, "+", sectors, by, ..] = words[..] else {
            return None;
        };
        let (major, minor) = device.split_once(',')?;
        let sectors: u64 = sectors.parse().ok()?;
        // A preflush stands before the operation, FUA after it.
        let operation = flags.strip_prefix('F').unwrap_or(flags);
        let kind = match (operation.get(..1)?, sectors) {
            ("R", _) => return Some(None),
            ("W" | "F", 0) => Kind::Flush,
            ("W", _) if operation.contains('F') => Kind::Fua,
            ("W", _) => Kind::Write,
            ("D", _) => Kind::Discard,
            _ => return None,
        };
        let mut letters = Flags::default();
        for (slot, letter) in letters.iter_mut().zip(flags.bytes()) {
            *slot = letter;
        }
        Some(Some(Self {
            flags: letters,
            device: (major.parse().ok()?, minor.parse().ok()?),
            kind,
            sector: sector.parse().ok()?,
            sectors,
            error: by.trim_matches(['[', ']']).parse().unwrap_or(0),
        }))
    }

    fn bio(&self, now: Time) -> Bio {
        Bio {
            kind: self.kind,
            sector: self.sector,
            sectors: self.sectors,
            start: now,
            end: NEVER,
            failed: false,
            flags: self.flags,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: &str = "\
# tracer: nop
    load-218     [000] .....         1200: block_bio_queue: 254,4 DS 12863 + 44 [load]
    load-218     [000] .....         1203: block_bio_complete: 254,4 DS 12863 + 44 [0]
  record-180     [000] ...1.         1204: tracing_mark_write: bow-crash: asked 1
     kwo-205     [000] .....         1205: block_bio_queue: 254,0 FWFS 0 + 0 [kwo]
     kwo-205     [000] .....         1206: block_bio_queue: 254,0 RS 0 + 1 [kwo]
    load-218     [000] .....         1207: block_bio_queue: 254,0 WS 1000 + 48 [load]
     kwo-10      [000] d.h2.         1208: block_bio_complete: 254,0 FWFS 0 + 0 [0]
  <idle>-0       [000] d.h1.         1209: block_bio_complete: 254,0 WS 1024 + 24 [-28]
     kwo-205     [000] .....         1210: block_bio_queue: 254,0 WFS 0 + 1 [kwo]
";

    #[test]
    fn a_trace_is_read_in_order() {
        let trace = parse(TRACE).unwrap();
        assert_eq!(trace.events, 8);
        assert_eq!(trace.marks, [(2, "asked 1".to_owned())]);
        let above = &trace.bios[&(254, 4)];
        assert_eq!((above[0].start, above[0].end), (0, 1));
        assert_eq!(above[0].kind, Kind::Discard);
        let below = &trace.bios[&(254, 0)];
        assert_eq!(below[0].kind, Kind::Flush);
        assert_eq!((below[0].start, below[0].end), (3, 5));
        assert_eq!((below[1].start, below[1].end), (4, 6));
        assert!(below[1].failed && !below[0].failed);
        assert_eq!(below[2].kind, Kind::Fua);
        assert_eq!(below[2].end, NEVER);
    }
}
