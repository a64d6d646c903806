//! docs/kinds.md says what the table says.

use std::path::Path;

#[test]
fn kinds_page_is_the_table() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/kinds.md");
    let page = netguard_core::policy::kinds_markdown();
    #[expect(clippy::disallowed_methods, reason = "a test may read its environment")]
    let bless = std::env::var("NETGUARD_BLESS").is_ok_and(|value| value == "1");
    if bless {
        std::fs::write(&path, &page).unwrap();
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(
        written, page,
        "docs/kinds.md is not what the table says: run NETGUARD_BLESS=1 cargo test -p netguard-core kinds_page"
    );
}
