//! Evidence → proposals. See the judge's own pages.
