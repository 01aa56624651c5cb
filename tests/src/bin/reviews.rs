//! The small server of tests and demo: see `mirror_tests::reviews`.

use std::process::ExitCode;

use clap::Parser;
use mirror_tests::reviews::{Options, serve};

fn main() -> ExitCode {
    match serve(Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
