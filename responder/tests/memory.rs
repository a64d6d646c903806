//! The in-memory backend passes the suite that every backend passes.

mod conformance;

use netguard_responder::backend::Memory;

#[tokio::test]
async fn memory_conforms() {
    conformance::suite(&mut Memory::default()).await;
}
