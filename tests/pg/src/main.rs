//! Runs a cluster until its standard input ends; prints its address first.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a command line prints")]

use std::io::Read;
use std::process::ExitCode;

fn main() -> ExitCode {
    match hexa_testpg::Cluster::start() {
        Ok(cluster) => {
            println!("{}", cluster.url());
            let mut rest = Vec::new();
            let _ = std::io::stdin().read_to_end(&mut rest);
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
