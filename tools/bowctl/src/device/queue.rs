// SPDX-License-Identifier: GPL-2.0

//! Several reads and copies at a time, each carried out by one of a few threads.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{channel, sync_channel, Receiver, SendError, Sender};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread::{Builder, JoinHandle};

use bow_decisions::log::SECTOR_SIZE;

use super::buffer::{Buffer, Stash};
use super::copy::{CopyBack, TransferError};

/// Number of threads, and so of requests at a time. Disks with a queue are near their full speed at
/// this depth if the requests are large.
const THREADS: usize = 8;

/// Number of reads that are asked for before the first of them has been taken: the threads go on
/// while whoever takes them is busy.
const READS_AHEAD: usize = THREADS;

/// A device that several threads may use at once. Addresses are in sectors.
pub trait SharedDevice: Send + Sync + 'static {
    /// Fills `data` from `sector` on.
    ///
    /// # Errors
    ///
    /// The device's.
    fn read_at(&self, sector: u64, data: &mut [u8]) -> io::Result<()>;

    /// Writes `data` from `sector` on.
    ///
    /// # Errors
    ///
    /// The device's.
    fn write_at(&self, sector: u64, data: &[u8]) -> io::Result<()>;
}

/// A device with threads that read and write it. They are started when they are first needed.
#[derive(Debug)]
pub struct Queue<D> {
    device: Arc<D>,
    threads: OnceLock<Threads>,
    stash: Stash,
}

impl<D: SharedDevice> Queue<D> {
    /// Makes a queue for `device`.
    pub fn new(device: D) -> Self {
        Self {
            device: Arc::new(device),
            threads: OnceLock::new(),
            stash: Stash::default(),
        }
    }

    /// Returns the device.
    pub fn device(&self) -> &D {
        &self.device
    }

    /// Reads runs of sectors, several at a time, and some before they are asked for. They come in the
    /// order of `reads`.
    pub fn read_all(
        &self,
        reads: Vec<Range<u64>>,
    ) -> impl Iterator<Item = io::Result<Buffer>> + '_ {
        let mut reads = reads.into_iter();
        let mut begun = VecDeque::new();

        std::iter::from_fn(move || {
            while begun.len() < READS_AHEAD {
                let Some(read) = reads.next() else { break };
                begun.push_back(self.read(read));
            }
            begun
                .pop_front()
                .map(|read| result(&read).and_then(|result| result))
        })
    }

    fn read(&self, sectors: Range<u64>) -> Receiver<io::Result<Buffer>> {
        let (device, stash) = (Arc::clone(&self.device), self.stash.clone());

        self.begin(move || {
            let mut buffer = stash.take((sectors.end - sectors.start) as usize * SECTOR_SIZE);

            device.read_at(sectors.start, &mut buffer)?;
            Ok(buffer)
        })
    }

    /// Carries out copies that do not depend on each other, several at a time, and tells `done` of the
    /// bytes of each that has ended. Returns when none is under way.
    ///
    /// # Errors
    ///
    /// The first one. Copies that have not begun by then are left out.
    pub fn copy_all(
        &self,
        copies: Vec<CopyBack>,
        done: &mut dyn FnMut(u64),
    ) -> Result<(), TransferError> {
        let failed = Arc::new(AtomicBool::new(false));
        let begun: Vec<_> = copies
            .into_iter()
            .map(|copy| (copy, self.copy(copy, Arc::clone(&failed))))
            .collect();
        let mut all = Ok(());

        // Each is waited for, whatever has become of those before.
        for (copy, copied) in begun {
            let copied = result(&copied).unwrap_or_else(|error| {
                Err(TransferError::Read {
                    sector: copy.from,
                    len: copy.bytes(),
                    error,
                })
            });

            if copied.is_ok() {
                done(copy.bytes() as u64);
            }
            all = all.and(copied);
        }
        all
    }

    fn copy(&self, copy: CopyBack, failed: Arc<AtomicBool>) -> Receiver<Result<(), TransferError>> {
        let (device, stash) = (Arc::clone(&self.device), self.stash.clone());

        self.begin(move || {
            // Those that began before this one come before it in the list, and so does the error.
            if failed.load(Ordering::Relaxed) {
                return Ok(());
            }
            let mut data = stash.take(copy.bytes());
            let copied = copy
                .read(&mut data, |sector, data| device.read_at(sector, data))
                .and_then(|()| copy.write(&data, |sector, data| device.write_at(sector, data)));

            if copied.is_err() {
                failed.store(true, Ordering::Relaxed);
            }
            copied
        })
    }

    /// Has a thread do `work`. Its result can be received once.
    fn begin<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Receiver<T> {
        let (sender, receiver) = sync_channel(1);

        self.threads
            .get_or_init(Threads::start)
            .run(Box::new(move || {
                // Nobody may be waiting any more.
                let _ = sender.send(work());
            }));
        receiver
    }
}

