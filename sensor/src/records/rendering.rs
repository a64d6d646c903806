use super::{
    Context, EveFlow, Record, RecordFormat,
    eve::{evidence_event, transaction_event},
    safe,
    zeek::Conn,
};
use netguard_core::flow::EndReason;

/// Records → lines of one format. Keeps its buffers from one record to the next.
#[derive(Debug)]
pub struct Rendering {
    format: RecordFormat,
    line: Vec<u8>,
    row: String,
}

impl Rendering {
    #[must_use]
    pub fn new(format: RecordFormat) -> Self {
        Self { format, line: Vec::new(), row: String::new() }
    }

    /// The record's line with its line feed; `None` where the format has none for it.
    pub fn line(&mut self, record: &Record, context: &Context<'_>) -> Option<&[u8]> {
        self.line.clear();
        match (record, self.format) {
            // Readers add flows up: one that goes on is told when it ended, as by Suricata and Zeek.
            (Record::Flow(flow), _) if flow.summary.reason == EndReason::Active => {}
            (Record::Flow(flow), RecordFormat::Eve) => {
                safe::write_line(&EveFlow::of(flow, context), &mut self.line);
            }
            (Record::Flow(flow), RecordFormat::ZeekJson) => {
                safe::write_line(&Conn::of(flow, context), &mut self.line);
            }
            (Record::Flow(flow), RecordFormat::Zeek) => {
                self.row.clear();
                Conn::of(flow, context).write_row(&mut self.row);
                self.line.extend_from_slice(self.row.as_bytes());
            }
            (Record::Evidence(at, record), RecordFormat::Eve) => {
                safe::write_line(&evidence_event(*at, record), &mut self.line);
            }
            (Record::Transaction(transaction), RecordFormat::Eve) => {
                safe::write_line(&transaction_event(transaction, context), &mut self.line);
            }
            (Record::Evidence(..) | Record::Transaction(_), _) => {}
        }
        (!self.line.is_empty()).then_some(self.line.as_slice())
    }
}
