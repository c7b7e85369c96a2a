//! A good answer: every byte passes as it came, but for those that a rewrite of ours asked for, and is read for its usage.

use std::mem;
use std::time::Duration;

use bytes::Bytes;

use crate::domain::answer::Refusal;
use crate::domain::billing::bill::has_tokens;
use crate::domain::dialect::Api;
use crate::domain::guard::GuardStream;
use crate::domain::json::AskedOutput;
use crate::domain::json::rename::{ModelRename, RenamePath};
use crate::domain::upstream::first_event::MOST_BYTES;
use crate::domain::usage::rewrite::SseRewrite;
use crate::domain::usage::whole::WholeEvents;
use crate::domain::usage::{Framing, Meter, Report, Shape};
use crate::ops::watch::counters::OpenStream;
use crate::relay::answer::clear::{Clear, Slice, Unread};
use crate::relay::answer::ending::{cut_event, ends_with_a_terminator, joined};
use crate::relay::answer::form::Form;
use crate::relay::note::{Note, Subject};
use crate::relay::stage::{Admitted, Arrived, Way};

/// No event that says something is that short.
const CRUMB_BYTES: usize = 16;

/// After so many, others get their turn; a stream that comes by the token has them in a second or more.
const CRUMBS_A_PAUSE: u32 = 64;
const CRUMB_PAUSE: Duration = Duration::from_millis(5);

/// A good answer, under way.
pub struct Passing {
    spoken: Api,
    sse: bool,
    /// JSON whose only end is that of the connection: whether it is whole shows in the JSON alone.
    unframed_json: bool,
    /// In an encoding that an event in clear text would break.
    encoded: bool,
    /// `None` once the body is at its end.
    guard: Option<GuardStream>,
    rewrite: Rewrite,
    meter: Meter,
    /// Of an answer that is compressed.
    clear: Option<Clear>,
    /// The client waits for an answer that an API of models gives: what is none is the provider's failure (P6).
    is_judged: bool,
    /// The meter does not get all of it, so its end is not judged: how much text it had counted until then.
    unmetered: Option<u64>,
    pause: Duration,
    /// Chunks that hold next to nothing.
    crumbs: u32,
    bytes: u64,
    /// Counts an event stream as open until it is dropped.
    _open: Option<OpenStream>,
}

enum Rewrite {
    None,
    /// Nothing changes, but half an event is kept back: it may be the last thing that comes.
    Whole(WholeEvents),
    Sse(SseRewrite),
    Json(ModelRename),
}

impl Passing {
    pub fn new(form: Form, admitted: &Admitted) -> Self {
        let Form { sse, unframed_json, encoded, decoder, unmeterable, .. } = form;
        let Admitted { arrived, way, .. } = admitted;
        let guard = &way.route.upstream.guard;
        let framing = if sse { Framing::Sse } else { Framing::Json };
        // Encoded in a way that nobody here can read: its usage is estimated, and its end is not judged.
        let unmetered = unmeterable.then_some(0);
        let shape = if unmetered.is_some() { Shape::None } else { Shape::of(way.spoken) };
        let AskedOutput { n, prompts, .. } = admitted.ask.output;
        let choices = n.unwrap_or(1).saturating_mul(prompts.unwrap_or(1));
        let scan = || (!guard.is_empty()).then(|| guard.scan());
        Self {
            spoken: way.spoken,
            sse,
            unframed_json,
            encoded,
            guard: Some(guard.stream()),
            rewrite: Rewrite::of(way, sse, encoded),
            // The text that passed is what a client owes that leaves before the usage comes.
            meter: Meter::new(shape, framing).counting_text().expecting(choices),
            clear: decoder.map(|decoder| Clear::new(decoder, scan(), arrived.settings.limits.decode)),
            is_judged: has_tokens(way.spoken),
            unmetered,
            pause: Duration::ZERO,
            crumbs: 0,
            bytes: 0,
            _open: sse.then(|| arrived.in_flight.open_stream()),
        }
    }

    pub fn is_sse(&self) -> bool {
        self.sse
    }

    pub fn changes_length(&self) -> bool {
        self.takes_events() || !matches!(self.rewrite, Rewrite::None)
    }

    pub fn takes_events(&self) -> bool {
        self.sse && !self.encoded
    }

    pub fn must_have_events(&self) -> bool {
        self.takes_events() && ends_with_a_terminator(self.spoken)
    }

    pub fn has_ended(&self) -> bool {
        self.meter.is_stream()
            && ends_with_a_terminator(self.spoken)
            && self.unmetered.is_none()
            && self.report().terminated
            && !self.is_no_answer()
    }

