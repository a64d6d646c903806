//! The program: arguments in, exit code out.
#![allow(clippy::print_stdout, reason = "a command line prints")]

use std::{
    io::{stderr, stdout},
    process::ExitCode,
};

fn main() -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    match runtime {
        Ok(runtime) => {
            let (mut out, mut err) = (stdout(), stderr());
            ExitCode::from(runtime.block_on(netguard_admin::run(std::env::args_os(), &mut out, &mut err)))
        }
        Err(error) => {
            eprintln!("netguard-admin: cannot start: {error}; check the limits of this process");
            ExitCode::from(3)
        }
    }
}
