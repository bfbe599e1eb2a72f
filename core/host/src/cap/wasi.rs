//! The part of WASI that Rust's standard library imports, with nothing behind it.
//!
//! Clocks and random numbers are real, environment and arguments empty, input is at its end, output goes into the
//! plugin's log, exit is a trap, nothing ever waits. There are no files and no sockets to refuse access to: a component
//! that imports those is not loaded.

use wasmtime::component::{HasSelf, Linker, Resource};

use crate::cap::guest_state::GuestState;
use crate::engine::store::Limited as _;
use raw::wasi::{cli, clocks, io, random};

mod raw {
    #![allow(
        missing_docs,
        unreachable_pub,
        dead_code,
        clippy::all,
        clippy::pedantic,
        reason = "generated code; which of these it breaks changes with the generator"
    )]
    wasmtime::component::bindgen!({
        path: "wit",
        world: "hexa:tiny-wasi/tiny-wasi",
        imports: { default: trappable },
        with: {
            "wasi:io/error.error": super::resource::IoError,
            "wasi:io/poll.pollable": super::resource::Pollable,
            "wasi:io/streams.input-stream": super::resource::Input,
            "wasi:io/streams.output-stream": super::resource::Output,
            "wasi:cli/terminal-input.terminal-input": super::resource::Terminal,
            "wasi:cli/terminal-output.terminal-output": super::resource::Terminal,
        },
    });
}

/// Interfaces that a component may import, without their patch version.
pub(crate) const IMPORTS: [&str; 18] = [
    "wasi:io/error@0.2.",
    "wasi:io/poll@0.2.",
    "wasi:io/streams@0.2.",
    "wasi:cli/environment@0.2.",
    "wasi:cli/exit@0.2.",
    "wasi:cli/stdin@0.2.",
    "wasi:cli/stdout@0.2.",
    "wasi:cli/stderr@0.2.",
    "wasi:cli/terminal-input@0.2.",
    "wasi:cli/terminal-output@0.2.",
    "wasi:cli/terminal-stdin@0.2.",
    "wasi:cli/terminal-stdout@0.2.",
    "wasi:cli/terminal-stderr@0.2.",
    "wasi:clocks/wall-clock@0.2.",
    "wasi:clocks/monotonic-clock@0.2.",
    "wasi:random/random@0.2.",
    "wasi:random/insecure@0.2.",
    "wasi:random/insecure-seed@0.2.",
];

/// Adds all of it to a linker.
pub(crate) fn link(linker: &mut Linker<GuestState>) -> wasmtime::Result<()> {
    raw::TinyWasi::add_to_linker::<_, HasSelf<GuestState>>(linker, |state| state)
}

use resource::{Input, IoError, Output, Pollable, Terminal};

/// What stands behind the guest's handles: nothing, so only their number counts.
mod resource {
    #![expect(unreachable_pub, reason = "generated code re-exports them, which needs them public")]
    pub struct IoError;
    pub struct Pollable;
    pub struct Input;
    pub struct Output;
    pub struct Terminal;
}

type Stream<T> = wasmtime::Result<Result<T, io::streams::StreamError>>;

/// Bytes that one write may have; more goes into the next.
const WRITE_BYTES: u64 = 4096;

impl io::error::Host for GuestState {}
impl io::error::HostError for GuestState {
    fn to_debug_string(&mut self, _: Resource<IoError>) -> wasmtime::Result<String> {
        Ok("input and output do not exist here".into())
    }
    fn drop(&mut self, error: Resource<IoError>) -> wasmtime::Result<()> {
        self.table.delete(error)?;
        Ok(())
    }
}

impl io::poll::Host for GuestState {
    fn poll(&mut self, all: Vec<Resource<Pollable>>) -> wasmtime::Result<Vec<u32>> {
        if all.is_empty() {
            wasmtime::bail!("poll was called with nothing to wait for");
        }
        Ok((0..all.len() as u32).collect())
    }
}
impl io::poll::HostPollable for GuestState {
    fn ready(&mut self, _: Resource<Pollable>) -> wasmtime::Result<bool> {
        Ok(true)
    }
    fn block(&mut self, _: Resource<Pollable>) -> wasmtime::Result<()> {
        Ok(())
    }
    fn drop(&mut self, pollable: Resource<Pollable>) -> wasmtime::Result<()> {
        self.table.delete(pollable)?;
        Ok(())
    }
}

