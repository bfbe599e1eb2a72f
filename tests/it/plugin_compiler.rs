//! Plugins are compiled by the real binary, started again with limits.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use hexa_host::{ChildCompiler, CompileLimits, Compiler, HostConfig, PluginHost};
use hexa_model::SystemClock;
use hexa_model::plugin::PluginInfo;
use hexa_tests::server::ScratchDir;
use hexa_tests::{Options, PATIENCE, TestServer, eventually, process};

const RELAY_CONTROLLER: &str = "hexa.relay-controller";

/// A core module of functions that add so often, wrapped in a component: small to read, long to compile.
fn bomb(functions: usize, adds: usize) -> Vec<u8> {
    let mut body = vec![0];
    for i in 0..adds {
        // local.get 0, local.get 1, xor, i32.const, mul, local.tee, drop: each depends on the one before.
        body.extend([0x20, 0, 0x20, 1, 0x73, 0x41, (i % 63) as u8, 0x6c, 0x22, (i % 2) as u8, 0x1a]);
        // And a branch, because a straight line costs a compiler little.
        body.extend([0x02, 0x40, 0x20, 0, 0x0d, 0, 0x20, 1, 0x21, 0, 0x0b]);
    }
    body.push(0x0b);
    let mut module = b"\0asm\x01\0\0\0".to_vec();
    section(&mut module, 1, &[1, 0x60, 2, 0x7f, 0x7f, 0]);
    let (mut types, mut code) = (Vec::new(), Vec::new());
    leb(&mut types, functions);
    leb(&mut code, functions);
    types.resize(types.len() + functions, 0);
    for _ in 0..functions {
        leb(&mut code, body.len());
        code.extend(&body);
    }
    section(&mut module, 3, &types);
    section(&mut module, 10, &code);
    let mut component = b"\0asm\x0d\0\x01\0".to_vec();
    section(&mut component, 1, &module);
    assert!(component.len() < 4 << 20, "{}", component.len());
    component
}

fn section(to: &mut Vec<u8>, id: u8, content: &[u8]) {
    to.push(id);
    leb(to, content.len());
    to.extend(content);
}

fn leb(to: &mut Vec<u8>, mut value: usize) {
    while value > 127 {
        to.push((value & 127) as u8 | 128);
        value >>= 7;
    }
    to.push(value as u8);
}

fn built(file: &str) -> Vec<u8> {
    fs::read(process::plugins().join(RELAY_CONTROLLER).join(file)).unwrap()
}

/// Puts a plugin with this code into the folder, with the manifest of the built one under this id and class.
fn put(plugins: &Path, id: &str, class: &str, wasm: &[u8]) {
    let dir = plugins.join(id);
    fs::create_dir_all(&dir).unwrap();
    let manifest = String::from_utf8(built("plugin.toml")).unwrap();
    let manifest = manifest.replace(RELAY_CONTROLLER, id).replace("relay_controller", class);
    fs::write(dir.join("plugin.toml"), manifest).unwrap();
    fs::write(dir.join("plugin.wasm"), wasm).unwrap();
}

/// What becomes of a plugin with this code under these limits.
fn outcome(dir: &Path, wasm: &[u8], limits: CompileLimits) -> PluginInfo {
    let plugins = dir.join("plugins");
    put(&plugins, RELAY_CONTROLLER, "relay_controller", wasm);
    let compiler = ChildCompiler::new(process::hexa(), vec!["compile-plugin".into()], limits);
    let host = PluginHost::load(&HostConfig {
        plugins_dir: plugins,
        cache_dir: dir.join("cache"),
        cache_key: [7; 32],
        compiler: Arc::new(Compiler::Child(compiler)),
        clock: Arc::new(SystemClock::new()),
        watch: std::sync::Arc::new(hexa_devices::ports::NoopObserver),
        per_call: hexa_host::PerCall::None,
    });
    let host = host.unwrap();
    assert!(host.wait_compiled(PATIENCE * 4), "{host:?}");
    host.status().remove(0)
}

fn refused(wasm: &[u8], limits: CompileLimits) -> String {
    let dir = ScratchDir::new();
    let begun = Instant::now();
    let status = outcome(dir.path(), wasm, limits);
    assert_eq!(status.state, "failed", "{status:?}");
    let reason = status.reason.unwrap();
    eprintln!("{:>6} ms: {reason}", begun.elapsed().as_millis());
    let compiled = reason.contains("does not fit the contract");
    let kept = fs::read_dir(dir.path().join("cache")).unwrap().count();
    assert_eq!(kept, usize::from(compiled), "nothing is kept of a compilation that failed");
    reason
}