    /// Whether the client has a right to something that has not come: as far as the meter can tell, nothing of an answer.
    pub fn is_no_answer(&self) -> bool {
        self.is_judged && self.unmetered.is_none() && !self.meter.has_begun()
    }

    /// Whether it shows by now that it is an answer, or that nobody will be able to tell.
    pub fn has_begun(&self) -> bool {
        !self.is_no_answer() || self.bytes > MOST_BYTES as u64
    }

    /// Whether a JSON answer ended before its value did.
    fn is_damaged(&self) -> bool {
        self.is_judged && self.unmetered.is_none() && !self.meter.is_stream() && !self.meter.report().terminated
    }

    /// Whether it ended, if it ends here, in another way than an answer does.
    pub fn is_unfit(&self) -> bool {
        self.is_no_answer() || self.is_damaged()
    }

    /// Whether nothing is missing but what it costs (P8).
    pub fn awaits_usage(&self) -> bool {
        self.is_judged && self.meter.awaits_usage()
    }

    pub fn report(&self) -> Report {
        let report = self.meter.report();
        Report { text_bytes: report.text_bytes.max(self.unmetered.unwrap_or(0)), ..report }
    }

    pub fn take_pause(&mut self) -> Option<Duration> {
        let pause = mem::take(&mut self.pause);
        (!pause.is_zero()).then_some(pause)
    }

    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// What was kept back, at an end that the connection did not say.
    pub fn rest(&mut self) -> Bytes {
        let mut out = Vec::new();
        self.release(&mut out);
        joined(out).unwrap_or_default()
    }

    /// Whether the last word has gone by, or goes with this chunk: the books are closed before it leaves.
    pub fn is_over(&self, end: bool) -> bool {
        end || (self.meter.has_ended() && !self.is_no_answer())
    }

    /// Passes one chunk on; `held`: the client has seen nothing of the answer yet. `Ok(Some(_))`: the stream ended short and says so
    /// itself.
    ///
    /// # Errors
    ///
    /// What must not go on.
    pub fn pass(
        &mut self,
        chunk: &mut Option<Bytes>,
        end: bool,
        held: bool,
        arrived: &Arrived,
        notes: &mut Vec<Note>,
    ) -> Result<Option<Refusal>, Refusal> {
        self.slow_down_crumbs(chunk.as_ref());
        let mut out = Vec::new();
        let bytes = self.observe(chunk.take(), end, notes)?;
        let is_none = held && self.is_no_answer() && (end || self.meter.is_no_answer());
        if let Some(bytes) = bytes {
            let Some(guard) = &mut self.guard else { return Ok(None) };
            let safe = guard.push(bytes).map_err(|_| Refusal::LeakStopped)?;
            if is_none {
                return Err(Refusal::NoAnswer);
            }
            if !end && safe.before.is_empty() && self.rewrite.passes(&safe.chunk) {
                // Nearly every chunk of a stream: it passes as it came.
                self.bytes += safe.chunk.len() as u64;
                *chunk = Some(safe.chunk);
                return Ok(None);
            }
            for piece in safe.into_pieces() {
                self.rewrite.push(piece, &mut out);
            }
        }
        if is_none {
            return Err(Refusal::NoAnswer);
        }
        let mut ended_short = None;
        if end {
            match self.short_of(&self.report()) {
                None => self.release(&mut out),
                Some(detail) => {
                    let refusal =
                        if self.is_no_answer() { Refusal::NoAnswer } else { Refusal::Cut { detail: detail.to_owned() } };
                    if !self.takes_events() || held {
                        return Err(refusal);
                    }
                    self.release_whole_events(&mut out);
                    out.push(cut_event(arrived));
                    ended_short = Some(refusal);
                }
            }
        }
        *chunk = joined(out);
        self.bytes += chunk.as_ref().map_or(0, |bytes| bytes.len() as u64);
        Ok(ended_short)
    }

    /// An answer in pieces of a few bytes costs a thousand times what its bytes are worth: it has to leave room for others (A7).
    fn slow_down_crumbs(&mut self, chunk: Option<&Bytes>) {
        if chunk.is_some_and(|bytes| bytes.len() < CRUMB_BYTES) {
            self.crumbs += 1;
            if self.crumbs.is_multiple_of(CRUMBS_A_PAUSE) {
                self.pause += CRUMB_PAUSE;
            }
        }
    }

