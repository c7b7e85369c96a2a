//! What a client may still spend: reserved before a request goes out, settled when its cost is known (G4).
//!
//! ```text
//! balance = grants − settled          free = balance − reserved
//! ```
//! One number decides: a reservation takes its amount out of `free` in one atomic step or not at all, so any number of requests at one
//! time never reserve more than there is. Settling puts the difference back. A balance falls below zero only by what a request costs
//! beyond its reservation; the next reservation is refused then.
//!
//! # Who adds what, so that nothing counts twice
//!
//! 1. **Start.** An account begins with the grants of the store minus what the ledger's roll-ups (folded segments) hold for the client at
//!    that moment.
//! 2. **Own requests.** [`Reservation::settle`] takes their cost at once. A reservation that is dropped costs nothing.
//! 3. **Costs of others.** A segment that *this* process wrote changes nothing here: its costs were taken at step 2. A segment of another
//!    writer (the other process of an upgrade, or one that was killed) was not counted at step 1 beyond where it was folded: its entries
//!    are [settled](Account::settle) as they are found there, each once.
//! 4. **Reservations of others.** What another writer has open is [held](Account::hold), from its open in the segment until its close is
//!    found there, or until somebody has looked after a writer that was killed. An account begins with what is open at step 1.
//! 5. **Grants.** A change of the grants in the store reaches the account as a difference.
//!
//! # Two processes
//!
//! During an upgrade both reserve. While another process writes, a reservation is made in turns: this process reads what the other one
//! has written, reserves, and writes its open, and only then the other one may (`ops::books::ledger::company`). So the two together never reserve
//! more than there is, and a balance falls below zero only as it does with one. Where a process is stopped in the middle of its turn the
//! other one does not wait for it: what the stopped one has reserved in that moment comes on top. A close that is not read yet, or that a
//! full disk keeps in memory, leaves its reservation held: too little is free then, never too much.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use crate::domain::billing::{MostTokens, NanoUsd, Price};
use crate::domain::dialect::Api;
use crate::domain::json::AskedOutput;

/// Bytes of a request's body per token, for the estimate before the provider counts.
///
/// OpenAI speaks of four characters a token and Anthropic of 3.5 for English text; code and JSON come near three, and so do most other
/// scripts in UTF-8 bytes (a Chinese character has three bytes and is about one token). The body's own JSON only adds bytes.
pub const BYTES_PER_TOKEN: u64 = 3;

/// One client's money in this process.
#[derive(Debug)]
pub struct Account {
    /// Grants − settled − reserved, in nano-dollars.
    free: AtomicI64,
    reserved: AtomicI64,
}

/// What a reservation lacks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Short {
    pub missing: NanoUsd,
}

/// Money set aside for one request; dropped unsettled, it goes back whole.
#[derive(Debug)]
#[must_use = "a dropped reservation is released"]
pub struct Reservation {
    account: Arc<Account>,
    amount_nano_usd: i64,
}

impl Account {
    /// An account with this balance: grants minus what the ledger's roll-ups hold.
    pub fn new(balance_nano_usd: i64) -> Self {
        Self { free: AtomicI64::new(balance_nano_usd), reserved: AtomicI64::new(0) }
    }

    /// Sets `amount` aside if that much is free; `amount` of a request that costs nothing is refused only below zero.
    ///
    /// # Errors
    ///
    /// How much is missing.
    pub fn reserve(self: &Arc<Self>, amount: NanoUsd) -> Result<Reservation, Short> {
        let amount = signed(amount);
        let taken = self
            .free
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |free| if free < amount { None } else { Some(free - amount) });
        match taken {
            Ok(_) => {
                self.reserved.fetch_add(amount, Ordering::Relaxed);
                Ok(Reservation { account: self.clone(), amount_nano_usd: amount })
            }
            Err(free) => Err(Short { missing: NanoUsd::from_nanos(amount.abs_diff(free)) }),
        }
    }

    /// Sets aside what another process has reserved already, whether it is free here or not.
    pub fn hold(self: &Arc<Self>, amount: NanoUsd) -> Reservation {
        let amount = signed(amount);
        self.add(-amount);
        self.reserved.fetch_add(amount, Ordering::Relaxed);
        Reservation { account: self.clone(), amount_nano_usd: amount }
    }

    /// Takes a cost that was not reserved here: an entry of another writer's segment.
    pub fn settle(&self, cost: NanoUsd) {
        self.add(-signed(cost));
    }

    /// Adds a grant, or takes one back.
    pub fn grant(&self, difference_nano_usd: i64) {
        self.add(difference_nano_usd);
    }

    /// Grants − settled, in nano-dollars. Exact when no request is in between reserving and settling at this moment.
    pub fn balance_nano_usd(&self) -> i64 {
        self.free_nano_usd().saturating_add(self.reserved_nano_usd())
    }

    pub fn reserved_nano_usd(&self) -> i64 {
        self.reserved.load(Ordering::Acquire)
    }

    /// What can be reserved.
    pub fn free_nano_usd(&self) -> i64 {
        self.free.load(Ordering::Acquire)
    }

    fn add(&self, difference: i64) {
        // Always `Some`.
        let _ = self.free.fetch_update(Ordering::AcqRel, Ordering::Acquire, |free| Some(free.saturating_add(difference)));
    }
}

