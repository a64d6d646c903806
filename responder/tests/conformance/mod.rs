//! The suite that every backend passes, under the name the tests know it by.

#![allow(unreachable_pub, unused_imports, reason = "shared by several test programs")]

pub use netguard_responder::conformance::*;