impl io::streams::Host for GuestState {}
impl io::streams::HostInputStream for GuestState {
    fn read(&mut self, _: Resource<Input>, _: u64) -> Stream<Vec<u8>> {
        Ok(Err(io::streams::StreamError::Closed))
    }
    fn blocking_read(&mut self, input: Resource<Input>, len: u64) -> Stream<Vec<u8>> {
        self.read(input, len)
    }
    fn skip(&mut self, _: Resource<Input>, _: u64) -> Stream<u64> {
        Ok(Err(io::streams::StreamError::Closed))
    }
    fn blocking_skip(&mut self, input: Resource<Input>, len: u64) -> Stream<u64> {
        self.skip(input, len)
    }
    fn subscribe(&mut self, _: Resource<Input>) -> wasmtime::Result<Resource<Pollable>> {
        Ok(self.table.push(Pollable)?)
    }
    fn drop(&mut self, input: Resource<Input>) -> wasmtime::Result<()> {
        self.table.delete(input)?;
        Ok(())
    }
}
impl io::streams::HostOutputStream for GuestState {
    fn check_write(&mut self, _: Resource<Output>) -> Stream<u64> {
        Ok(Ok(WRITE_BYTES))
    }
    fn write(&mut self, _: Resource<Output>, contents: Vec<u8>) -> Stream<()> {
        self.print(&contents)?;
        Ok(Ok(()))
    }
    fn blocking_write_and_flush(&mut self, output: Resource<Output>, contents: Vec<u8>) -> Stream<()> {
        self.write(output, contents)
    }
    fn flush(&mut self, _: Resource<Output>) -> Stream<()> {
        Ok(Ok(()))
    }
    fn blocking_flush(&mut self, _: Resource<Output>) -> Stream<()> {
        Ok(Ok(()))
    }
    fn subscribe(&mut self, _: Resource<Output>) -> wasmtime::Result<Resource<Pollable>> {
        Ok(self.table.push(Pollable)?)
    }
    fn write_zeroes(&mut self, _: Resource<Output>, _: u64) -> Stream<()> {
        Ok(Ok(()))
    }
    fn blocking_write_zeroes_and_flush(&mut self, _: Resource<Output>, _: u64) -> Stream<()> {
        Ok(Ok(()))
    }
    fn splice(&mut self, _: Resource<Output>, _: Resource<Input>, _: u64) -> Stream<u64> {
        Ok(Err(io::streams::StreamError::Closed))
    }
    fn blocking_splice(&mut self, _: Resource<Output>, _: Resource<Input>, _: u64) -> Stream<u64> {
        Ok(Err(io::streams::StreamError::Closed))
    }
    fn drop(&mut self, output: Resource<Output>) -> wasmtime::Result<()> {
        self.table.delete(output)?;
        Ok(())
    }
}

