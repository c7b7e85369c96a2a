//! The admin's pages, whichever way they are asked for: gathers what a page shows, and does what it asks for.
//!
//! Two ways lead here. On the admin listener everything but health and metrics needs the token (L5). The control socket is reached by the
//! service's user and root only, so it asks for none.
//!
//! The health pages look at memory alone. The others look at the disk too, each on a thread that may wait for it: where one hangs, the
//! process still says that it lives.

use std::sync::Arc;
use std::time::{Duration, Instant};

use http::request;
use serde_json::json;
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use crate::domain::settings::Settings;
use crate::ops::admin::answer::AdminAnswer;
use crate::ops::admin::clients::{self, Asked, Operation};
use crate::ops::admin::reload::Reloader;
use crate::ops::admin::table::{AnswerBy, Page, View};
use crate::ops::books::ledger::Condition;
use crate::ops::host::clock;
use crate::ops::parts::Parts;
use crate::ops::watch::readiness::Ready;
use crate::ops::watch::vitals::{Site, Vitals};

/// Pages that look at the disk at the same time; one that hangs must not take a thread for each scrape.
static LOOKS: Semaphore = Semaphore::const_new(4);
/// How long a page waits for one of them.
const LOOK_WAIT: Duration = Duration::from_secs(2);

/// What the pages look at, and what they can do.
pub struct Pages {
    pub parts: Arc<Parts>,
    pub reloader: Arc<Reloader>,
    pub started: Instant,
    pub site: Site,
}

/// The way a request came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Via {
    /// Whoever reaches the listener: the token proves the operator.
    AdminListener,
    /// Whoever reaches the socket is the operator.
    ControlSocket,
}

impl Pages {
    /// Answers one request. `body` is awaited only where the page takes one and the request may see it; its error is the answer.
    pub async fn answer(
        self: &Arc<Self>,
        head: &request::Parts,
        via: Via,
        body: impl Future<Output = Result<Vec<u8>, AdminAnswer>>,
    ) -> AdminAnswer {
        let settings = self.parts.settings.load_full();
        let (method, path) = (head.method.as_str(), head.uri.path());
        let page = Page::at(path);
        let permitted = match via {
            Via::AdminListener => page.permit(&head.headers, settings.admin.token.as_ref()),
            Via::ControlSocket => Ok(()),
        };
        if let Err(refusal) = permitted {
            return refusal;
        }
        match page.answer {
            AnswerBy::Memory(view) => self.show(page, view, method, &settings, &Condition::default()),
            AnswerBy::Disk(view) => self.look(page, view, method.to_owned(), settings).await,
            AnswerBy::Clients(operation) => match timeout(settings.limits.body_read, body).await {
                Ok(Ok(body)) => self.clients(page, operation, method.to_owned(), path.to_owned(), body).await,
                Ok(Err(refused)) => refused,
                Err(_) => AdminAnswer::error(408, "the body did not arrive in time"),
            },
            AnswerBy::Reload => match page.take(method) {
                Ok(()) => self.reload().await,
                Err(other_method) => other_method,
            },
        }
    }

    /// Lets a thread that may wait look at the disk.
    async fn look(self: &Arc<Self>, page: Page, view: View, method: String, settings: Arc<Settings>) -> AdminAnswer {
        let Ok(Ok(look)) = timeout(LOOK_WAIT, LOOKS.acquire()).await else {
            return AdminAnswer::error(503, "the disk of state_dir does not answer");
        };
        let pages = self.clone();
        let looked = spawn_blocking(move || {
            let _look = look;
            pages.show(page, view, &method, &settings, &pages.parts.ledger.condition())
        });
        looked.await.unwrap_or_else(|_| AdminAnswer::error(500, "the page could not be made"))
    }

    fn show(&self, page: Page, view: View, method: &str, settings: &Settings, ledger: &Condition) -> AdminAnswer {
        let (parts, routing) = (&*self.parts, &settings.routing);
        let default_target = routing.default_target();
        let reload_words = self.reloader.words();
        let vitals = Vitals {
            counters: &parts.counters,
            ready: match parts.readiness.now() {
                Ready::Yes if parts.ledger.is_in_trouble() => Ready::NoLedger,
                ready => ready,
            },
            routing_enabled: routing.enabled(),
            models_configured: routing.models_configured(),
            default_target: default_target.as_deref(),
            body_budget: &parts.budget,
            access_lines_dropped: parts.access_log.dropped(),
            version: env!("CARGO_PKG_VERSION"),
            uptime: self.started.elapsed(),
            upstreams: &settings.upstreams,
            now: clock::now(),
            ledger,
            clients: parts.directory.len(),
            site: &self.site,
            reload_words: reload_words.as_ref().map(|words| words.as_str()),
        };
        page.show(view, method, &vitals)
    }

    /// Lets a thread that may wait do it.
    async fn clients(
        &self,
        page: Page,
        operation: Option<Operation>,
        method: String,
        path: String,
        body: Vec<u8>,
    ) -> AdminAnswer {
        let Some(operation) = operation else { return AdminAnswer::no_page() };
        let directory = self.parts.directory.clone();
        let answered = spawn_blocking(move || {
            let asked = Asked { directory: &directory, method: &method, id: page.id_in(&path), body: &body };
            clients::answer(&asked, operation, page.take(&method))
        });
        answered.await.unwrap_or_else(|_| AdminAnswer::error(500, "the operation failed"))
    }

    /// Goes on to its end when the caller is gone meanwhile: the log says how it ended.
    async fn reload(&self) -> AdminAnswer {
        let reloader = self.reloader.clone();
        let outcome = spawn_blocking(move || reloader.reload()).await;
        let (status, document) = match outcome {
            Ok(Ok(reloaded)) => (
                200,
                json!({ "reloaded": true, "file": reloaded.file, "warnings": reloaded.warnings,
                                              "needs_upgrade": reloaded.needs_upgrade }),
            ),
            Ok(Err(refused)) => (422, json!({ "reloaded": false, "faults": refused.faults, "warnings": refused.warnings })),
            Err(_) => return AdminAnswer::error(500, "the reload failed"),
        };
        AdminAnswer::json(status, format!("{document}\n"))
    }
}