#[test]
fn the_child_compiles_what_the_server_runs() {
    let dir = ScratchDir::new();
    let begun = Instant::now();
    let first = outcome(dir.path(), &built("plugin.wasm"), CompileLimits::default());
    assert_eq!((first.state, first.reason), ("active", None));
    eprintln!("compiled in a child and loaded: {} ms", begun.elapsed().as_millis());
    // As large as is allowed, of many small functions as compilers make them: heavy, but within every limit.
    let reason = refused(&bomb(18_000, 10), CompileLimits::default());
    assert!(reason.contains("exports nothing of it"), "{reason}");
    // Were it compiled again, this program could not be started.
    let plugins = dir.path().join("plugins");
    let compiler = ChildCompiler::new("/no/such".into(), vec![], CompileLimits::default());
    let host = PluginHost::load(&HostConfig {
        plugins_dir: plugins,
        cache_dir: dir.path().join("cache"),
        cache_key: [7; 32],
        compiler: Arc::new(Compiler::Child(compiler)),
        clock: Arc::new(SystemClock::new()),
        watch: std::sync::Arc::new(hexa_devices::ports::NoopObserver),
        per_call: hexa_host::PerCall::None,
    });
    assert_eq!(host.unwrap().status()[0].state, "active");
}

#[test]
fn a_component_that_costs_too_much_is_refused_with_the_limit() {
    let limits = CompileLimits::default();
    let reason = refused(&bomb(1, 180_000), CompileLimits { cpu_s: 1, ..limits });
    assert!(reason.contains("more than the 1 s of processor time"), "{reason}");
    let reason = refused(&bomb(1, 180_000), CompileLimits { wall: Duration::from_secs(1), ..limits });
    assert!(reason.contains("more than the 1 s of time"), "{reason}");
    let reason = refused(&bomb(1, 180_000), CompileLimits { memory_bytes: 256 << 20, ..limits });
    assert!(reason.contains("more than the 256 MiB of memory"), "{reason}");
    assert!(reason.contains("Make it smaller"), "{reason}");
}

#[test]
fn damaged_components_are_refused_by_the_child() {
    let good = built("plugin.wasm");
    let mut damaged = good.clone();
    damaged.iter_mut().skip(64).step_by(7).for_each(|b| *b ^= 0x55);
    for wasm in [&good[..good.len() / 2], &damaged] {
        let reason = refused(wasm, CompileLimits::default());
        assert!(reason.starts_with("plugin.wasm is not a valid component: "), "{reason}");
    }
}

/// The compiler that this server started, if it runs.
fn compiler_of(server: u32) -> Option<PathBuf> {
    fs::read_dir("/proc").unwrap().flatten().map(|e| e.path()).find(|process| {
        let stat = fs::read_to_string(process.join("stat")).unwrap_or_default();
        let parent = stat.rsplit(") ").next().and_then(|rest| rest.split(' ').nth(1)).and_then(|p| p.parse().ok());
        let command = fs::read_to_string(process.join("cmdline")).unwrap_or_default();
        parent == Some(server) && command.contains("compile-plugin")
    })
}

#[tokio::test]
async fn a_long_compilation_delays_neither_start_nor_others_and_dies_with_the_server() {
    let (plugins, data) = (ScratchDir::new(), ScratchDir::new());
    put(plugins.path(), RELAY_CONTROLLER, "relay_controller", &built("plugin.wasm"));
    put(plugins.path(), "test.bomb", "ir_hub", &bomb(1, 180_000));
    let options = Options::new().data_dir(data.path()).env("HEXA_PLUGINS_DIR", plugins.path().to_str().unwrap());
    // Ready although the bomb is being compiled, and a device of the other class works.
    let mut server = TestServer::start(options.env("SECRET_THING", "not for children"));
    let child = eventually("the compiler at work", || async { compiler_of(server.pid()) }).await;
    let user = server.user().await;
    let mut device = server.device(&user, 2).await;
    device.settled().await;

    // It has taken its limits upon itself.
    let confined = || async {
        let limits = fs::read_to_string(child.join("limits")).unwrap_or_default();
        let line = |name: &str| limits.lines().find(|l| l.starts_with(name)).unwrap_or_default().to_owned();
        let holds = |name: &str, value: &str| line(name)[name.len()..].split_whitespace().next() == Some(value);
        (holds("Max address space", "1073741824")
            && holds("Max cpu time", "25")
            && holds("Max open files", "3")
            && holds("Max file size", "0")
            && holds("Max core file size", "0"))
        .then_some(())
    };
    eventually("the limits of the compiler", confined).await;
    let mut open: Vec<_> = fs::read_dir(child.join("fd")).unwrap().flatten().map(|f| f.file_name()).collect();
    open.sort();
    assert_eq!(open, ["0", "1", "2"], "the server's descriptors are its own");
    let stat = fs::read_to_string(child.join("stat")).unwrap();
    assert_eq!(stat.rsplit(") ").next().unwrap().split(' ').nth(16), Some("10"), "nice: {stat}");
    assert_eq!(fs::read_to_string(child.join("environ")).unwrap(), "");

    server.kill9();
    let gone = || async { (!fs::read_to_string(child.join("cmdline")).is_ok_and(|c| !c.is_empty())).then_some(()) };
    eventually("the end of the compiler", gone).await;
}
