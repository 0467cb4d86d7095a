//! From a path or a stream to a [`TraceSource`]: decompress, detect, choose the reader.

use std::fs::File;
use std::io::{BufReader, Cursor, Read};
use std::path::{Path, PathBuf};

use driver::units::FileOffset;

use super::biosnoop::Biosnoop;
use super::blkparse::Blkparse;
use super::blktrace::files::{open_regular, recorded, siblings};
use super::blktrace::merge::Merged;
use super::blktrace::{Blktrace, Layout};
use super::compression::{Compression, decompress};
use super::csv::Csv;
use super::entry::Decoder;
use super::fio::Fio;
use super::fiu::Fiu;
use super::ftrace::{Ftrace, take_comments};
use super::input::Input;
use super::lines::Lines;
use super::log_writes::LogWrites;
use super::reader::{Reader, preferred_event};
use super::select::OfDevice;
use super::vscsi::Vscsi;
use super::{
    CompactReader, Description, Devices, Format, Place, ReadOptions, Stream, TraceError,
    TraceSource, detect, error,
};

/// The files that are read side by side, each with its first part in memory.
const MOST_FILES: usize = 1024;

/// Opens the trace at `path`. If it is one CPU's file of a blktrace recording, the other CPUs'
/// files beside it, `NAME.blktrace.N`, are part of it, as far as they are regular files.
///
/// # Errors
/// If the host refuses, or if it is no trace.
pub fn open(path: &Path, options: &ReadOptions) -> Result<Box<dyn TraceSource>, TraceError> {
    Ok(chosen(open_all(path, options)?, path, options))
}

/// Of a trace only the device that the options choose.
fn chosen(
    source: Box<dyn TraceSource>,
    name: &Path,
    options: &ReadOptions,
) -> Box<dyn TraceSource> {
    match &options.devices {
        Devices::Only(choice) => OfDevice::of(source, name, choice),
        Devices::TheOnly | Devices::All | Devices::Each => source,
    }
}

fn open_all(path: &Path, options: &ReadOptions) -> Result<Box<dyn TraceSource>, TraceError> {
    let opened = Opened::file(path)?;
    let Format::Blktrace(_) = opened.format else {
        return opened.source(options);
    };
    let failed = |error| io_error(path, error);
    let siblings = siblings(path).map_err(failed)?;
    let (mut files, mut left_out) = (Vec::new(), siblings.doubles);
    let (others, total) = (siblings.files.iter(), siblings.files.len());
    if total > MOST_FILES {
        return Err(TraceError::Bad {
            place: Place::new(path, FileOffset(0)),
            found: format!("{total} files of one recording, one for each CPU"),
            expected: format!("at most {MOST_FILES}"),
        });
    }
    let mut named = Some(opened);
    for other in others {
        // The one that was named is open already, and may be a pipe.
        let is_named = other.file_name() == path.file_name();
        let other = match named.take_if(|_| is_named) {
            Some(named) => named,
            None => match open_regular(other).map_err(|error| io_error(other, error))? {
                Some(file) => Opened::stream(other, file, total)?,
                None => {
                    left_out += 1;
                    continue;
                }
            },
        };
        // A CPU that saw nothing leaves an empty file.
        if !other.window.is_empty() {
            files.push(other);
        }
    }
    files.extend(named);
    blktrace(files, left_out, options)
}

/// The files that [`open`] may read of the trace at `path`: it, and of a blktrace recording those
/// of the other CPUs.
pub fn files(path: &Path) -> Vec<PathBuf> {
    let mut files = siblings(path).map_or(Vec::new(), |siblings| siblings.files);
    files.push(path.to_owned());
    files
}

/// Opens a trace that comes from anywhere; `name` is what errors call it.
///
/// # Errors
/// If the stream does, or if it is no trace.
pub fn open_stream(
    name: &Path,
    stream: impl Read + Send + 'static,
    options: &ReadOptions,
) -> Result<Box<dyn TraceSource>, TraceError> {
    let source = Opened::stream(name, stream, 1)?.source(options)?;
    Ok(chosen(source, name, options))
}

/// A stream whose format is known.
struct Opened {
    name: std::path::PathBuf,
    format: Format,
    compression: Option<Compression>,
    /// What it begins with.
    window: Vec<u8>,
    /// All of it, the window included.
    stream: Stream,
}

impl Opened {
    fn file(path: &Path) -> Result<Opened, TraceError> {
        let not_opened = |error| TraceError::NotOpened {
            file: path.to_owned(),
            error,
            recorded: recorded(path),
        };
        let file = File::open(path).map_err(not_opened)?;
        // It can be opened, and not be read.
        if file.metadata().is_ok_and(|metadata| metadata.is_dir()) {
            return Err(not_opened(rustix::io::Errno::ISDIR.into()));
        }
        Opened::stream(path, file, 1)
    }

