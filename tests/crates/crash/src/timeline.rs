// SPDX-License-Identifier: GPL-2.0

//! The contents that a device that was written to may have after a power cut.
//!
//! dm-log-writes has the data and the trace has the times ([`Level::join`] brings the two together).
//! From these follows, for each sector and each moment, what a device with a volatile cache may
//! hold when power fails then, and no more:
//!
//! - a write that has not begun is not there;
//! - one that has begun may be there, wholly, in part (in units of a sector), or not at all;
//! - it is there for certain once it has ended with FUA, or a flush has ended that began after its
//!   end;
//! - of two writes to a sector that were in flight together either may come last; one that began
//!   after the other had ended comes after it. So a write is gone for certain when one that came
//!   after it is there for certain.
//!
//! After a discard a sector may hold anything.

use crate::contents::{Contents, Id, GARBAGE, SECTOR, ZEROES};
use crate::log_writes::{Entry, Kind};
use crate::trace::{Bio, Time, NEVER};
use std::collections::HashMap;
use std::ops::Range;

/// One thing that happened to one sector.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Version {
    /// Contents of the sector by it; after a discard [`GARBAGE`], which stands for anything.
    pub(crate) id: Id,
    /// The bio that did it: those of one bio have the same number.
    pub(crate) bio: u32,
    pub(crate) start: Time,
    pub(crate) end: Time,
    /// It is there for certain when power fails after this event.
    pub(crate) durable: Time,
    /// It is not there any more when power fails after this event.
    pub(crate) gone: Time,
}

impl Version {
    /// Returns whether the sector may hold this if power fails after the first `cut` events.
    pub(crate) fn is_possible(&self, cut: Time) -> bool {
        self.start < cut && self.gone >= cut
    }

    pub(crate) fn is_discard(&self) -> bool {
        self.id == GARBAGE
    }
}

/// Side of bow on which a device is. Where nothing tells which of several flushes has ended, both sides are given
/// the benefit of the doubt: as many of the oldest have ended as flushes have, or those that the log tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    /// Above: no more is promised than both say.
    Above,
    /// Below: what either says is there.
    Below,
}

/// All that happened to a device.
pub(crate) struct Level {
    pub(crate) bios: Vec<Bio>,
    versions: Vec<Version>,
    /// For each sector its versions, in the order in which they began; the first is what it held
    /// before the recording.
    index: Vec<Range<u32>>,
    /// The sectors that anything happened to.
    pub(crate) touched: Vec<u32>,
}

