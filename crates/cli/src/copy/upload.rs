//! A local tree as a stream: read by a thread of its own, so that reading and sending go side by side.

use std::io::{self, Read};
use std::os::fd::AsFd;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use rustix::fs::{Mode, OFlags};
use wharf_archive::pack::{Options, Packer};
use wharf_archive::pieces::Pieces;
use wharf_archive::root::{Descriptors, name};

use super::place::{Info, split};

/// Pieces read ahead.
const AHEAD: usize = 4;

type Piece = io::Result<Vec<u8>>;

/// The archive of a source, its topmost entry called `name`.
pub fn stream(source: &Info, renamed: Option<Vec<u8>>) -> io::Result<Upload> {
    let (send, pieces) = sync_channel(AHEAD);
    let (source, renamed) = (source.clone(), renamed);
    std::thread::Builder::new()
        .name("pack".into())
        .spawn(move || {
            if let Err(error) = pack(&source, renamed, &send) {
                // Whoever sent it is told by the daemon.
                let _ = send.send(Err(error));
            }
        })?;
    Ok(Upload {
        pieces,
        current: Vec::new(),
        position: 0,
        total: 0,
    })
}

fn pack(source: &Info, renamed: Option<Vec<u8>>, send: &SyncSender<Piece>) -> io::Result<()> {
    let gone = || io::Error::from(io::ErrorKind::BrokenPipe);
    let out = Pieces::new(|piece| send.send(Ok(piece)).map_err(|_| gone()));
    let mut packer = Packer::new(out, Descriptors::open()?, Options::default());
    let (directory, last) = split(&source.path);
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let top = renamed
        .or_else(|| source.rebase.clone())
        .unwrap_or_else(|| last.clone());
    if source.is_dir {
        let dir = rustix::fs::open(name(&source.path), flags, Mode::empty())?;
        packer.directory(dir, Some(&top))?;
    } else {
        let parent = rustix::fs::open(name(&directory), flags, Mode::empty())?;
        packer.entry(parent.as_fd(), &last, &top)?;
    }
    packer.finish()
}

/// See [`stream`].
#[derive(Debug)]
pub struct Upload {
    pieces: Receiver<Piece>,
    current: Vec<u8>,
    position: usize,
    /// Bytes read so far.
    pub total: u64,
}

impl Read for Upload {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.position == self.current.len() {
            match self.pieces.recv() {
                Ok(piece) => (self.current, self.position) = (piece?, 0),
                // The packer is done.
                Err(_) => return Ok(0),
            }
        }
        let n = buffer.len().min(self.current.len() - self.position);
        buffer[..n].copy_from_slice(&self.current[self.position..self.position + n]);
        self.position += n;
        self.total += n as u64;
        Ok(n)
    }
}
