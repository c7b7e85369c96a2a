//! `trollbridge explain`: where a request would go, by which rule, with which headers and at which price. Nothing is sent, nothing is
//! written.
//!
//! [`way`] walks the steps of a request by the code that serves requests; [`document`] tells what they said; [`text`] prints it.

mod document;
mod question;
#[cfg(test)]
mod tests;
mod text;
mod upstream;
mod way;

use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use http::{HeaderMap, HeaderName, HeaderValue, Method};

use crate::cli::exit::{EX_OK, Failure};
use crate::cli::files::CONFIG;
use crate::config;
use crate::domain::client::Caller;
use crate::domain::json::PeekError;
use crate::domain::settings::{Auth, Settings};
use crate::domain::upstream::registry::Registry;
use crate::ops::books::clients::operations;

use question::{Body, Question};

/// The request in question.
#[derive(clap::Args)]
pub struct ExplainArgs {
    /// The gateway's configuration
    #[arg(long, value_name = "FILE", default_value = CONFIG)]
    config: PathBuf,
    /// The model that the request names
    #[arg(long, required_unless_present_any = ["body", "method", "header"])]
    model: Option<String>,
    /// The request's path, with its query
    #[arg(long, default_value = "/v1/chat/completions")]
    path: String,
    /// The request's method
    #[arg(long, default_value = "POST")]
    method: Method,
    /// A header of the request, `name: value`; may be repeated. Of credentials and cookies only the name is shown
    #[arg(long, value_name = "HEADER", value_parser = header)]
    header: Vec<(HeaderName, HeaderValue)>,
    /// The client that asks, by its name or id: what it may use and spend counts too (read from the state directory)
    #[arg(long, value_name = "NAME")]
    client: Option<String>,
    /// A file with the request's body, - for standard input; it is read as the gateway reads it
    #[arg(long, value_name = "FILE", conflicts_with = "model")]
    body: Option<PathBuf>,
    /// Print JSON for programs
    #[arg(long)]
    json: bool,
}

/// Answers the question; gives the exit code: 0, or 64 for a configuration, a client or a body that can't be read.
///
/// A request that the gateway would refuse is an answer like another one, but for a body that is no JSON: that is the caller's slip.
pub fn run(args: &ExplainArgs, out: &mut dyn Write) -> u8 {
    match answer(args, out) {
        Ok(()) => EX_OK,
        Err(why) => Failure::usage(why).say(),
    }
}

fn answer(args: &ExplainArgs, out: &mut dyn Write) -> Result<(), String> {
    let settings = config::load_from_machine(&args.config, &Registry::default()).map_err(|faults| faults.to_string())?.settings;
    let body = match (&args.body, &args.model) {
        (Some(file), _) => Body::Whole(read(file)?),
        (None, Some(model)) => Body::OfModel(model.clone()),
        (None, None) => Body::None,
    };
    let caller = caller(&settings, args.client.as_deref())?;
    let (path, query) = args.path.split_once('?').map_or((&*args.path, None), |(path, query)| (path, Some(query)));
    let headers = args.header.iter().cloned().fold(HeaderMap::new(), |mut headers, (name, value)| {
        headers.append(name, value);
        headers
    });
    let question =
        Question { settings: &settings, caller: caller.as_ref(), method: &args.method, path, query, headers: &headers, body };
    let way = way::walk(&question);
    let told = document::document(&question, &way);
    // A reader that left early has seen what it wanted.
    let _ = if args.json { writeln!(out, "{told:#}") } else { text::write(&told, out) };
    match (&args.body, &question.body, &way.fault, &way.outcome) {
        (Some(file), Body::Whole(body), Some(fault), Err(_)) => Err(place_of(file, body, fault)),
        _ => Ok(()),
    }
}

fn read(file: &Path) -> Result<Vec<u8>, String> {
    let mut body = Vec::new();
    let read = match file == Path::new("-") {
        true => io::stdin().read_to_end(&mut body),
        false => std::fs::File::open(file).and_then(|mut file| file.read_to_end(&mut body)),
    };
    read.map(|_| body).map_err(|error| format!("{}: the body can't be read: {error}", name_of(file)))
}

fn name_of(file: &Path) -> String {
    if file == Path::new("-") { "standard input".to_owned() } else { file.display().to_string() }
}

fn place_of(file: &Path, body: &[u8], fault: &PeekError) -> String {
    let (line, column) = document::line_and_column(body, fault.offset().unwrap_or(0));
    format!("{}:{line}:{column}: {}", name_of(file), fault.public())
}

/// Finds who asks; the database is only read.
fn caller(settings: &Settings, name: Option<&str>) -> Result<Option<Caller>, String> {
    match (&settings.auth, name) {
        (Auth::None(_), None | Some(Caller::ANONYMOUS)) => Ok(Some(Caller::Anonymous)),
        (Auth::None(_), Some(name)) => {
            Err(format!("auth.mode is \"none\": nobody is asked for a key, so \"{name}\" is no client; leave --client out"))
        }
        (Auth::Keys { .. }, None) => Ok(None),
        (Auth::Keys { static_key: Some(_) }, Some(Caller::STATIC)) => Ok(Some(Caller::StaticKey)),
        (Auth::Keys { static_key: None }, Some(Caller::STATIC)) => {
            Err("auth.static_key is not set, so nobody is the client \"static\"".to_owned())
        }
        (Auth::Keys { .. }, Some(name)) => {
            let known = operations::look_up(&settings.state_dir, name);
            known.map(|known| Some(Caller::Client(known.into()))).map_err(|error| error.to_string())
        }
    }
}

fn header(text: &str) -> Result<(HeaderName, HeaderValue), String> {
    let (name, value) = text.split_once(':').ok_or("write it as `name: value`")?;
    let name = HeaderName::from_bytes(name.trim().as_bytes()).map_err(|_| "the name is no header's name")?;
    let value = HeaderValue::from_str(value.trim()).map_err(|_| "the value has characters that no header may have")?;
    Ok((name, value))
}
