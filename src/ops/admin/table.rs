//! The table of the operator's pages (L5): where each is, what may be asked of it, by whom, and how it is answered.
//!
//! A request is matched with it once; what is refused and what is answered follows from the row. A new page is a row here and a function.

use http::HeaderMap;

use crate::domain::headers::presented_key;
use crate::domain::secret::Secret;
use crate::ops::admin::answer::AdminAnswer;
use crate::ops::admin::clients::{self, Operation};
use crate::ops::admin::views;
use crate::ops::watch::vitals::Vitals;

use Access::{Anybody, Operator};
use AnswerBy::{Clients, Disk, Memory, Reload};

/// A row of the table.
#[derive(Clone, Copy)]
pub struct Page {
    /// `ID` stands for one segment that is not empty, `*` at the end for anything.
    path: &'static str,
    /// As `allow` has them; empty where the method makes no difference.
    methods: &'static str,
    access: Access,
    pub answer: AnswerBy,
}

/// Who may see a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Whoever reaches the listener.
    Anybody,
    /// The holder of the token; at the control socket whoever reaches it.
    Operator,
}

/// What an answer takes.
#[derive(Clone, Copy)]
pub enum AnswerBy {
    /// The vitals without the ledger's: it says how the process fares and nothing else, and must not wait for a disk.
    Memory(View),
    /// The vitals, and a thread that may wait for the disk.
    Disk(View),
    /// The request's body, the database, and a thread that may wait for it. `None`: no operation is there.
    Clients(Option<Operation>),
    Reload,
}

