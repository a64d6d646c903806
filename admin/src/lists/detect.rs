use super::ListFormat;

/// How far into a list its form is looked for, in bytes.
const HEAD: usize = 64 << 10;

/// What a list looks like by its first line that says anything.
pub(super) fn format_of(input: &[u8]) -> ListFormat {
    let head = String::from_utf8_lossy(input.get(..HEAD).unwrap_or(input));
    let first = head.lines().map(str::trim).find(|line| !line.is_empty() && !line.starts_with(['#', ';']));
    let first = first.unwrap_or_default();
    if first.starts_with(['{', '[']) || first == "null" {
        return if head.contains("\"nftables\"") { ListFormat::Nft } else { ListFormat::Json };
    }
    match first.split_whitespace().next() {
        Some("create" | "add") => ListFormat::Ipset,
        Some("table" | "set" | "elements") => ListFormat::Nft,
        _ if super::csv::is_header(first) => ListFormat::Csv,
        _ => ListFormat::Text,
    }
}
