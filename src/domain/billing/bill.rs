//! What is billed for an answer, by how it ended (U7).
//!
//! | end | billed |
//! |---|---|
//! | whole, with its totals | what the provider reported |
//! | whole, without usage or with a running count alone | an estimate, marked so |
//! | the client left | `billing.on_client_gone` |
//! | the upstream cut it off, or reported an error within it | `billing.on_upstream_cut` |
//! | the gateway itself ended | an estimate where the usage had not come, marked so; nothing where `billing.on_upstream_cut` is `free` |
//! | anything else | nothing: no answer came |
//!
//! A report with an absurd count (`billing.max_counted_tokens`) counts as none, and so does one of nothing but zeros beside text that passed. An estimate
//! takes what was observed, and puts in place of what is missing a token for every four bytes of the request's body and of the text that
//! passed, at most `billing.max_input_tokens` of input: an image in a body is no text. It is never lower than what was observed.

use std::sync::Arc;

use crate::domain::billing::condition::When;
use crate::domain::billing::line::{BillLine, cost_of};
use crate::domain::billing::price::Unpriced;
use crate::domain::billing::{Billing, Decimal, NanoUsd, OnLoss, Price};
use crate::domain::dialect::Api;
use crate::domain::end::End;
use crate::domain::usage::{Facts, Other, Report, Source, Usage};

/// Four characters of English text a token, as OpenAI has it: <https://help.openai.com/en/articles/4936856>. Unlike a reservation an
/// estimate is billed, so it doesn't err upwards.
const BYTES_PER_TOKEN: u64 = 4;

/// What the gateway saw of an answer.
#[derive(Clone, Debug)]
pub struct Seen {
    /// What API the upstream spoke: by it the provider is paid, whatever the client asked.
    pub spoken: Api,
    pub end: End,
    /// `None`: no good answer began.
    pub report: Option<Report>,
    /// The request went out to an upstream.
    pub was_sent: bool,
    pub request_bytes: u64,
    /// Of an answer that is no event stream.
    pub json_bytes: u64,
}

/// What the client pays, and what for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bill {
    /// Of all models together. `None` exactly when `source` is [`Source::None`].
    pub usage: Option<Usage>,
    pub source: Source,
    pub cost: NanoUsd,
    /// What the cost is the sum of, rounded once.
    pub lines: Vec<BillLine>,
    /// The conditions by which prices were chosen.
    pub conditions: Vec<(When, Option<Decimal>)>,
    pub unpriced: Vec<Unpriced>,
}

/// The prices of an answer.
pub trait Prices {
    /// Of the model that was asked for.
    fn main(&self) -> &Price;
    /// Of another one that the answer names.
    fn of(&self, model: &str) -> Price;
}

impl Bill {
    /// Nothing came, so nothing is owed.
    pub const NOTHING: Self = Self {
        usage: None,
        source: Source::None,
        cost: NanoUsd::ZERO,
        lines: Vec::new(),
        conditions: Vec::new(),
        unpriced: Vec::new(),
    };

