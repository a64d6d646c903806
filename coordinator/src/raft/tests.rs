//! Clusters of real nodes in one process, over TCP with mutual TLS, on real stores.

mod cluster;
mod full_disk;
mod membership;
mod replication;
mod suite;
