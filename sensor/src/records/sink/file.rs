//! A file that is rotated by size and age, here or by logrotate.
//!
//! Invariants: every line in it is whole, also after the disk was full; the file's name always leads to the newest lines
//! (a rotation is a rename); a full disk costs lines, which are counted, and nothing else.

use super::{Framing, Outcome, Sink};
use std::{
    fs::{File, OpenOptions, Permissions},
    io::{self, Write as _},
    os::unix::fs::{MetadataExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

/// Lines wait here for the next flush: one write for some hundred lines.
const BUFFER: usize = 256 << 10;
/// How often it is looked whether somebody moved the file away.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Read by the owner and a group of readers: records tell who talks to whom.
const MODE: u32 = 0o640;

/// When a file ends and how many of its predecessors stay.
#[derive(Debug, Clone, Default)]
pub struct Rotation {
    pub size: Option<u64>,
    pub every: Option<Duration>,
    pub keep: u32,
}

/// See the module.
#[derive(Debug)]
pub struct FileSink {
    path: PathBuf,
    rotation: Rotation,
    framing: Box<dyn Framing>,
    open: Option<Open>,
    buffer: Vec<u8>,
    waiting: u64,
    outcome: Outcome,
    looked: Instant,
}

#[derive(Debug)]
struct Open {
    file: File,
    /// Device and inode: whether the path still leads here.
    identity: (u64, u64),
    length: u64,
    since: Instant,
    /// A torn line could not be taken back.
    torn: bool,
    /// Of the head: a file of nothing else is not rotated.
    head: u64,
}

impl FileSink {
    /// Opens the file, or makes it.
    ///
    /// Errors: the file's: no directory, no permission, no space for the header.
    pub fn open(path: &Path, rotation: Rotation, framing: Box<dyn Framing>) -> io::Result<Self> {
        let mut sink = Self {
            path: path.to_owned(),
            rotation,
            framing,
            open: None,
            buffer: Vec::with_capacity(BUFFER),
            waiting: 0,
            outcome: Outcome::default(),
            looked: Instant::now(),
        };
        if !sink.framing.may_append() && std::fs::metadata(path).is_ok_and(|file| file.len() > 0) {
            sink.shift()?;
        }
        sink.open_file()?;
        Ok(sink)
    }

    fn open_file(&mut self) -> io::Result<&mut Open> {
        let mut file = OpenOptions::new().append(true).create(true).open(&self.path)?;
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no regular file"));
        }
        let mut length = metadata.len();
        let mut head = 0;
        if length == 0 {
            file.set_permissions(Permissions::from_mode(MODE))?;
            let lines = self.framing.head();
            file.write_all(&lines).inspect_err(|_| {
                let _ = file.set_len(0);
            })?;
            head = lines.len() as u64;
            length = head;
        }
        let identity = (metadata.dev(), metadata.ino());
        Ok(self.open.insert(Open { file, identity, length, since: Instant::now(), torn: false, head }))
    }

    /// Writes what waits.
    fn write_out(&mut self) {
        if self.buffer.is_empty() {
            return;
        }
        let lines = std::mem::take(&mut self.waiting);
        let written = match self.open.is_some() {
            true => Ok(()),
            false => self.open_file().map(|_| ()),
        };
        let written = written.and_then(|()| match &mut self.open {
            Some(open) => open.append(&self.buffer),
            None => Err(io::ErrorKind::NotFound.into()),
        });
        match written {
            Ok(()) => self.outcome.written += lines,
            Err(error) => {
                // What was written whole stays; the rest is lost rather than kept, for a full disk may stay full.
                self.outcome.lost += lines;
                self.outcome.error = Some(error);
            }
        }
        self.buffer.clear();
        // A line longer than all others is no reason to keep its room.
        self.buffer.shrink_to(BUFFER);
    }

    fn is_full(&self, more: usize) -> bool {
        let Some(open) = &self.open else { return false };
        let coming = open.length + self.buffer.len() as u64;
        self.rotation.size.is_some_and(|size| coming > open.head && coming + more as u64 > size)
    }

    fn is_old(&self) -> bool {
        let Some(open) = &self.open else { return false };
        let has_lines = open.length > open.head || !self.buffer.is_empty();
        has_lines && self.rotation.every.is_some_and(|every| open.since.elapsed() >= every)
    }

    fn rotate(&mut self) {
        self.write_out();
        self.end();
        if let Err(error) = self.shift() {
            tracing::warn!(path = %self.path.display(), %error, "the file of records cannot be rotated; it grows on");
        }
        if let Err(error) = self.open_file() {
            self.outcome.error = Some(error);
        }
    }

    /// Ends the open file: its last line, and everything on the disk. Once a file, not once a line.
    fn end(&mut self) {
        if let Some(mut open) = self.open.take() {
            let _ = open.append(&self.framing.tail());
            let _ = open.file.sync_all();
        }
    }

    fn numbered(&self, number: u32) -> PathBuf {
        let mut name = self.path.clone().into_os_string();
        name.push(format!(".{number}"));
        name.into()
    }

    /// `x.1` becomes `x.2` and so on, `x` becomes `x.1`; the oldest is replaced.
    fn shift(&self) -> io::Result<()> {
        let keep = self.rotation.keep;
        if keep == 0 {
            return std::fs::remove_file(&self.path);
        }
        let held = (1..=keep).take_while(|number| self.numbered(*number).exists()).count();
        for number in (1..=u32::try_from(held).unwrap_or(keep)).rev().filter(|number| *number < keep) {
            std::fs::rename(self.numbered(number), self.numbered(number + 1))?;
        }
        std::fs::rename(&self.path, self.numbered(1))
    }

    /// Somebody renamed or removed the file, as logrotate does.
    fn is_moved(&self) -> bool {
        let Some(open) = &self.open else { return true };
        std::fs::metadata(&self.path).map_or(true, |found| (found.dev(), found.ino()) != open.identity)
    }
}

impl Open {
    /// Appends whole lines, or as many as there is room for.
    fn append(&mut self, lines: &[u8]) -> io::Result<()> {
        if self.torn {
            self.file.set_len(self.length)?;
            self.torn = false;
        }
        let mut rest = lines;
        while !rest.is_empty() {
            match self.file.write(rest) {
                Ok(0) => return self.give_up(lines, rest.len(), io::ErrorKind::WriteZero.into()),
                Ok(count) => rest = rest.get(count..).unwrap_or_default(),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return self.give_up(lines, rest.len(), error),
            }
        }
        self.length += lines.len() as u64;
        Ok(())
    }

    /// Takes back all of an append that failed in part: those lines count as lost.
    fn give_up(&mut self, lines: &[u8], rest: usize, error: io::Error) -> io::Result<()> {
        if rest < lines.len() {
            self.torn = self.file.set_len(self.length).is_err();
        }
        Err(error)
    }
}

impl Sink for FileSink {
    fn line(&mut self, line: &[u8]) {
        if self.is_full(line.len()) {
            self.rotate();
        }
        if self.buffer.len() + line.len() > BUFFER {
            self.write_out();
        }
        self.buffer.extend_from_slice(line);
        self.waiting += 1;
    }

    fn flush(&mut self) -> Outcome {
        self.write_out();
        std::mem::take(&mut self.outcome)
    }

    fn tick(&mut self) {
        if self.looked.elapsed() >= LOOK_EVERY {
            self.looked = Instant::now();
            if self.is_moved() {
                self.reopen();
            }
        }
        if self.is_old() {
            self.rotate();
        }
    }

    fn reopen(&mut self) {
        self.write_out();
        self.end();
        if let Err(error) = self.open_file() {
            self.outcome.error = Some(error);
        }
    }

    fn close(&mut self) -> Outcome {
        self.write_out();
        self.end();
        std::mem::take(&mut self.outcome)
    }
}