    pub fn of(seen: &Seen, policy: &Billing, prices: &impl Prices) -> Self {
        // A count at its bound is a slip of the provider's (a wrapped −1), not what anybody used; and so are zeros beside text.
        let has_text = seen.report.as_ref().is_some_and(|report| report.text_bytes > 0);
        let most = policy.max_counted_tokens;
        let is_absurd =
            |report: &Report| report.others.iter().map(|other| &other.usage).chain(&report.usage).any(|of| of.is_beyond(most));
        let is_absurd = seen.report.as_ref().is_some_and(is_absurd);
        let is_slip = |usage: &Usage| is_absurd || (has_text && *usage == Usage::default());
        let observed =
            seen.report.as_ref().and_then(|report| Some((report.usage.filter(|usage| !is_slip(usage))?, report.source)));
        let began = seen.report.is_some();
        let rule = match seen.end {
            End::Ok if matches!(observed, Some((_, Source::Final))) => OnLoss::Observed,
            End::Ok => OnLoss::Estimate,
            End::ClientGone if began || seen.was_sent => policy.on_client_gone,
            End::UpstreamCut | End::UpstreamError if began => policy.on_upstream_cut,
            // The provider did its work, and is paid for it by the operator.
            End::Interrupted if began && policy.on_upstream_cut != OnLoss::Free => OnLoss::Estimate,
            End::Interrupted if began => OnLoss::Free,
            End::ClientGone | End::UpstreamCut | End::UpstreamError | End::Refused | End::Interrupted => return Self::NOTHING,
        };
        let (usage, source) = match (rule, observed) {
            (OnLoss::Estimate, Some((usage, Source::Final))) => (usage, Source::Final),
            (OnLoss::Estimate, _) if has_tokens(seen.spoken) => estimate(seen, observed, policy.most_tokens.input),
            (_, Some(observed)) => observed,
            (_, None) => return Self::NOTHING,
        };
        let others = seen.report.as_ref().filter(|_| !is_absurd).map_or(&[][..], |report| &report.others);
        let all = others.iter().fold(usage, |sum, other| sum.plus(&other.usage));
        let facts = seen.report.as_ref().map(|report| report.facts).unwrap_or_default();
        let mut bill = Self { usage: Some(all), source, ..Self::charged(prices, &usage, others, &facts) };
        if rule == OnLoss::Free {
            bill.lines.iter_mut().for_each(|line| line.times = Decimal::ZERO);
            bill.cost = NanoUsd::ZERO;
        }
        bill
    }

    /// The lines of the model that was asked for, then those of others.
    pub fn charged(prices: &impl Prices, usage: &Usage, others: &[Other], facts: &Facts) -> Self {
        let mut charge = prices.main().charge(usage, facts);
        for other in others {
            // Its own tier or speed is nowhere said.
            let of_other = prices.of(&other.model).charge(&other.usage, &Facts::default());
            let model: Arc<str> = other.model.as_ref().into();
            charge.lines.extend(of_other.lines.into_iter().map(|line| BillLine { model: Some(model.clone()), ..line }));
            charge.unpriced.extend(of_other.unpriced);
        }
        Self {
            cost: cost_of(&charge.lines),
            lines: charge.lines,
            conditions: charge.conditions,
            unpriced: charge.unpriced,
            ..Self::NOTHING
        }
    }
}

/// One price for all.
impl Prices for Price {
    fn main(&self) -> &Price {
        self
    }

    fn of(&self, _model: &str) -> Price {
        self.clone()
    }
}

/// Whether the API is paid by the token at all; of others nothing is invented.
pub fn has_tokens(spoken: Api) -> bool {
    matches!(spoken, Api::ChatCompletions | Api::Completions | Api::Messages | Api::Responses | Api::Embeddings)
}

