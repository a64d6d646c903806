use super::{List, ListError, each_line};

/// One address a line; what follows `#` or `;` is the list's own remark.
pub(super) fn read(input: &[u8]) -> Result<List, ListError> {
    let mut list = List::default();
    each_line(input, &mut list, |list, number, line| {
        let content = line.split(['#', ';']).next().unwrap_or_default().trim();
        match content.split_whitespace().collect::<Vec<_>>().as_slice() {
            [] => Ok(()),
            [prefix] => list.add(number, prefix, None, None),
            _ => {
                list.complain(number, "more than an address: begin a remark with #");
                Ok(())
            }
        }
    })?;
    Ok(list)
}