impl Level {
    /// Brings together what dm-log-writes logged and the bios that it sent down.
    pub(crate) fn join(
        entries: &[Entry<'_>],
        mut bios: Vec<Bio>,
        side: Side,
        sectors: u64,
        contents: &mut Contents,
    ) -> Result<Self, String> {
        // The trace pairs the ends of flushes that look alike in the order of their beginnings.
        let in_order = Flushes::new(&bios);
        let logged = logged_as(entries, &mut bios)?;
        let as_logged = Flushes::new(&bios);
        let flushed = |end| {
            let (ordered, logged) = (in_order.first_after(end), as_logged.first_after(end));
            match side {
                Side::Above => ordered.max(logged),
                Side::Below => ordered.min(logged),
            }
        };
        let mut lists: HashMap<u32, Vec<Version>> = HashMap::new();
        for (number, (bio, entry)) in bios.iter().zip(&logged).enumerate() {
            if bio.kind == Kind::Flush || bio.sectors == 0 {
                continue;
            }
            if bio.sector + bio.sectors > sectors {
                return Err(format!("a bio beyond the end of the device: {bio:?}"));
            }
            let durable = match bio.kind {
                _ if bio.failed => NEVER,
                Kind::Fua => bio.end,
                Kind::Write => flushed(bio.end),
                Kind::Discard | Kind::Flush => NEVER,
            };
            for offset in 0..bio.sectors {
                let id = match bio.kind {
                    Kind::Discard => GARBAGE,
                    _ => {
                        let entry =
                            entry.ok_or_else(|| format!("a bio was not logged: {bio:?}"))?;
                        let at = offset as usize * SECTOR;
                        let data = entries[entry].data.get(at..at + SECTOR);
                        contents.intern(
                            data.and_then(|data| data.try_into().ok())
                                .ok_or("an entry without data")?,
                        )
                    }
                };
                lists
                    .entry((bio.sector + offset) as u32)
                    .or_default()
                    .push(Version {
                        id,
                        bio: number as u32,
                        start: bio.start,
                        end: bio.end,
                        durable,
                        gone: NEVER,
                    });
            }
        }
        Ok(Self::index(bios, lists, sectors))
    }

    fn index(bios: Vec<Bio>, mut lists: HashMap<u32, Vec<Version>>, sectors: u64) -> Self {
        let mut touched: Vec<u32> = lists.keys().copied().collect();
        touched.sort_unstable();
        let mut versions = Vec::new();
        let mut index = vec![0..0; sectors as usize];
        for &sector in &touched {
            let list = lists.remove(&sector).unwrap_or_default();
            let first = versions.len();
            versions.push(Version {
                id: ZEROES,
                bio: u32::MAX,
                start: 0,
                end: 0,
                durable: 0,
                gone: NEVER,
            });
            versions.extend(list);
            for at in first..versions.len() {
                let end = versions[at].end;
                versions[at].gone = versions[at + 1..]
                    .iter()
                    .filter(|later| later.start >= end)
                    .map(|later| later.durable)
                    .min()
                    .unwrap_or(NEVER);
            }
            index[sector as usize] = first as u32..versions.len() as u32;
        }
        Self {
            bios,
            versions,
            index,
            touched,
        }
    }

    /// Returns all versions of a sector; none if nothing happened to it.
    pub(crate) fn versions(&self, sector: u32) -> &[Version] {
        let range = self.index[sector as usize].clone();
        &self.versions[range.start as usize..range.end as usize]
    }

    /// Returns what the sector may hold if power fails after the first `cut` events.
    pub(crate) fn possible(
        &self,
        sector: u32,
        cut: Time,
    ) -> impl Iterator<Item = &Version> + Clone + '_ {
        self.versions(sector)
            .iter()
            .filter(move |version| version.is_possible(cut) || (version.start == 0 && cut == 0))
    }

    /// Returns whether a sector may hold `id` if power fails after the first `cut` events.
    pub(crate) fn allows(&self, sector: u32, id: Id, cut: Time) -> bool {
        let versions = self.versions(sector);
        if versions.is_empty() {
            return id == ZEROES;
        }
        versions
            .iter()
            .any(|version| version.is_possible(cut) && (version.id == id || version.is_discard()))
    }
}

/// Times at which flushes began and ended.
struct Flushes {
    /// Their beginnings in order, and for each the earliest end of it and all that began later.
    list: Vec<(Time, Time)>,
}

impl Flushes {
    fn new(bios: &[Bio]) -> Self {
        let mut list: Vec<_> = bios
            .iter()
            .filter(|bio| bio.kind == Kind::Flush && !bio.failed)
            .map(|bio| (bio.start, bio.end))
            .collect();
        let mut earliest = NEVER;
        for (_, end) in list.iter_mut().rev() {
            earliest = earliest.min(*end);
            *end = earliest;
        }
        Self { list }
    }

    /// Returns the end of a flush that began after `time`.
    fn first_after(&self, time: Time) -> Time {
        if time == NEVER {
            return NEVER;
        }
        let at = self.list.partition_point(|(start, _)| *start < time);
        self.list.get(at).map_or(NEVER, |(_, end)| *end)
    }
}

type Key = (Kind, u64, u64);

fn key(bio: &Bio) -> Key {
    (bio.kind, bio.sector, bio.sectors)
}