fn estimate(seen: &Seen, observed: Option<(Usage, Source)>, most_input: u64) -> (Usage, Source) {
    let (before, source) = observed.unwrap_or((Usage::default(), Source::None));
    let mut usage = before;
    let has_input = before != Usage { output_tokens: before.output_tokens, ..Usage::default() };
    if !has_input {
        usage.input_tokens = seen.request_bytes.div_ceil(BYTES_PER_TOKEN).min(most_input);
    }
    if seen.spoken != Api::Embeddings {
        let text_bytes = seen.report.as_ref().map_or(0, |report| report.text_bytes).max(seen.json_bytes);
        usage.output_tokens = before.output_tokens.max(text_bytes.div_ceil(BYTES_PER_TOKEN));
    }
    (usage, if usage == before && source != Source::None { source } else { Source::Estimated })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::billing::{MostTokens, Rates};

    fn price() -> Price {
        let (input, output) = (Decimal::parse("3").unwrap(), Decimal::parse("15").unwrap());
        Price::new(Rates::derive(input, output, None, None, None), Decimal::ONE)
    }

    fn policy(on_client_gone: OnLoss, on_upstream_cut: OnLoss) -> Billing {
        Billing {
            on_client_gone,
            on_upstream_cut,
            require_price: false,
            require_credits: false,
            default_price: price(),
            max_counted_tokens: 100_000_000,
            most_tokens: MostTokens { input: 1_000, output: 1_000 },
        }
    }

    fn report(usage: Option<(u64, u64)>, source: Source, text_bytes: u64) -> Report {
        let usage = usage.map(|(input_tokens, output_tokens)| Usage { input_tokens, output_tokens, ..Usage::default() });
        Report {
            usage,
            others: Vec::new(),
            facts: Facts::default(),
            source,
            terminated: false,
            error_event: false,
            clamped: 0,
            text_bytes,
        }
    }

    fn seen(end: End, report: Option<Report>) -> Seen {
        Seen { spoken: Api::Messages, end, report, was_sent: true, request_bytes: 4_000, json_bytes: 0 }
    }

    fn bill(seen: &Seen, gone: OnLoss, cut: OnLoss) -> (Option<(u64, u64)>, Source, u64) {
        let bill = Bill::of(seen, &policy(gone, cut), &price());
        (bill.usage.map(|usage| (usage.input_tokens, usage.output_tokens)), bill.source, bill.cost.nanos())
    }

    #[test]
    fn u7_a_whole_answer_costs_what_the_provider_reported() {
        let whole = seen(End::Ok, Some(report(Some((10, 20)), Source::Final, 9_999)));
        assert_eq!(bill(&whole, OnLoss::Free, OnLoss::Free), (Some((10, 20)), Source::Final, 330_000));
    }

    #[test]
    fn u7_a_client_that_leaves_before_the_usage_event_pays_for_the_text_it_saw() {
        let partial = seen(End::ClientGone, Some(report(Some((700, 1)), Source::Partial, 401)));
        assert_eq!(bill(&partial, OnLoss::Estimate, OnLoss::Free), (Some((700, 101)), Source::Estimated, 3_615_000));
        assert_eq!(bill(&partial, OnLoss::Observed, OnLoss::Free), (Some((700, 1)), Source::Partial, 2_115_000));
        assert_eq!(bill(&partial, OnLoss::Free, OnLoss::Estimate), (Some((700, 1)), Source::Partial, 0));
        let nothing = seen(End::ClientGone, Some(report(None, Source::None, 400)));
        assert_eq!(bill(&nothing, OnLoss::Estimate, OnLoss::Free), (Some((1_000, 100)), Source::Estimated, 4_500_000));
        assert_eq!(bill(&nothing, OnLoss::Observed, OnLoss::Free), (None, Source::None, 0));
    }

    #[test]
    fn u7_leaving_before_the_first_byte_is_no_free_ride_once_the_request_was_sent() {
        let sent = seen(End::ClientGone, None);
        assert_eq!(bill(&sent, OnLoss::Estimate, OnLoss::Free), (Some((1_000, 0)), Source::Estimated, 3_000_000));
        assert_eq!(bill(&Seen { was_sent: false, ..sent.clone() }, OnLoss::Estimate, OnLoss::Free), (None, Source::None, 0));
    }

    #[test]
    fn u7_after_the_final_usage_there_is_nothing_to_estimate() {
        let known = seen(End::ClientGone, Some(report(Some((10, 20)), Source::Final, 9_999)));
        assert_eq!(bill(&known, OnLoss::Estimate, OnLoss::Free), (Some((10, 20)), Source::Final, 330_000));
    }

    #[test]
    fn u7_what_an_upstream_cut_costs_is_what_was_observed_unless_told_otherwise() {
        for end in [End::UpstreamCut, End::UpstreamError] {
            let cut = seen(end, Some(report(Some((10, 1)), Source::Partial, 80)));
            assert_eq!(bill(&cut, OnLoss::Free, OnLoss::Observed), (Some((10, 1)), Source::Partial, 45_000));
            assert_eq!(bill(&cut, OnLoss::Free, OnLoss::Estimate), (Some((10, 20)), Source::Estimated, 330_000));
            assert_eq!(bill(&cut, OnLoss::Estimate, OnLoss::Free), (Some((10, 1)), Source::Partial, 0));
        }
    }

    #[test]
    fn a_running_count_is_not_the_bill_of_a_whole_answer() {
        let running = seen(End::Ok, Some(report(Some((10, 1)), Source::Partial, 80)));
        assert_eq!(bill(&running, OnLoss::Free, OnLoss::Free), (Some((10, 20)), Source::Estimated, 330_000));
    }

    #[test]
    fn u8_an_absurd_count_is_not_billed_but_estimated() {
        let wrapped = seen(End::Ok, Some(report(Some((100_000_001, 20)), Source::Final, 80)));
        assert_eq!(bill(&wrapped, OnLoss::Free, OnLoss::Free), (Some((1_000, 20)), Source::Estimated, 3_300_000));
        let largest = seen(End::Ok, Some(report(Some((100_000_000, 20)), Source::Final, 80)));
        assert_eq!(bill(&largest, OnLoss::Free, OnLoss::Free), (Some((100_000_000, 20)), Source::Final, 300_000_300_000));
    }

    #[test]
    fn an_image_in_a_body_is_no_text() {
        let image = Seen { request_bytes: 8_000_000, ..seen(End::ClientGone, Some(report(None, Source::None, 0))) };
        assert_eq!(bill(&image, OnLoss::Estimate, OnLoss::Free), (Some((1_000, 0)), Source::Estimated, 3_000_000));
    }

    #[test]
    fn a_stream_that_the_gateways_own_end_cuts_off_costs_what_it_said_until_then() {
        let cut = seen(End::Interrupted, Some(report(Some((10, 1)), Source::Partial, 80)));
        assert_eq!(bill(&cut, OnLoss::Free, OnLoss::Observed), (Some((10, 20)), Source::Estimated, 330_000));
        assert_eq!(bill(&cut, OnLoss::Estimate, OnLoss::Free), (Some((10, 1)), Source::Partial, 0));
        assert_eq!(bill(&Seen { report: None, ..cut.clone() }, OnLoss::Free, OnLoss::Observed), (None, Source::None, 0));
    }

    #[test]
    fn u7_zeros_beside_text_are_no_report() {
        let zeros = seen(End::Ok, Some(report(Some((0, 0)), Source::Final, 401)));
        assert_eq!(bill(&zeros, OnLoss::Free, OnLoss::Free), (Some((1_000, 101)), Source::Estimated, 4_515_000));
        let gone = Seen { end: End::ClientGone, ..zeros.clone() };
        assert_eq!(bill(&gone, OnLoss::Observed, OnLoss::Free), (None, Source::None, 0));
        let silent = seen(End::Ok, Some(report(Some((0, 0)), Source::Final, 0)));
        assert_eq!(bill(&silent, OnLoss::Free, OnLoss::Free), (Some((0, 0)), Source::Final, 0), "nothing contradicts it");
        let output_alone = seen(End::Ok, Some(report(Some((0, 7)), Source::Final, 401)));
        assert_eq!(
            bill(&output_alone, OnLoss::Free, OnLoss::Free),
            (Some((0, 7)), Source::Final, 105_000),
            "a final count stays"
        );
    }

    #[test]
    fn u7_an_error_in_place_of_an_answer_costs_nothing() {
        for end in [End::UpstreamError, End::UpstreamCut, End::Refused] {
            assert_eq!(bill(&seen(end, None), OnLoss::Estimate, OnLoss::Estimate), (None, Source::None, 0));
        }
    }

    #[test]
    fn a_whole_answer_without_usage_is_estimated_where_tokens_are_what_is_paid() {
        let silent = Seen { json_bytes: 800, ..seen(End::Ok, Some(report(None, Source::None, 0))) };
        assert_eq!(bill(&silent, OnLoss::Free, OnLoss::Free), (Some((1_000, 200)), Source::Estimated, 6_000_000));
        let embeddings = Seen { spoken: Api::Embeddings, ..silent.clone() };
        assert_eq!(bill(&embeddings, OnLoss::Free, OnLoss::Free), (Some((1_000, 0)), Source::Estimated, 3_000_000));
        for spoken in [Api::CountTokens, Api::Other] {
            assert_eq!(bill(&Seen { spoken, ..silent.clone() }, OnLoss::Estimate, OnLoss::Estimate), (None, Source::None, 0));
        }
    }
}