impl cli::environment::Host for GuestState {
    fn get_environment(&mut self) -> wasmtime::Result<Vec<(String, String)>> {
        Ok(Vec::new())
    }
    fn get_arguments(&mut self) -> wasmtime::Result<Vec<String>> {
        Ok(Vec::new())
    }
    fn initial_cwd(&mut self) -> wasmtime::Result<Option<String>> {
        Ok(None)
    }
}
impl cli::exit::Host for GuestState {
    fn exit(&mut self, _: Result<(), ()>) -> wasmtime::Result<()> {
        wasmtime::bail!("the plugin called exit")
    }
}
impl cli::stdin::Host for GuestState {
    fn get_stdin(&mut self) -> wasmtime::Result<Resource<Input>> {
        Ok(self.table.push(Input)?)
    }
}
impl cli::stdout::Host for GuestState {
    fn get_stdout(&mut self) -> wasmtime::Result<Resource<Output>> {
        Ok(self.table.push(Output)?)
    }
}
impl cli::stderr::Host for GuestState {
    fn get_stderr(&mut self) -> wasmtime::Result<Resource<Output>> {
        Ok(self.table.push(Output)?)
    }
}
impl cli::terminal_input::Host for GuestState {}
impl cli::terminal_input::HostTerminalInput for GuestState {
    fn drop(&mut self, terminal: Resource<Terminal>) -> wasmtime::Result<()> {
        self.table.delete(terminal)?;
        Ok(())
    }
}
impl cli::terminal_output::Host for GuestState {}
impl cli::terminal_output::HostTerminalOutput for GuestState {
    fn drop(&mut self, terminal: Resource<Terminal>) -> wasmtime::Result<()> {
        self.table.delete(terminal)?;
        Ok(())
    }
}
impl cli::terminal_stdin::Host for GuestState {
    fn get_terminal_stdin(&mut self) -> wasmtime::Result<Option<Resource<Terminal>>> {
        Ok(None)
    }
}
impl cli::terminal_stdout::Host for GuestState {
    fn get_terminal_stdout(&mut self) -> wasmtime::Result<Option<Resource<Terminal>>> {
        Ok(None)
    }
}
impl cli::terminal_stderr::Host for GuestState {
    fn get_terminal_stderr(&mut self) -> wasmtime::Result<Option<Resource<Terminal>>> {
        Ok(None)
    }
}

impl clocks::wall_clock::Host for GuestState {
    fn now(&mut self) -> wasmtime::Result<clocks::wall_clock::Datetime> {
        let ms = u64::try_from(self.log().clock().now().0).unwrap_or(0);
        Ok(clocks::wall_clock::Datetime { seconds: ms / 1000, nanoseconds: (ms % 1000) as u32 * 1_000_000 })
    }
    fn resolution(&mut self) -> wasmtime::Result<clocks::wall_clock::Datetime> {
        Ok(clocks::wall_clock::Datetime { seconds: 0, nanoseconds: 1_000_000 })
    }
}
impl clocks::monotonic_clock::Host for GuestState {
    fn now(&mut self) -> wasmtime::Result<u64> {
        Ok(crate::cap::log::nanos(self.log().clock().monotonic()))
    }
    fn resolution(&mut self) -> wasmtime::Result<u64> {
        Ok(1)
    }
    fn subscribe_instant(&mut self, _: u64) -> wasmtime::Result<Resource<Pollable>> {
        Ok(self.table.push(Pollable)?)
    }
    fn subscribe_duration(&mut self, _: u64) -> wasmtime::Result<Resource<Pollable>> {
        Ok(self.table.push(Pollable)?)
    }
}

impl random::random::Host for GuestState {
    fn get_random_bytes(&mut self, len: u64) -> wasmtime::Result<Vec<u8>> {
        self.limiter().count_io(usize::try_from(len).unwrap_or(usize::MAX))?;
        let mut bytes = Vec::with_capacity(len as usize + 64);
        while (bytes.len() as u64) < len {
            bytes.extend_from_slice(&hexa_crypto::random_bytes::<64>());
        }
        bytes.truncate(len as usize);
        Ok(bytes)
    }
    fn get_random_u64(&mut self) -> wasmtime::Result<u64> {
        Ok(u64::from_le_bytes(hexa_crypto::random_bytes()))
    }
}
impl random::insecure::Host for GuestState {
    fn get_insecure_random_bytes(&mut self, len: u64) -> wasmtime::Result<Vec<u8>> {
        random::random::Host::get_random_bytes(self, len)
    }
    fn get_insecure_random_u64(&mut self) -> wasmtime::Result<u64> {
        random::random::Host::get_random_u64(self)
    }
}
impl random::insecure_seed::Host for GuestState {
    fn insecure_seed(&mut self) -> wasmtime::Result<(u64, u64)> {
        let half = || u64::from_le_bytes(hexa_crypto::random_bytes());
        Ok((half(), half()))
    }
}