    /// Lets go, at the end, of what guard and rewrite kept back.
    fn release(&mut self, out: &mut Vec<Bytes>) {
        if let Some(rest) = self.guard.take().map(GuardStream::finish).filter(|rest| !rest.is_empty()) {
            self.rewrite.push(rest, out);
        }
        mem::replace(&mut self.rewrite, Rewrite::None).finish(out);
    }

    /// Lets go what is whole of what guard and rewrite kept back. Half an event is left out: what follows would be read as its rest.
    fn release_whole_events(&mut self, out: &mut Vec<Bytes>) {
        if let Some(rest) = self.guard.take().map(GuardStream::finish).filter(|rest| !rest.is_empty()) {
            self.rewrite.push(rest, out);
        }
        self.rewrite = Rewrite::None;
    }

    /// What is missing of a body that ended without an error.
    fn short_of(&self, report: &Report) -> Option<&'static str> {
        match report.terminated {
            true => None,
            false if self.meter.is_stream() && ends_with_a_terminator(self.spoken) => {
                Some("the stream ended without its terminator")
            }
            false if self.unframed_json => Some("the connection ended within the JSON body"),
            false => None,
        }
    }

    /// Shows the next bytes to the meter; gives those that may pass as far as their clear form tells.
    fn observe(&mut self, chunk: Option<Bytes>, end: bool, notes: &mut Vec<Note>) -> Result<Option<Bytes>, Refusal> {
        let Some(clear) = &mut self.clear else {
            chunk.iter().for_each(|bytes| self.meter.push(bytes));
            return Ok(chunk);
        };
        let unguarded = if clear.is_guarded() { None } else { chunk.clone() };
        match clear.push(chunk, end, &mut |plain| self.meter.push(plain)) {
            Ok(Slice { ready, is_unmetered, pause }) => {
                self.pause += pause;
                if is_unmetered {
                    self.stop_metering("it is longer than is read for it", notes);
                }
                Ok(ready)
            }
            Err(Unread::Leak) => Err(Refusal::LeakStopped),
            Err(why) if clear.is_guarded() => Err(Refusal::Unreadable { detail: why.to_string() }),
            Err(why) => {
                self.stop_metering(&why.to_string(), notes);
                self.clear = None;
                Ok(unguarded)
            }
        }
    }

    /// The bytes still pass: what can't be read is no usage, and the bill becomes an estimate.
    fn stop_metering(&mut self, why: &str, notes: &mut Vec<Note>) {
        if self.unmetered.is_none() {
            notes.push(Note::warning(Subject::Answer, format!("a compressed answer can't be read for its usage: {why}")));
            self.unmetered = Some(self.meter.report().text_bytes);
            self.meter = Meter::new(Shape::None, Framing::Json);
        }
    }
}

impl Rewrite {
    fn of(way: &Way, sse: bool, encoded: bool) -> Self {
        match &way.asked_model {
            // What is compressed passes as it is: a rewrite would have to compress it again.
            _ if encoded => Self::None,
            Some(name) if !sse => Self::Json(ModelRename::new(RenamePath::TopLevel, name)),
            name if sse && (name.is_some() || way.usage_asked_by_us) => {
                let rename = name.clone().map(|name| (event_path(way.spoken), name));
                Self::Sse(SseRewrite::new(way.usage_asked_by_us, rename))
            }
            _ if sse && ends_with_a_terminator(way.spoken) => Self::Whole(WholeEvents::default()),
            _ => Self::None,
        }
    }

    /// Whether a chunk goes on as it is.
    fn passes(&self, chunk: &[u8]) -> bool {
        match self {
            Self::None => true,
            Self::Whole(whole) => whole.passes(chunk),
            Self::Sse(_) | Self::Json(_) => false,
        }
    }

    fn push(&mut self, bytes: Bytes, out: &mut Vec<Bytes>) {
        match self {
            Self::None => out.push(bytes),
            Self::Whole(whole) => whole.push(bytes, out),
            Self::Sse(rewrite) => rewrite.push(bytes, out),
            Self::Json(rename) => rename.push(bytes, out),
        }
    }

    fn finish(self, out: &mut Vec<Bytes>) {
        match self {
            Self::None => {}
            Self::Whole(whole) => whole.finish(out),
            Self::Sse(rewrite) => rewrite.finish(out),
            Self::Json(rename) => rename.finish(out),
        }
    }
}

/// Where an event of the API that the upstream speaks names the model.
fn event_path(spoken: Api) -> RenamePath {
    match spoken {
        Api::Messages => RenamePath::Nested("message"),
        Api::Responses => RenamePath::Nested("response"),
        _ => RenamePath::TopLevel,
    }
}
