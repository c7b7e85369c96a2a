//! `trollbridge client`: adds, lists, shows, revokes and credits clients. A running gateway follows within a second.

use std::io::{self, Write};

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use crate::cli::exit::{EX_OK, Failure};
use crate::cli::state::StateArgs;
use crate::domain::billing::signed_usd;
use crate::domain::client::{Client, date_time};
use crate::ops::books::clients::operations::{self, NewClient, OperationError};
use crate::ops::books::ledger::directory;
use crate::ops::books::ledger::fold::{FoldError, fold_once};
use crate::ops::books::store::{Store, StoreError, clients as rows, usage};

#[derive(Args)]
pub struct ClientArgs {
    #[command(subcommand)]
    command: ClientCommand,
}

#[derive(Subcommand)]
enum ClientCommand {
    /// Add a client and print its key, once: only a hash of it is kept
    Add(AddArgs),
    /// List all clients
    List {
        /// Print JSON for programs
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        state: StateArgs,
    },
    /// Show one client, its grants, and what it has spent of them
    Show {
        /// The client's name or id
        #[arg(value_name = "NAME")]
        client: String,
        /// Print JSON for programs
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        state: StateArgs,
    },
    /// Refuse a client's key from now on; requests under way go on
    Revoke {
        /// The client's name or id
        #[arg(value_name = "NAME")]
        client: String,
        /// Take the revocation back: the same key is good again
        #[arg(long)]
        undo: bool,
        #[command(flatten)]
        state: StateArgs,
    },
    /// Add to a client's balance, or take from it
    Credit {
        /// The client's name or id
        #[arg(value_name = "NAME")]
        client: String,
        /// US dollars: +5, -0.25
        #[arg(allow_hyphen_values = true)]
        amount: String,
        #[command(flatten)]
        state: StateArgs,
    },
}

#[derive(Args)]
struct AddArgs {
    /// How logs and the ledger call it; given once and never again
    name: String,
    /// Its balance in US dollars (1.50); without it the client is not limited, and can't be later
    #[arg(long, value_name = "USD")]
    credits: Option<String>,
    /// The models it may use, by any of their names, `prefix*` too; all where it is not given
    #[arg(long, value_name = "A,B*", value_delimiter = ',')]
    models: Vec<String>,
    /// When its key ends: 12h, 30d, 8w, 2027-01-31 (to the end of that day, UTC), 2027-01-31T12:00:00Z
    #[arg(long, value_name = "SPAN|DATE")]
    expires: Option<String>,
    /// Requests per minute; kept and shown, not enforced yet
    #[arg(long, value_name = "N")]
    rpm: Option<u64>,
    /// Tokens per minute; kept and shown, not enforced yet
    #[arg(long, value_name = "N")]
    tpm: Option<u64>,
    /// For operators
    #[arg(long, default_value = "")]
    note: String,
    /// Print {"id","name","key"}
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    state: StateArgs,
}

/// Runs one of them; gives the exit code: 0, 64 for what can't be done, 75 for a database that is locked, 70 for one that is broken.
pub fn run(args: &ClientArgs, out: &mut dyn Write) -> u8 {
    let done = match &args.command {
        ClientCommand::Add(args) => add(args, out),
        ClientCommand::List { json, state } => list(*json, state, out),
        ClientCommand::Show { client, json, state } => show(client, *json, state, out),
        ClientCommand::Revoke { client, undo, state } => revoke(client, *undo, state, out),
        ClientCommand::Credit { client, amount, state } => credit(client, amount, state, out),
    };
    match done {
        Ok(()) => EX_OK,
        // The reader left; what was asked is done.
        Err(Undone::Unprinted(error)) if error.kind() == io::ErrorKind::BrokenPipe => EX_OK,
        Err(Undone::Unprinted(error)) => Failure::software(format!("the answer can't be written: {error}")).say(),
        Err(Undone::Failed(failure)) => failure.say(),
    }
}

enum Undone {
    Failed(Failure),
    Unprinted(io::Error),
}

