//! The program's own log: one line per event on the standard error, apart from the access log.
//!
//! A reader that has stalled must not stop a gateway: lines go to a thread of their own, and what its queue can't take is dropped and
//! counted.
//!
//! Secrets cannot get here: their type prints `*****`. Texts from outside cannot start a line of their own: control characters are
//! escaped on the way out.

use std::io::{self, Write};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use env_logger::{Builder, Env, Target};
use log::Record;

use crate::domain::settings::Settings;
use crate::ops::host::clock;
use crate::ops::watch::line;

/// What this file's lines in the log are called, wherever it lies.
const LOG: &str = "trollbridge::ops::log";

/// Of Pingora its warnings, and not what it says as an error and is none: each look for the old process at an upgrade, each kept
/// connection that was asked for a moment too early. Failures of either are told by lines of ours.
const OF_PINGORA: &str = "pingora_core=warn,pingora_core::server::transfer_fd=off,pingora_core::connectors=off";

/// Lines that wait for a slow reader.
const MOST_WAITING: usize = 4_096;
/// How long the end of the process waits for the last lines to be read.
const LAST_LINES: Duration = Duration::from_millis(300);
const LOOK_AGAIN: Duration = Duration::from_millis(2);

static WAITING: AtomicUsize = AtomicUsize::new(0);
static DROPPED: AtomicU64 = AtomicU64::new(0);

/// Starts the log at the level that `RUST_LOG` says, else at `info`. Where a log was started already, that one stays.
pub fn start() {
    start_at("info");
}

/// Lets the last lines go out, for as long as somebody reads them.
pub fn finish() {
    let until = Instant::now() + LAST_LINES;
    while WAITING.load(Ordering::Acquire) > 0 && Instant::now() < until {
        thread::park_timeout(LOOK_AGAIN);
    }
}

/// Where the lines go; env_logger gives one at a time.
struct Queue(SyncSender<Vec<u8>>);

impl Queue {
    fn begin() -> io::Result<Self> {
        let (queue, lines) = sync_channel(MOST_WAITING);
        thread::Builder::new().name("log".to_owned()).spawn(move || write_out(&lines, &mut io::stderr()))?;
        Ok(Self(queue))
    }
}

impl Write for Queue {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        WAITING.fetch_add(1, Ordering::AcqRel);
        if self.0.try_send(line.to_owned()).is_err() {
            WAITING.fetch_sub(1, Ordering::AcqRel);
            DROPPED.fetch_add(1, Ordering::Relaxed);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Writes until the process ends. Whoever reads again is told what is missing.
fn write_out(lines: &Receiver<Vec<u8>>, to: &mut impl Write) {
    for line in lines {
        // Without a standard error there is nobody to tell.
        let _ = to.write_all(&line);
        match DROPPED.swap(0, Ordering::Relaxed) {
            0 => {}
            dropped => {
                let _ = writeln!(to, "{dropped} lines of the log were dropped, as nobody read them");
            }
        }
        WAITING.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Starts the log at the level that `RUST_LOG` says, else at `level`.
pub fn start_at(level: &str) {
    let target = Queue::begin().map_or(Target::Stderr, |queue| Target::Pipe(Box::new(queue)));
    // Fails only where a logger is there already.
    let _ = Builder::from_env(Env::default().default_filter_or(format!("{level},{OF_PINGORA}")))
        .target(target)
        .format(|out, record| out.write_all(&record_line(clock::now_unix_ms(), record)))
        .try_init();
}

/// Logs what the configuration made (K12): one line per upstream, then the number of models.
pub fn announce(settings: &Settings) {
    for line in settings.startup_lines() {
        log::info!(target: LOG, "{line}");
    }
}

fn record_line(unix_ms: u64, record: &Record<'_>) -> Vec<u8> {
    let mut out = Vec::with_capacity(128);
    line::timestamp(&mut out, unix_ms);
    out.push(b' ');
    out.extend_from_slice(record.level().as_str().as_bytes());
    out.push(b' ');
    out.extend_from_slice(record.target().as_bytes());
    out.extend_from_slice(b": ");
    let message = record.args().to_string();
    line::message(&mut out, without_quotes(record.target(), &message));
    out.push(b'\n');
    out
}

/// Pingora quotes a head that it could not read, raw and whole, with whatever credentials are in it.
fn without_quotes<'m>(target: &str, message: &'m str) -> &'m str {
    let quote = if target.starts_with("pingora") { message.find(" buf: ") } else { None };
    quote.and_then(|at| message.get(..at)).unwrap_or(message)
}

#[cfg(test)]
mod tests {
    use log::Level;

    use super::*;

    #[test]
    fn a_reader_that_has_stalled_stops_nobody_and_is_told_what_it_missed() {
        let (queue, lines) = sync_channel(2);
        let mut queue = Queue(queue);
        for nth in 0..5 {
            assert!(queue.write_all(format!("{nth}\n").as_bytes()).is_ok());
        }
        drop(queue);
        let mut read = Vec::new();
        write_out(&lines, &mut read);
        assert_eq!(String::from_utf8(read).unwrap(), "0\n3 lines of the log were dropped, as nobody read them\n1\n");
    }

    #[test]
    fn a_head_that_pingora_could_not_read_is_not_quoted() {
        let message = "HTTP server fails to read from downstream: InvalidHTTPHeader context: buf: \"GET / HTTP/1.1\\r\\nauthorization: Bearer canary\"";
        let line = record_line(
            0,
            &Record::builder().level(Level::Error).target("pingora_core::apps::http_app").args(format_args!("{message}")).build(),
        );
        let line = String::from_utf8(line).unwrap();
        assert!(line.contains("InvalidHTTPHeader") && !line.contains("canary") && !line.contains("authorization"), "{line}");
    }

    #[test]
    fn a_line_has_time_level_target_and_message_and_stays_one_line() {
        let text = "upstream said \"no\"\r\n\u{1b}[31mFAKE\u{202e} é";
        let line = record_line(0, &Record::builder().level(Level::Warn).target("edge").args(format_args!("{text}")).build());
        assert_eq!(
            String::from_utf8(line).unwrap(),
            "1970-01-01T00:00:00.000Z WARN edge: upstream said \"no\"\\r\\n\\u001b[31mFAKE\\u202e é\n"
        );
    }
}
