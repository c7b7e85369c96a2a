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
use crate::cli::exit::Failure;
use crate::cli::run;
use crate::config;
use crate::domain::settings::Settings;
use crate::domain::upstream::registry::Registry;
use crate::ops::watch::log as program_log;
use crate::provider_mock::{Mock, Options};

/// The client key of the demo; it opens nothing but the scripted provider.
const KEY: &str = "tb-demo";

/// Runs until Ctrl-C; returns the exit code.
pub fn run(listen: SocketAddr) -> u8 {
    program_log::start_at("warn");
    let (code, why) = match prepare(listen) {
        // The provider and the state are there as long as the gateway runs.
        Ok((plan, _provider, _state)) => run::outcome(app::run(plan)),
        Err(Failure { code, why }) => (code, Some(why)),
    };
    if let Some(why) = why {
        // Nobody is left to tell when stderr is closed.
        let _ = writeln!(io::stderr(), "trollbridge demo: {why}");
    }
    code
}

/// Makes all that the gateway stands on, and prints the lines to copy.
fn prepare(listen: SocketAddr) -> Result<(Plan, Provider, Scratch), Failure> {
    let internal = |what: &str, error: io::Error| Failure::software(format!("{what}: {error}"));
    let provider = Provider::start().map_err(|error| internal("the scripted provider can't start", error))?;
    let (listen, admin) = addresses(listen).map_err(|error| internal("no free port", error))?;
    let state = Scratch::new().map_err(|error| internal("no directory for its state", error))?;
    let settings = settings(&configuration(listen, admin, provider.mock.addr(), &state.0))?;
    // Before the lines to copy: none of them would work.
    app::preflight(&settings, false).map_err(|obstacle| match obstacle {
        Obstacle::BusyAddress { addr } => Failure::try_again(format!(
            "{addr} is in use by another process; choose another address: trollbridge demo --listen ADDR"
        )),
        obstacle => Failure::usage(obstacle.to_string()),
    })?;
    introduce(&mut io::stdout(), listen, admin).map_err(|error| Failure::software(error.to_string()))?;
    let plan = Plan {
        settings,
        config: None,
        registry: Arc::new(Registry::default()),
        conf: conf(&state.0),
        upgrade: false,
        parent: None,
        elsewhere: Box::new(|| Ok(Vec::new())),
    };
    Ok((plan, provider, state))
}

fn settings(text: &str) -> Result<Settings, Failure> {
    let variable = |name: &str| match name {
        "DEMO_CLIENT_KEY" => Some(KEY.to_owned()),
        "DEMO_UPSTREAM_KEY" => Some("demo-upstream-key".to_owned()),
        _ => None,
    };
    let loaded = config::load(Path::new("demo"), &variable, &|_| Ok(text.to_owned()));
    loaded.map(|loaded| loaded.settings).map_err(|faults| Failure::usage(faults.to_string()))
}

/// Nobody waits for the end of a demo.
fn conf(state: &Path) -> ServerConf {
    let beside = |name: &str| state.join(name).to_string_lossy().into_owned();
    ServerConf {
        grace_period_seconds: Some(0),
        graceful_shutdown_timeout_seconds: Some(1),
        pid_file: beside("pid"),
        upgrade_sock: beside("upgrade.sock"),
        ..app::default_conf()
    }
}

/// The scripted provider on a runtime of its own, for as long as this value lives.
struct Provider {
    mock: Mock,
    _runtime: tokio::runtime::Runtime,
}

impl Provider {
    fn start() -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let mock = runtime.block_on(Mock::start(Options::default()))?;
        Ok(Self { mock, _runtime: runtime })
    }
}

/// A directory that goes when the demo goes.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> io::Result<Self> {
        let path = std::env::temp_dir().join(format!("trollbridge-demo-{}", std::process::id()));
        // One that is there already is somebody else's.
        DirBuilder::new().mode(0o700).create(&path)?;
        Ok(Self(path))
    }
}

impl Drop for Scratch {
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
