//! The in-memory backend passes the suite that every backend passes.

use netguard_responder::{backend::Memory, conformance};

#[tokio::test]
async fn memory_conforms() {
    conformance::suite(&mut Memory::default()).await;
}
