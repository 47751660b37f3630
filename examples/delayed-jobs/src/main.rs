//! The program `delayed-jobs`; `cli/mod.rs` lists its commands.
#![forbid(unsafe_code)]

mod cli;

use std::error::Error;
use std::io;
use std::process::ExitCode;

#[tokio::main]
async fn main() -> ExitCode {
    match cli::run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if has_no_reader(&*error) => ExitCode::SUCCESS,
        Err(error) => {
            cli::print_error(&*error);
            ExitCode::FAILURE
        }
    }
}

/// Returns whether the output was closed by its reader, such as `head`, which has seen enough.
fn has_no_reader(error: &(dyn Error + 'static)) -> bool {
    let error = error.downcast_ref::<io::Error>();
    error.is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}