/// Returns for each bio the entry that it was logged as. Sets the ends of flushes right.
///
/// An entry is taken to be the first bio that fits it in the order of [`LogOrder`]. dm-log-writes
/// and the trace may see bios that end at the same moment the other way round.
fn logged_as(entries: &[Entry<'_>], bios: &mut [Bio]) -> Result<Vec<Option<usize>>, String> {
    let mut queues: HashMap<Key, Vec<usize>> = HashMap::new();
    for number in LogOrder::new(entries, bios).run().into_iter().rev() {
        queues.entry(key(&bios[number])).or_default().push(number);
    }
    let mut logged = vec![None; bios.len()];
    for (at, entry) in entries.iter().enumerate() {
        let number = queues
            .get_mut(&(entry.kind, entry.sector, entry.sectors))
            .and_then(Vec::pop)
            .ok_or_else(|| {
                format!(
                    "entry {at} ({:?} {}+{}) is not in the trace",
                    entry.kind, entry.sector, entry.sectors
                )
            })?;
        logged[number] = Some(at);
    }
    Ok(logged)
}

/// Does once more with the bios what dm-log-writes does with them: a flush takes the writes that
/// have ended when it begins, and logs them before itself when it ends.
///
/// The trace does not say which of several flushes has ended. What was logged then does, as far as each has taken
/// other writes; where it has not, the one that began first is taken ([`Side`] has what follows from that).
struct LogOrder<'a> {
    entries: &'a [Entry<'a>],
    bios: &'a mut [Bio],
    order: Vec<usize>,
    unflushed: Vec<usize>,
    /// Flushes that have not ended, with what they have taken.
    flushes: Vec<(usize, Vec<usize>)>,
}

