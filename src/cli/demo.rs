//! `trollbridge demo`: the gateway with the scripted provider behind it, on state that is thrown away; prints curl lines that work when
//! pasted.

use std::fs::DirBuilder;
use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use pingora_core::server::configuration::ServerConf;

use crate::app::{self, Obstacle, Plan};
use crate::cli::{EX_SOFTWARE, EX_TEMPFAIL, EX_USAGE, run};
use crate::config;
use crate::domain::upstream::registry::Registry;
use crate::ops::watch::log as program_log;
use crate::provider_mock::{Mock, Options};

/// The client key of the demo; it opens nothing but the scripted provider.
const KEY: &str = "tb-demo";

/// Runs until Ctrl-C; returns the exit code.
pub fn run(listen: SocketAddr) -> u8 {
    program_log::start_at("warn");
    let provider = match Provider::start() {
        Ok(provider) => provider,
        Err(error) => return fail(EX_SOFTWARE, &format!("the scripted provider can't start: {error}")),
    };
    let (listen, admin) = match addresses(listen) {
        Ok(addresses) => addresses,
        Err(error) => return fail(EX_SOFTWARE, &format!("no free port: {error}")),
    };
    let state = match State::new() {
        Ok(state) => state,
        Err(error) => return fail(EX_SOFTWARE, &format!("no directory for its state: {error}")),
    };
    let text = configuration(listen, admin, provider.mock.addr(), &state.0);
    let variable = |name: &str| match name {
        "DEMO_CLIENT_KEY" => Some(KEY.to_owned()),
        "DEMO_UPSTREAM_KEY" => Some("demo-upstream-key".to_owned()),
        _ => None,
    };
    let settings = match config::load(Path::new("demo"), &variable, &|_| Ok(text.clone())) {
        Ok(loaded) => loaded.settings,
        Err(faults) => return fail(EX_USAGE, &faults.to_string()),
    };
    // Before the lines to copy: none of them would work.
    match app::preflight(&settings, false) {
        Ok(()) => {}
        Err(Obstacle::BusyAddress { addr }) => {
            let message = format!("{addr} is in use by another process; choose another address: trollbridge demo --listen ADDR");
            return fail(EX_TEMPFAIL, &message);
        }
        Err(obstacle) => return fail(EX_USAGE, &obstacle.to_string()),
    }
    if let Err(error) = introduce(&mut io::stdout(), listen, admin) {
        return fail(EX_SOFTWARE, &error.to_string());
    }
    // Nobody waits for the end of a demo.
    let beside = |name: &str| state.0.join(name).to_string_lossy().into_owned();
    let conf = ServerConf {
        grace_period_seconds: Some(0),
        graceful_shutdown_timeout_seconds: Some(1),
        pid_file: beside("pid"),
        upgrade_sock: beside("upgrade.sock"),
        ..app::default_conf()
    };
    let (code, why) = run::outcome(app::run(Plan {
        settings,
        config: None,
        registry: Arc::new(Registry::default()),
        conf,
        upgrade: false,
        parent: None,
        elsewhere: Box::new(|| Ok(Vec::new())),
    }));
    why.map_or(code, |why| fail(code, &why))
}

/// The scripted provider on a runtime of its own, for as long as this value lives.
struct Provider {
    mock: Mock,
    _runtime: tokio::runtime::Runtime,
}

impl Provider {
    fn start() -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let mock = runtime.block_on(Mock::start(Options { keep_requests: 0, ..Options::default() }))?;
        Ok(Self { mock, _runtime: runtime })
    }
}

/// A directory that goes when the demo goes.
struct State(PathBuf);

impl State {
    fn new() -> io::Result<Self> {
        let path = std::env::temp_dir().join(format!("trollbridge-demo-{}", std::process::id()));
        // One that is there already is somebody else's.
        DirBuilder::new().mode(0o700).create(&path)?;
        Ok(Self(path))
    }
}

