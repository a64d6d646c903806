//! Wire → domain by `TryFrom`, domain → wire by `From`: nowhere else.