impl<'a> LogOrder<'a> {
    fn new(entries: &'a [Entry<'a>], bios: &'a mut [Bio]) -> Self {
        Self {
            entries,
            bios,
            order: Vec::new(),
            unflushed: Vec::new(),
            flushes: Vec::new(),
        }
    }

    /// Returns the bios in the order in which they are logged.
    fn run(mut self) -> Vec<usize> {
        let mut events: Vec<(Time, usize, bool)> = Vec::new();
        for (number, bio) in self.bios.iter().enumerate() {
            events.push((bio.start, number, false));
            if bio.end != NEVER {
                events.push((bio.end, number, true));
            }
        }
        events.sort_unstable();
        for (time, number, is_end) in events {
            match (self.bios[number].kind, is_end) {
                (Kind::Flush, false) => {
                    let taken = std::mem::take(&mut self.unflushed);
                    self.bios[number].end = NEVER;
                    self.flushes.push((number, taken));
                }
                (Kind::Flush, true) => self.flush_ended(time, number),
                (Kind::Fua, true) => self.order.push(number),
                (Kind::Write | Kind::Discard, true) => self.unflushed.push(number),
                (_, false) => {}
            }
        }
        self.order.append(&mut self.unflushed);
        self.order
    }

    /// Notes that a flush ended: `alike`, or another that looks the same.
    fn flush_ended(&mut self, time: Time, alike: usize) {
        let flags = self.bios[alike].flags;
        let at = self.order.len();
        let is_alike = |number: usize| self.bios[number].flags == flags;
        let is_logged = |taken: &[usize]| {
            let end = at + taken.len();
            let keys = self.entries.get(at..end).unwrap_or_default().iter();
            keys.map(|entry| (entry.kind, entry.sector, entry.sectors))
                .eq(taken.iter().map(|number| key(&self.bios[*number])))
                && self
                    .entries
                    .get(end)
                    .is_some_and(|entry| entry.kind == Kind::Flush)
        };
        let found = self
            .flushes
            .iter()
            .position(|(number, taken)| is_alike(*number) && is_logged(taken))
            .or_else(|| {
                self.flushes
                    .iter()
                    .position(|(number, _)| is_alike(*number))
            });
        if let Some(found) = found {
            let (number, taken) = self.flushes.remove(found);
            self.bios[number].end = time;
            self.order.extend(taken);
            self.order.push(number);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bio(kind: Kind, sector: u64, start: Time, end: Time) -> Bio {
        Bio {
            kind,
            sector,
            sectors: u64::from(kind != Kind::Flush),
            start,
            end,
            failed: false,
            flags: Default::default(),
        }
    }

    /// Returns a level in which each write of a bio writes its number.
    fn level(bios: &[Bio]) -> (Level, Vec<Id>) {
        let mut contents = Contents::new();
        let data: Vec<_> = (0..bios.len()).map(|n| [n as u8 + 1; SECTOR]).collect();
        let order = LogOrder::new(&[], &mut bios.to_vec()).run();
        let entries: Vec<_> = order
            .into_iter()
            .map(|n| Entry {
                kind: bios[n].kind,
                sector: bios[n].sector,
                sectors: bios[n].sectors,
                data: &data[n],
            })
            .collect();
        let level = Level::join(&entries, bios.to_vec(), Side::Above, 8, &mut contents).unwrap();
        let ids = data.iter().map(|data| contents.intern(data)).collect();
        (level, ids)
    }

    fn ids(level: &Level, sector: u32, cut: Time) -> Vec<Id> {
        level.possible(sector, cut).map(|v| v.id).collect()
    }

    #[test]
    fn a_write_is_certain_after_a_flush_that_began_after_its_end() {
        // The first flush begins too early.
        let (level, id) = level(&[
            bio(Kind::Write, 1, 1, 3),
            bio(Kind::Flush, 0, 2, 4),
            bio(Kind::Flush, 0, 5, 6),
        ]);
        assert_eq!(ids(&level, 1, 1), [ZEROES]);
        for cut in 2..=6 {
            assert_eq!(ids(&level, 1, cut), [ZEROES, id[0]], "{cut}");
        }
        assert_eq!(ids(&level, 1, 7), [id[0]]);
        assert!(level.allows(1, id[0], 7) && !level.allows(1, ZEROES, 7));
        assert!(level.allows(2, ZEROES, 7) && !level.allows(2, id[0], 7));
    }

    #[test]
    fn the_log_tells_which_flush_has_ended() {
        // In truth the second flush ended first, as what was logged says.
        let bios = [
            bio(Kind::Write, 1, 1, 2),
            bio(Kind::Flush, 0, 3, 6),
            bio(Kind::Write, 2, 4, 5),
            bio(Kind::Flush, 0, 5, 7),
        ];
        let data = [9; SECTOR];
        let entry = |kind, sector| Entry {
            kind,
            sector,
            sectors: u64::from(kind == Kind::Write),
            data: &data,
        };
        let entries = [
            entry(Kind::Write, 2),
            entry(Kind::Flush, 0),
            entry(Kind::Write, 1),
            entry(Kind::Flush, 0),
        ];
        let join = |side| Level::join(&entries, bios.to_vec(), side, 8, &mut Contents::new());
        let (above, below) = (join(Side::Above).unwrap(), join(Side::Below).unwrap());
        assert_eq!((below.bios[1].end, below.bios[3].end), (7, 6));
        assert_eq!(ids(&below, 2, 7).len(), 1);
        // As far as the trace tells, the write may still be lost.
        assert_eq!((ids(&above, 2, 7).len(), ids(&above, 2, 8).len()), (2, 1));
    }

    #[test]
    fn fua_is_certain_at_its_end_and_alone() {
        let (level, id) = level(&[
            bio(Kind::Write, 1, 1, 2),
            bio(Kind::Fua, 2, 3, 4),
            bio(Kind::Write, 2, 5, 6),
        ]);
        assert_eq!(ids(&level, 2, 4), [ZEROES, id[1]]);
        assert_eq!(ids(&level, 2, 5), [id[1]]);
        assert_eq!(ids(&level, 1, 5), [ZEROES, id[0]]);
        assert_eq!(ids(&level, 2, 7), [id[1], id[2]]);
    }

    #[test]
    fn writes_in_flight_together_have_no_order() {
        let (level, id) = level(&[
            bio(Kind::Write, 1, 1, 4),
            bio(Kind::Write, 1, 2, 3),
            bio(Kind::Write, 1, 5, 6),
            bio(Kind::Flush, 0, 7, 8),
        ]);
        assert_eq!(ids(&level, 1, 5), [ZEROES, id[0], id[1]]);
        assert_eq!(ids(&level, 1, 9), [id[2]]);
    }

    #[test]
    fn a_discarded_sector_may_hold_anything_until_it_is_written() {
        let (level, id) = level(&[
            bio(Kind::Fua, 1, 1, 2),
            bio(Kind::Discard, 1, 3, 4),
            bio(Kind::Fua, 1, 5, 6),
        ]);
        assert!(!level.allows(1, 77, 3));
        assert!(level.allows(1, 77, 4) && level.allows(1, id[0], 4));
        assert!(!level.allows(1, 77, 7) && level.allows(1, id[2], 7));
    }
}