impl Reservation {
    pub fn amount(&self) -> NanoUsd {
        NanoUsd::from_nanos(self.amount_nano_usd.unsigned_abs())
    }

    /// Ends the request at what it cost; the rest of the reservation is free again.
    pub fn settle(self, cost: NanoUsd) {
        self.account.add(-signed(cost));
        // Dropping gives the reservation back: first the cost is taken, so that nobody reserves it in between.
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.account.reserved.fetch_sub(self.amount_nano_usd, Ordering::Relaxed);
        self.account.add(self.amount_nano_usd);
    }
}

/// What a request may cost at most, as far as its body tells: the input by its bytes at the dearest class that input is billed at,
/// the output by what the request allows in the API that was asked, for each answer that it asks for; neither the input nor one answer beyond `most`.
///
/// Counting tokens is free, and embeddings have no output. An estimate that is too high refuses a client a little early, one that is too
/// low lets parallel requests overspend: hence the dearest class.
pub fn estimate(price: &Price, asked: Api, body_bytes: usize, output: AskedOutput, most: MostTokens) -> NanoUsd {
    let input_tokens = u64::try_from(body_bytes).unwrap_or(u64::MAX).div_ceil(BYTES_PER_TOKEN).min(most.input);
    match asked {
        Api::CountTokens | Api::Models | Api::Root => NanoUsd::ZERO,
        Api::Embeddings => price.cost_at_most(input_tokens, 0),
        _ => price.cost_at_most(input_tokens, of_one_answer(asked, output, most.output).saturating_mul(answers(asked, output))),
    }
}

/// The output tokens of one answer: the largest limit among the fields that the API knows. A field that it does not know limits nothing
/// at the provider, so it must not lower the reservation.
///
/// A limit of 0 counts as none: who forwards a request from a Go struct with `omitempty` drops it.
fn of_one_answer(asked: Api, output: AskedOutput, most: u64) -> u64 {
    let AskedOutput { max_tokens, max_completion_tokens, max_output_tokens, .. } = output;
    let limit = match asked {
        Api::ChatCompletions => max_tokens.max(max_completion_tokens),
        Api::Completions | Api::Messages | Api::CountTokens => max_tokens,
        Api::Responses => max_output_tokens,
        Api::Embeddings | Api::Models | Api::Root | Api::Other | Api::Unknown => {
            max_tokens.max(max_completion_tokens).max(max_output_tokens)
        }
    };
    limit.filter(|limit| *limit > 0).unwrap_or(u64::MAX).min(most)
}

/// How many answers are generated. `best_of` is the number of candidates of which the `n` best are given, not a factor of `n`; each
/// prompt of a text completion gets as many.
fn answers(asked: Api, output: AskedOutput) -> u64 {
    let of_one_prompt = output.n.max(output.best_of).unwrap_or(1).max(1);
    match asked {
        Api::ChatCompletions => of_one_prompt,
        Api::Completions => of_one_prompt.saturating_mul(output.prompts.unwrap_or(1).max(1)),
        _ => 1,
    }
}

fn signed(amount: NanoUsd) -> i64 {
    i64::try_from(amount.nanos()).unwrap_or(i64::MAX)
}

#[cfg(test)]
#[path = "credit_tests.rs"]
mod tests;