impl From<Failure> for Undone {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

impl From<OperationError> for Undone {
    fn from(error: OperationError) -> Self {
        let why = error.to_string();
        Self::Failed(match error {
            OperationError::Store(StoreError::Busy { .. }) => Failure::try_again(why),
            OperationError::Store(StoreError::Sqlite { .. }) => Failure::software(why),
            _ => Failure::usage(why),
        })
    }
}

impl From<StoreError> for Undone {
    fn from(error: StoreError) -> Self {
        OperationError::from(error).into()
    }
}

impl From<FoldError> for Undone {
    fn from(error: FoldError) -> Self {
        match error {
            FoldError::Store(error) => error.into(),
            unreadable => Failure::software(unreadable.to_string()).into(),
        }
    }
}

impl From<io::Error> for Undone {
    fn from(error: io::Error) -> Self {
        Self::Unprinted(error)
    }
}

fn add(args: &AddArgs, out: &mut dyn Write) -> Result<(), Undone> {
    let asked = NewClient {
        name: args.name.clone(),
        credits: args.credits.clone(),
        models: args.models.clone(),
        expires: args.expires.clone(),
        rpm: args.rpm,
        tpm: args.tpm,
        note: args.note.clone(),
    };
    let state_dir = args.state.state_dir()?;
    let is_new = !Store::exists(&state_dir);
    let store = Store::open(&state_dir)?;
    let (client, key) = operations::add(&store, &asked)?;
    if args.json {
        writeln!(out, "{}", operations::new_as_json(&client, &key))?;
    } else {
        writeln!(out, "client {} ({}), its key, which is shown this once:\n{}", client.name, client.id, key.reveal())?;
    }
    out.flush()?;
    if is_new {
        // An operator's shell seldom has the variables of the gateway's service.
        let dir = state_dir.display();
        let _ = writeln!(
            io::stderr(),
            "note: made a new database in {dir}; a gateway whose state_dir is another one will not see this client"
        );
    }
    Ok(())
}

fn list(json: bool, state: &StateArgs, out: &mut dyn Write) -> Result<(), Undone> {
    let clients = operations::list(&existing(state)?)?;
    if json {
        let clients: Vec<Value> = clients.iter().map(|client| operations::as_json(client, None)).collect();
        return Ok(writeln!(out, "{:#}", json!({ "clients": clients }))?);
    }
    let mut rows = vec![["NAME", "ID", "STATUS", "EXPIRES", "GRANTED", "MODELS"].map(str::to_owned)];
    let now_unix_s = operations::now_unix_s();
    rows.extend(clients.iter().map(|client| {
        let models = client.models.entries().join(",");
        [
            client.name.to_string(),
            client.id.to_string(),
            client.standing(now_unix_s).label().to_owned(),
            client.expires_at_unix_s.map_or_else(|| "never".to_owned(), date_time),
            granted(client),
            if models.is_empty() { "all".to_owned() } else { models },
        ]
    }));
    Ok(write_table(&rows, out)?)
}

fn show(client: &str, json: bool, state: &StateArgs, out: &mut dyn Write) -> Result<(), Undone> {
    let store = existing(state)?;
    let client = operations::show(&store, client)?;
    let grants = store.with(|conn| rows::grants(conn, &client.id))?;
    let mut shown = operations::as_json(&client, None);
    let grants: Vec<Value> =
        grants.into_iter().map(|(at, nano_usd)| json!({ "at": date_time(at), "amount": signed_usd(nano_usd) })).collect();
    if let (Some(Value::Object(credits)), Some(granted)) = (shown.get_mut("credits"), client.granted_nano_usd) {
        let spent = spent(&client, &store, state)?;
        credits.insert("spent".to_owned(), signed_usd(spent).into());
        credits.insert("balance".to_owned(), signed_usd(granted.saturating_sub(spent)).into());
        credits.insert("grants".to_owned(), grants.clone().into());
    }
    if json {
        return Ok(writeln!(out, "{shown:#}")?);
    }
    let text = |name: &str| match shown.get(name) {
        None | Some(Value::Null) => "-".to_owned(),
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    };
    for name in ["name", "id", "status", "key_fingerprint", "created_at", "expires_at", "revoked_at", "rpm", "tpm", "note"] {
        writeln!(out, "{name:<16} {}", text(name))?;
    }
    let models = client.models.entries().join(", ");
    writeln!(out, "{:<16} {}", "models", if models.is_empty() { "all" } else { &models })?;
    writeln!(out, "{:<16} {}", "granted", granted(&client))?;
    for grant in &grants {
        let part = |name| grant.get(name).and_then(Value::as_str).unwrap_or_default();
        writeln!(out, "{:<16} {} USD on {}", "", part("amount"), part("at"))?;
    }
    for name in ["spent", "balance"] {
        if let Some(amount) = shown.pointer(&format!("/credits/{name}")).and_then(Value::as_str) {
            writeln!(out, "{name:<16} {amount} USD")?;
        }
    }
    Ok(())
}

/// What the client was billed by now, in nano-dollars; what is in flight at a running gateway is not in it.
fn spent(client: &Client, store: &Store, state: &StateArgs) -> Result<i64, Undone> {
    let state_dir = state.state_dir()?;
    fold_once(&directory(&state_dir), store)?;
    let spent = store.with(|conn| usage::spent(conn))?.get(client.name.as_str()).map_or(0, |spent| spent.nanos());
    Ok(i64::try_from(spent).unwrap_or(i64::MAX))
}

fn revoke(client: &str, undo: bool, state: &StateArgs, out: &mut dyn Write) -> Result<(), Undone> {
    let store = existing(state)?;
    let client = if undo { operations::restore(&store, client)? } else { operations::revoke(&store, client)? };
    Ok(writeln!(out, "client {} is {}", client.name, client.standing(operations::now_unix_s()).label())?)
}

fn credit(client: &str, amount: &str, state: &StateArgs, out: &mut dyn Write) -> Result<(), Undone> {
    let client = operations::credit(&existing(state)?, client, amount)?;
    Ok(writeln!(out, "client {} was granted {} in all", client.name, granted(&client))?)
}

fn existing(state: &StateArgs) -> Result<Store, Undone> {
    Ok(Store::open_existing(&state.state_dir()?)?)
}

fn granted(client: &Client) -> String {
    client.granted_nano_usd.map_or_else(|| "not limited".to_owned(), |nano_usd| format!("{} USD", signed_usd(nano_usd)))
}

/// Writes rows with columns as wide as their widest cell.
fn write_table<const N: usize>(rows: &[[String; N]], out: &mut dyn Write) -> io::Result<()> {
    let mut widths = [0; N];
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = cell.chars().count().max(*width);
        }
    }
    for row in rows {
        let line: Vec<String> = row.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        writeln!(out, "{}", line.join("  ").trim_end())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let mut out = Vec::new();
        let row = |one: &str, two: &str| [one.to_owned(), two.to_owned()];
        write_table(&[row("NAME", "ID"), row("größer", "c")], &mut out).unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), "NAME    ID\ngrößer  c\n");
    }
}
