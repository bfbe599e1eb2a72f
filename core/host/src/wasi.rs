wasmtime::component::bindgen!({
    path: "wit",
    world: "hexa:tiny-wasi/tiny-wasi",
    imports: { default: trappable },
    with: {
        "wasi:io/error.error": IoError,
        "wasi:io/poll.pollable": Pollable,
        "wasi:io/streams.input-stream": Input,
        "wasi:io/streams.output-stream": Output,
        "wasi:cli/terminal-input.terminal-input": Terminal,
        "wasi:cli/terminal-output.terminal-output": Terminal,
    },
});
pub struct IoError; pub struct Pollable; pub struct Input; pub struct Output; pub struct Terminal;
