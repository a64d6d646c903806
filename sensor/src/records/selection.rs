//! Which records go where.

use super::{
    ConnLog, Context, Destination, FileSink, Framing, Outcome, Record, RecordFormat, RecordType,
    RecordsConfig, Rendering, Rotation, Sink, SocketKind, SocketSink, StdoutSink, Unframed,
    settings::KEEP_BY_DEFAULT,
};
use anyhow::Context as _;
use std::collections::BTreeSet;

/// One place records go to.
#[derive(Debug)]
pub struct Output {
    rendering: Rendering,
    types: BTreeSet<RecordType>,
    sink: Box<dyn Sink>,
    /// The last try to write failed.
    pub(super) failing: bool,
    pub(super) name: String,
}

impl Output {
    #[must_use]
    pub fn new(format: RecordFormat, types: BTreeSet<RecordType>, sink: Box<dyn Sink>, name: String) -> Self {
        Self { rendering: Rendering::new(format), types, sink, failing: false, name }
    }

    /// Errors: the file cannot be opened, with its path.
    pub fn open(config: &RecordsConfig) -> anyhow::Result<Self> {
        let framing: Box<dyn Framing> = match config.format {
            RecordFormat::Zeek => Box::new(ConnLog { now: crate::capture::now }),
            RecordFormat::Eve | RecordFormat::ZeekJson => Box::new(Unframed),
        };
        let path = config.path.clone().unwrap_or_default();
        let sink: Box<dyn Sink> = match config.to {
            Destination::Stdout => Box::new(StdoutSink::new(framing)),
            Destination::UnixStream => Box::new(SocketSink::new(&path, SocketKind::Stream)),
            Destination::UnixDgram => Box::new(SocketSink::new(&path, SocketKind::Datagram)),
            Destination::File => {
                let rotation = Rotation {
                    size: config.rotate_size.map(|size| size.0),
                    every: config.rotate_every.as_ref().map(|every| every.0),
                    keep: config.keep.unwrap_or(KEEP_BY_DEFAULT),
                };
                let opened = FileSink::open(&path, rotation, framing).with_context(|| {
                    format!(
                        "records: {} cannot be written: check its directory and who may write there",
                        path.display()
                    )
                })?;
                Box::new(opened)
            }
        };
        let name = match config.to {
            Destination::Stdout => "stdout".to_owned(),
            _ => path.display().to_string(),
        };
        Ok(Self::new(config.format, config.selected(), sink, name))
    }

    /// Whether records of a type are wanted.
    #[must_use]
    pub fn wants(&self, record: RecordType) -> bool {
        self.types.contains(&record)
    }

    /// Formats a record and gives it to the sink, if it is wanted here.
    pub fn take(&mut self, record: &Record, context: &Context<'_>) {
        if !self.wants(record.record_type()) {
            return;
        }
        if let Some(line) = self.rendering.line(record, context) {
            self.sink.line(line);
        }
    }

    pub fn flush(&mut self) -> Outcome {
        self.sink.flush()
    }

    pub fn tick(&mut self) {
        self.sink.tick();
    }

    pub fn reopen(&mut self) {
        self.sink.reopen();
    }

    pub fn close(&mut self) -> Outcome {
        self.sink.close()
    }
}

/// All of them.
#[derive(Debug, Default)]
pub struct Outputs(pub Vec<Output>);

impl Outputs {
    /// Errors: the first that cannot be opened.
    pub fn open(configured: &[RecordsConfig]) -> anyhow::Result<Self> {
        Ok(Self(configured.iter().map(Output::open).collect::<Result<_, _>>()?))
    }

    /// Types that anybody wants.
    #[must_use]
    pub fn types(&self) -> BTreeSet<RecordType> {
        self.0.iter().flat_map(|output| &output.types).copied().collect()
    }
}