    /// The stream of one of `files` files that are read side by side.
    fn stream(
        name: &Path,
        stream: impl Read + Send + 'static,
        files: usize,
    ) -> Result<Opened, TraceError> {
        let (mut stream, compression) = decompress(name, stream, files)?;
        let mut window = vec![0; detect::PREFIX_LEN];
        let length = Input::new(name, &mut stream)
            .decompressed(compression.is_some())
            .read_up_to(&mut window)?;
        window.truncate(length);
        let format = match detect::detect(&window) {
            Some(format) => format,
            // A CPU's file may be empty. Alone, it is no trace.
            None if window.is_empty() && is_cpu_file(name) => Format::Blktrace(Layout::default()),
            None => return Err(unknown(name, &window)),
        };
        Ok(Opened {
            name: name.to_owned(),
            format,
            compression,
            stream: BufReader::new(Box::new(Cursor::new(window.clone()).chain(stream))),
            window,
        })
    }

    fn description(&self) -> Description {
        Description {
            compression: self.compression.map(Compression::name),
            ..Description::of(self.format)
        }
    }

    fn input(name: &Path, stream: Stream, compression: Option<Compression>) -> Input<Stream> {
        Input::new(name, stream).decompressed(compression.is_some())
    }

    fn source(self, options: &ReadOptions) -> Result<Box<dyn TraceSource>, TraceError> {
        let mut description = self.description();
        let window = || -> Stream { BufReader::new(Box::new(Cursor::new(self.window.clone()))) };
        let window = || Opened::input(&self.name, window(), self.compression);
        let input = |stream| Opened::input(&self.name, stream, self.compression);
        Ok(match self.format {
            Format::Compact => {
                let reader = CompactReader::new(&self.name, self.stream)?;
                Box::new(reader.compressed(self.compression))
            }
            Format::Blktrace(_) => return blktrace(vec![self], 0, options),
            Format::Blkparse => {
                let event = preferred_event(Lines::new(window(), Blkparse::default()));
                let lines = Lines::new(input(self.stream), Blkparse::default());
                boxed(lines, description, options, event)
            }
            Format::Ftrace(_) => {
                take_comments(&window(), &self.window, &mut description)?;
                let event = preferred_event(Lines::new(window(), Ftrace::default()));
                let lines = Lines::new(input(self.stream), Ftrace::default());
                boxed(lines, description, options, event)
            }
            Format::Fio(version) => {
                let lines = Lines::new(input(self.stream), Fio::new(version));
                boxed(lines, description, options, None)
            }
            Format::Biosnoop => {
                let lines = Lines::new(input(self.stream), Biosnoop::default());
                boxed(lines, description, options, None)
            }
            Format::Fiu => {
                let lines = Lines::new(input(self.stream), Fiu);
                boxed(lines, description, options, None)
            }
            Format::Csv(dialect) => {
                let lines = Lines::new(input(self.stream), Csv::new(dialect));
                boxed(lines, description, options, None)
            }
            Format::Vscsi(version) => {
                let records = Vscsi::new(input(self.stream), version);
                boxed(records, description, options, None)
            }
            Format::LogWrites => {
                let log = LogWrites::new(input(self.stream))?;
                boxed(log, description, options, None)
            }
        })
    }
}

fn boxed(
    decoder: impl Decoder + 'static,
    description: Description,
    options: &ReadOptions,
    event: Option<super::Event>,
) -> Box<dyn TraceSource> {
    Box::new(Reader::new(decoder, description, options, event))
}

/// One or several CPUs' files as one trace, beside which others were left out.
fn blktrace(
    files: Vec<Opened>,
    left_out: usize,
    options: &ReadOptions,
) -> Result<Box<dyn TraceSource>, TraceError> {
    let mut description = Description::of(Format::Blktrace(Layout::default()));
    if let Some(first) = files.first() {
        description = first.description();
    }
    description.files = files.len();
    description.files_left_out = left_out;
    let (mut decoders, mut preferred) = (Vec::new(), None);
    for file in files {
        let Format::Blktrace(layout) = file.format else {
            return Err(TraceError::Bad {
                place: Place::new(&file.name, FileOffset(0)),
                found: file.format.name().to_owned(),
                expected: "blktrace, as in the other CPUs' files".to_owned(),
            });
        };
        let window: Stream = BufReader::new(Box::new(Cursor::new(file.window)));
        let window = Opened::input(&file.name, window, file.compression);
        let event = preferred_event(Blktrace::new(window, layout));
        preferred = match (preferred, event) {
            (Some(one), Some(other)) => Some(std::cmp::min::<super::Event>(one, other)),
            (one, other) => one.or(other),
        };
        let input = Opened::input(&file.name, file.stream, file.compression);
        decoders.push(Blktrace::new(input, layout));
    }
    Ok(boxed(
        Merged::new(decoders),
        description,
        options,
        preferred,
    ))
}

fn is_cpu_file(name: &Path) -> bool {
    siblings(name).is_ok_and(|siblings| siblings.files.len() > 1)
}

fn io_error(path: &Path, error: std::io::Error) -> TraceError {
    TraceError::Io {
        place: Place::new(path, FileOffset(0)),
        error,
    }
}

fn unknown(name: &Path, window: &[u8]) -> TraceError {
    TraceError::UnknownFormat {
        file: name.to_owned(),
        found: match window {
            [] => "nothing".to_owned(),
            _ => error::excerpt(&window[..window.len().min(32)]),
        },
        understood: detect::understood(),
    }
}
