//! The services of one process and the order in which they begin.
//!
//! ```text
//!   bootstrap (the sockets of a predecessor) ─► hear (what it leaves) ─┬─► clients ─┬─► begin (ready; whoever waits is told)
//!                                                                      ├─► admin ───┘
//!                                                                      └─► health checks
//!   reload (SIGHUP) ────────────────────────────────────────────────────────────────────► begin
//! ```

use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use pingora_core::server::Server;
use pingora_core::services::background::background_service;

use crate::app::assembly::Assembled;
use crate::app::takeover::{Begin, Beginning, Hear};
use crate::app::{Obstacle, reload};
use crate::edge::admin::Admin;
use crate::edge::checks::HealthChecks;
use crate::edge::listen;
use crate::edge::stoppable::{Sockets, Stoppable};
use crate::ops::host::child::Parent;
use crate::ops::host::handover::Heir;

/// Where the process comes from, and who is to hear that it serves.
pub struct Origin {
    pub heir: Option<Heir>,
    pub parent: Option<Arc<Parent>>,
    pub pid_file: PathBuf,
    pub beginning: Arc<Beginning>,
}

/// Adds all services; returns the table in which their listening sockets will stand.
///
/// # Errors
///
/// A listener that can't be made from its settings.
pub fn add(server: &mut Server, assembled: &Assembled, origin: Origin) -> Result<Sockets, Obstacle> {
    let Origin { heir, parent, pid_file, beginning } = origin;
    let (Assembled { parts, reloader, pages }, sockets) = (assembled, Sockets::default());
    let settings = &parts.settings;
    let admin_addr = settings.load().admin.addr;
    let addresses = settings.load().listeners.iter().map(|listener| listener.addr).chain(admin_addr).collect();

    let bootstrap = server.bootstrap_as_a_service();
    let hear = Hear { heir: Mutex::new(heir), addresses, parts: parts.clone(), beginning: beginning.clone() };
    let hear = server.add_service(background_service("hear", hear));
    hear.add_dependency(&bootstrap);

    let clients = listen::clients(&server.configuration, parts);
    let clients = clients.map_err(|error| Obstacle::Unusable(error.to_string()))?;
    let clients = Stoppable::new(clients, parts.drain.clients(), sockets.clone());
    let mut stand = vec![clients.stands()];
    let mut listening = vec![server.add_service(clients)];
    if let Some(addr) = admin_addr {
        let admin = listen::admin(addr, Admin(pages.clone()));
        let admin = Stoppable::new(admin, parts.drain.admin(), sockets.clone());
        stand.push(admin.stands());
        listening.push(server.add_service(admin));
    }
    listening.iter().for_each(|service| service.add_dependency(&hear));

    let begin = Begin { beginning, stand, pages: pages.clone(), parts: parts.clone(), pid_file, parent };
    let hangups = server.add_service(background_service("reload", reload::OnHangup { reloader: reloader.clone() }));
    let begin = server.add_service(background_service("begin", begin));
    begin.add_dependencies(listening.iter().chain([&hangups]));
    let checks = HealthChecks { parts: parts.clone() };
    server.add_service(background_service("health checks", checks)).add_dependency(&hear);
    Ok(sockets)
}