/// Waits for the result of work.
fn result<T>(work: &Receiver<T>) -> io::Result<T> {
    work.recv()
        .map_err(|_| io::Error::other("a thread has ended before its time"))
}

type Job = Box<dyn FnOnce() + Send>;

/// Threads that take jobs from a list, in its order.
struct Threads {
    /// The list; `None` when the threads are to end.
    jobs: Option<Sender<Job>>,
    threads: Vec<JoinHandle<()>>,
}

impl Threads {
    fn start() -> Self {
        let (jobs, list) = channel();
        let list = Arc::new(Mutex::new(list));
        let threads = (0..THREADS).map_while(|_| {
            let list = Arc::clone(&list);

            Builder::new().spawn(move || serve(&list)).ok()
        });

        Self {
            threads: threads.collect(),
            jobs: Some(jobs),
        }
    }

    fn run(&self, job: Job) {
        let sent = match &self.jobs {
            Some(jobs) => jobs.send(job),
            None => Err(SendError(job)),
        };

        // There are no threads: it is done here.
        if let Err(SendError(job)) = sent {
            job();
        }
    }
}

impl fmt::Debug for Threads {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} threads", self.threads.len())
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        self.jobs = None;
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

/// Does jobs until there will be none any more.
fn serve(list: &Mutex<Receiver<Job>>) {
    loop {
        let job = list.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(job) = job else { return };

        job();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;
    use std::time::Duration;

    use super::*;

    /// A device whose sectors hold their number, and which fails in one place.
    #[derive(Default)]
    struct Numbers {
        bad: Option<u64>,
        now: AtomicUsize,
        most: AtomicUsize,
        written: Mutex<Vec<(u64, u8)>>,
    }

    impl Numbers {
        fn serve(&self, sector: u64) -> io::Result<()> {
            let now = self.now.fetch_add(1, Ordering::SeqCst) + 1;

            self.most.fetch_max(now, Ordering::SeqCst);
            std::thread::sleep(Duration::from_millis(5 + sector % 5));
            self.now.fetch_sub(1, Ordering::SeqCst);
            match self.bad {
                Some(bad) if bad == sector => Err(io::Error::other("bad")),
                _ => Ok(()),
            }
        }
    }

    impl SharedDevice for Numbers {
        fn read_at(&self, sector: u64, data: &mut [u8]) -> io::Result<()> {
            self.serve(sector)?;
            data.fill(sector as u8);
            Ok(())
        }

        fn write_at(&self, sector: u64, data: &[u8]) -> io::Result<()> {
            self.serve(sector)?;
            self.written.lock().unwrap().push((sector, data[0]));
            Ok(())
        }
    }

    fn queue(bad: Option<u64>) -> Queue<Numbers> {
        Queue::new(Numbers {
            bad,
            ..Numbers::default()
        })
    }

    fn copies(count: u64) -> Vec<CopyBack> {
        (0..count)
            .map(|from| CopyBack {
                from,
                to: 100 + from,
                sectors: 1,
            })
            .collect()
    }

    #[test]
    fn reads_come_in_order_and_several_at_a_time() {
        let queue = queue(Some(30));
        let reads = (0..60).map(|sector| sector..sector + 1).collect();

        for (sector, read) in queue.read_all(reads).enumerate() {
            match read {
                Ok(data) => assert_eq!(data[..], [sector as u8; SECTOR_SIZE]),
                Err(_) => assert_eq!(sector, 30),
            }
        }
        assert!(queue.device.most.load(Ordering::SeqCst) > 1);
    }

    #[test]
    fn reads_that_nobody_takes() {
        let queue = queue(None);

        assert!(queue.read_all(vec![0..1, 1..2, 2..3]).next().is_some());
        queue.copy_all(copies(1), &mut |_| ()).unwrap();
    }

    #[test]
    fn copies_are_made_several_at_a_time() {
        let queue = queue(None);
        let mut bytes = 0;

        queue
            .copy_all(copies(40), &mut |more| bytes += more)
            .unwrap();
        assert_eq!(bytes, 40 * SECTOR_SIZE as u64);
        assert!(queue.device.most.load(Ordering::SeqCst) > 1);

        let mut written = queue.device.written.lock().unwrap().clone();
        written.sort_unstable();
        assert_eq!(
            written,
            (0..40)
                .map(|from| (100 + from, from as u8))
                .collect::<Vec<_>>()
        );
    }

    #[test]
    fn an_error_ends_all_copies() {
        for bad in [20, 120] {
            let queue = queue(Some(bad));
            let error = queue.copy_all(copies(80), &mut |_| ()).unwrap_err();

            match error {
                TransferError::Read { sector, len, .. } => assert_eq!((sector, len), (20, 512)),
                TransferError::Write { sector, len, .. } => assert_eq!((sector, len), (120, 512)),
            }
            assert_eq!(queue.device.now.load(Ordering::SeqCst), 0);
            assert!(queue.device.written.lock().unwrap().len() < 60);
        }
    }
}