impl Drop for State {
    fn drop(&mut self) {
        // What is left is small, and where temporary things are.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn configuration(listen: SocketAddr, admin: SocketAddr, provider: SocketAddr, state: &Path) -> String {
    serde_json::json!({
        "state_dir": state,
        "listen": [{ "addr": listen.to_string(), "h2c": true }],
        "admin": { "addr": admin.to_string() },
        "auth": { "mode": "keys", "static_key": "${DEMO_CLIENT_KEY}" },
        "upstreams": {
            "main": { "base_url": format!("http://{provider}"), "key": "${DEMO_UPSTREAM_KEY}" },
            "troll": { "base_url": format!("http://{provider}"), "keys": [{ "id": "k1", "key": "${DEMO_UPSTREAM_KEY}" }] },
        },
        "models": [
            { "id": "claude-sonnet-4-5", "upstream": "main", "input_price_per_mtok": 3, "output_price_per_mtok": 15 },
            { "id": "gpt-4o-mini", "upstream": "main", "input_price_per_mtok": 0.15, "output_price_per_mtok": 0.6 },
            { "id": "claude-opus-4-5", "upstream": "troll", "input_price_per_mtok": 5, "output_price_per_mtok": 25 },
        ],
    })
    .to_string()
}

fn introduce(out: &mut impl Write, listen: SocketAddr, admin: SocketAddr) -> io::Result<()> {
    let host = if listen.ip().is_unspecified() { IpAddr::V4(Ipv4Addr::LOCALHOST) } else { listen.ip() };
    let url = format!("http://{}", SocketAddr::new(host, listen.port()));
    let json = "-H 'Content-Type: application/json'";
    let bearer = format!("-H 'Authorization: Bearer {KEY}'");
    let anthropic = format!("-H 'x-api-key: {KEY}' -H 'anthropic-version: 2023-06-01'");
    let ask = r#""messages":[{"role":"user","content":"hello"}]"#;
    writeln!(
        out,
        "trollbridge demo: a gateway with a scripted provider behind it. Nothing leaves this machine, nothing is kept.

  an OpenAI answer
    curl {url}/v1/chat/completions {bearer} {json} -d '{{\"model\":\"gpt-4o-mini\",{ask}}}'

  an OpenAI stream
    curl -N {url}/v1/chat/completions {bearer} {json} -d '{{\"model\":\"gpt-4o-mini\",\"stream\":true,{ask}}}'

  an Anthropic answer
    curl {url}/v1/messages {anthropic} {json} -d '{{\"model\":\"claude-sonnet-4-5\",\"max_tokens\":64,{ask}}}'

  an Anthropic stream
    curl -N {url}/v1/messages {anthropic} {json} -d '{{\"model\":\"claude-sonnet-4-5\",\"max_tokens\":64,\"stream\":true,{ask}}}'

  a refusal: a wrong key
    curl -i {url}/v1/chat/completions -H 'Authorization: Bearer wrong' {json} -d '{{\"model\":\"gpt-4o-mini\",{ask}}}'

  the models
    curl {url}/v1/models {bearer}

  the gateway's health and metrics
    curl http://{admin}/health
    curl http://{admin}/metrics

  or point an SDK at it
    OPENAI_BASE_URL={url}/v1 OPENAI_API_KEY={KEY}
    ANTHROPIC_BASE_URL={url} ANTHROPIC_API_KEY={KEY}

One line for each request follows here. Ctrl-C ends it.
"
    )?;
    out.flush()
}

/// Where clients and operators connect; for port 0 one that is free.
fn addresses(listen: SocketAddr) -> io::Result<(SocketAddr, SocketAddr)> {
    // Both are held until both are known, or the kernel could give one port twice.
    let admin = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let clients = (listen.port() == 0).then(|| TcpListener::bind(listen)).transpose()?;
    let listen = clients.map_or(Ok(listen), |clients| clients.local_addr())?;
    Ok((listen, admin.local_addr()?))
}

fn fail(code: u8, message: &str) -> u8 {
    // Nobody is left to tell when stderr is closed.
    let _ = writeln!(io::stderr(), "trollbridge demo: {message}");
    code
}