/// Shows the vitals.
pub type View = fn(&Vitals<'_>) -> AdminAnswer;

const READ: &str = "GET, HEAD";

/// The first row that fits is the page.
const PAGES: &[Page] = &[
    page("/health", READ, Anybody, Memory(views::health)),
    page("/livez", READ, Anybody, Memory(views::live)),
    page("/health/live", READ, Anybody, Memory(views::live)),
    page("/readyz", READ, Anybody, Memory(views::ready)),
    page("/health/ready", READ, Anybody, Memory(views::ready)),
    page("/metrics", READ, Anybody, Disk(views::metrics)),
    page("/status.json", READ, Operator, Disk(views::status)),
    page("/clients", "GET, HEAD, POST", Operator, Clients(Some(clients::all))),
    page("/clients/ID", "GET, HEAD, DELETE", Operator, Clients(Some(clients::one))),
    page("/clients/ID/restore", "POST", Operator, Clients(Some(clients::restore))),
    page("/clients/ID/credit", "POST", Operator, Clients(Some(clients::credit))),
    page("/clients/*", "", Operator, Clients(None)),
    page("/reload", "POST", Operator, Reload),
];
/// Every other path. Whether a page exists is told to the token's owner only.
const NOWHERE: Page = page("", "", Operator, Disk(views::nothing));

const fn page(path: &'static str, methods: &'static str, access: Access, answer: AnswerBy) -> Page {
    Page { path, methods, access, answer }
}

impl Page {
    pub fn at(path: &str) -> Self {
        PAGES.iter().find(|page| page.fits(path)).copied().unwrap_or(NOWHERE)
    }

    /// Lets a request of the admin listener see the page; `token` is the configured one.
    ///
    /// # Errors
    ///
    /// The answer to give where the page needs a token and the request has not the right one, or where there is none to have.
    pub fn permit(&self, headers: &HeaderMap, token: Option<&Secret>) -> Result<(), AdminAnswer> {
        if self.access == Anybody {
            return Ok(());
        }
        let Some(token) = token else {
            return Err(AdminAnswer::error(
                403,
                "without admin.token in the configuration this listener answers health and metrics only",
            ));
        };
        match presented_key(headers) {
            Ok(Some(presented)) if token.matches(presented) => Ok(()),
            _ => Err(AdminAnswer {
                header: Some(("www-authenticate", "Bearer")),
                ..AdminAnswer::error(401, "send the admin token as `Authorization: Bearer TOKEN`")
            }),
        }
    }

    /// Whether the page takes a method.
    ///
    /// # Errors
    ///
    /// The answer that says which ones it takes.
    pub fn take(&self, method: &str) -> Result<(), AdminAnswer> {
        let takes = self.methods.is_empty() || self.methods.split(", ").any(|taken| taken == method);
        if takes { Ok(()) } else { Err(AdminAnswer::other_method(self.methods)) }
    }

    /// Shows the vitals by a view of this page.
    pub fn show(&self, view: View, method: &str, vitals: &Vitals<'_>) -> AdminAnswer {
        self.take(method).map_or_else(|refusal| refusal, |()| view(vitals))
    }

    /// What stands in a path of this page for `ID`, as it stands there.
    pub fn id_in<'p>(&self, path: &'p str) -> &'p str {
        let around = self.path.split_once("ID");
        around.and_then(|(before, behind)| path.strip_prefix(before)?.strip_suffix(behind)).unwrap_or_default()
    }

    fn fits(&self, path: &str) -> bool {
        match (self.path.contains("ID"), self.path.strip_suffix('*')) {
            (true, _) => matches!(self.id_in(path), id if !id.is_empty() && !id.contains('/')),
            (false, Some(before)) => path.starts_with(before),
            (false, None) => path == self.path,
        }
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;
    use crate::ops::watch::counters::Counters;
    use crate::ops::watch::metrics;
    use crate::ops::watch::readiness::Ready;

    fn ask(method: &str, path: &str, presented: Option<&'static str>, token: Option<&str>, ready: Ready) -> AdminAnswer {
        let mut headers = HeaderMap::new();
        if let Some(presented) = presented {
            headers.insert("authorization", HeaderValue::from_static(presented));
        }
        let (page, token) = (Page::at(path), token.and_then(Secret::new));
        if let Err(refusal) = page.permit(&headers, token.as_ref()) {
            return refusal;
        }
        match page.answer {
            AnswerBy::Memory(view) | AnswerBy::Disk(view) => Vitals::example(&Counters::default(), |vitals| {
                page.show(view, method, &Vitals { ready, models_configured: 2, ..*vitals })
            }),
            AnswerBy::Clients(_) | AnswerBy::Reload => panic!("{path} shows nothing"),
        }
    }

    #[test]
    fn l5_health_and_metrics_need_no_token() {
        for token in [None, Some("t-1")] {
            for path in ["/health", "/livez", "/health/live", "/readyz", "/health/ready", "/metrics"] {
                for method in ["GET", "HEAD"] {
                    assert_eq!(ask(method, path, None, token, Ready::Yes).status, 200, "{method} {path}");
                }
            }
        }
        assert!(ask("GET", "/health", None, None, Ready::Yes).body.contains("\"models_configured\":2"));
        assert!(ask("GET", "/metrics", None, None, Ready::Yes).body.contains("trollbridge_requests_total"));
        assert_eq!(ask("GET", "/metrics", None, None, Ready::Yes).content_type, metrics::CONTENT_TYPE);
    }

    #[test]
    fn l5_anything_else_is_refused_without_the_right_token() {
        for (presented, token, status) in [
            (None, None, 403),
            (Some("Bearer t-1"), None, 403),
            (None, Some("t-1"), 401),
            (Some("Bearer t-2"), Some("t-1"), 401),
            (Some("Bearer t-11"), Some("t-1"), 401),
            (Some("Basic t-1"), Some("t-1"), 401),
            (Some("Bearer t-1"), Some("t-1"), 404),
        ] {
            let of_status = if status == 404 { 200 } else { status };
            assert_eq!(ask("GET", "/status.json", presented, token, Ready::Yes).status, of_status, "{presented:?} {token:?}");
            for path in ["/", "/client", "/metrics/", "/health/../clients"] {
                assert_eq!(ask("GET", path, presented, token, Ready::Yes).status, status, "{path} {presented:?} {token:?}");
            }
        }
    }

    #[test]
    fn l5_the_token_is_never_in_an_answer() {
        for path in ["/health", "/metrics", "/status.json", "/readyz"] {
            for presented in [None, Some("Bearer canary-7"), Some("Bearer canary-8")] {
                let answer = ask("GET", path, presented, Some("canary-7"), Ready::Yes);
                assert!(!format!("{answer:?}").contains("canary"), "{path}");
            }
        }
    }

    #[test]
    fn l3_a_draining_process_is_alive_but_not_ready() {
        assert_eq!(ask("GET", "/readyz", None, None, Ready::Draining).status, 503);
        assert_eq!(ask("GET", "/readyz", None, None, Ready::Starting).status, 503);
        assert_eq!(ask("GET", "/livez", None, None, Ready::Draining).status, 200);
    }

    #[test]
    fn other_methods_are_told_which_ones_work() {
        let answer = ask("POST", "/metrics", None, None, Ready::Yes);
        assert_eq!((answer.status, answer.header), (405, Some(("allow", "GET, HEAD"))));
    }

    #[test]
    fn l5_a_page_is_where_the_table_has_it_and_nowhere_else() {
        for (path, at, id) in [
            ("/clients", "/clients", ""),
            ("/clients/a", "/clients/ID", "a"),
            ("/clients/credit", "/clients/ID", "credit"),
            ("/clients/a/credit", "/clients/ID/credit", "a"),
            ("/clients/a%2fb/restore", "/clients/ID/restore", "a%2fb"),
            ("/clients/", "/clients/*", ""),
            ("/clients/a/", "/clients/*", ""),
            ("/clients/a/key", "/clients/*", ""),
            ("/clients//credit", "/clients/*", ""),
            ("/clients/a/b/credit", "/clients/*", ""),
            ("/clientsx", "", ""),
            ("/reload", "/reload", ""),
            ("/reload/", "", ""),
            ("", "", ""),
        ] {
            assert_eq!((Page::at(path).path, Page::at(path).id_in(path)), (at, id), "{path}");
        }
    }

    #[test]
    fn l5_only_health_and_metrics_are_for_anybody() {
        let open: Vec<_> = PAGES.iter().filter(|page| page.access == Access::Anybody).map(|page| page.path).collect();
        assert_eq!(open, ["/health", "/livez", "/health/live", "/readyz", "/health/ready", "/metrics"]);
        assert_eq!(NOWHERE.access, Access::Operator);
    }
}
