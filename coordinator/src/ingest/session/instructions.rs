//! What a sensor is told while its stream lasts: what was taken of it, and to send again.

use super::Outbound;
use crate::{
    agents::Connection,
    flow_metrics::FlowMetrics,
    routing::{Offered, Router},
};
use netguard_proto::v1::{self, sensor_instruction};
use std::sync::Arc;
use tokio::sync::mpsc;

/// Acknowledges batches in the order they came, each once all its owners took it.
pub(super) async fn acknowledge(
    router: Router,
    connection: Arc<Connection>,
    mut untaken: mpsc::Receiver<(u64, Vec<Offered>)>,
    outbound: Outbound,
) {
    let mut highest = 0;
    while let Some((sequence, offered)) = untaken.recv().await {
        tokio::select! {
            () = router.settle(offered) => {}
            () = outbound.closed() => return,
        }
        // A batch sent again after later ones says nothing new.
        highest = sequence.max(highest);
        connection.acknowledged(highest);
        let of = Some(sensor_instruction::Of::Acknowledged(highest));
        if outbound.send(Ok(v1::SensorInstruction { of })).await.is_err() {
            return;
        }
    }
}

/// Tells the sensor to send again whenever subjects went to other owners.
pub(super) async fn ask_to_resend(
    mut handed_over: tokio::sync::watch::Receiver<u64>,
    outbound: Outbound,
    metrics: FlowMetrics,
) {
    handed_over.mark_unchanged();
    while handed_over.changed().await.is_ok() {
        let why = "the coordinators that share the subjects changed".to_owned();
        let of = Some(sensor_instruction::Of::Resend(v1::ResendRetained { why }));
        metrics.resends_asked.inc();
        if outbound.send(Ok(v1::SensorInstruction { of })).await.is_err() {
            return;
        }
    }
}
