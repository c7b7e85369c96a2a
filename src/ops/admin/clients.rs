//! The clients on the admin listener: the commands' operations as HTTP and JSON, for the holder of the admin token.
//!
//! | request | does | answer |
//! |---|---|---|
//! | `GET /clients` | lists | 200 `{"clients":[…]}` |
//! | `POST /clients` `{"name",…}` | adds | 201 `{"id","name","key"}`: the only time that the key is seen |
//! | `GET /clients/ID` | shows one, with its live balance | 200 |
//! | `DELETE /clients/ID` | revokes | 200, the client as it is now |
//! | `POST /clients/ID/restore` | takes a revocation back | 200 |
//! | `POST /clients/ID/credit` `{"amount":"+1.50"}` | changes the balance | 200 |
//!
//! `ID` is an id or a name. A change is in force for the next request that this process admits.

use percent_encoding::percent_decode_str;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::domain::client::Client;
use crate::ops::admin::answer::AdminAnswer;
use crate::ops::books::clients::Directory;
use crate::ops::books::clients::operations::{self, NewClient, OperationError};
use crate::ops::books::store::{Store, StoreError};

/// What this file's lines in the log are called, wherever it lies.
const LOG: &str = "trollbridge::ops::clients::admin";

/// The largest body that is read: the longest client has a page of text.
pub const MAX_BODY_BYTES: usize = 64 * 1024;

/// What a path below `/clients` asks for.
enum Place<'p> {
    All,
    One(&'p str),
    Credit(&'p str),
    Restore(&'p str),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Amount {
    amount: String,
}

/// Whether a path is answered here.
pub fn is_here(path: &str) -> bool {
    path == "/clients" || path.starts_with("/clients/")
}

/// Answers one request whose token was right. Waits for the disk: not for an async thread.
pub fn answer(directory: &Directory, method: &str, path: &str, body: &[u8]) -> AdminAnswer {
    match try_answer(directory, method, path, body) {
        Ok(answer) => answer,
        Err(error) => {
            let status = match &error {
                OperationError::Invalid(_) => 400,
                OperationError::Unknown(_) => 404,
                OperationError::NameTaken(_) => 409,
                OperationError::Store(StoreError::Busy { .. }) => 503,
                OperationError::Store(_) => 500,
            };
            AdminAnswer::error(status, &error.to_string())
        }
    }
}

fn try_answer(directory: &Directory, method: &str, path: &str, body: &[u8]) -> Result<AdminAnswer, OperationError> {
    let Some(place) = Place::of(path) else { return Ok(AdminAnswer::error(404, "there is no such page")) };
    let store = directory.store()?;
    match (place, method) {
        (Place::All, "GET" | "HEAD") => {
            let clients: Vec<Value> = operations::list(&store)?.iter().map(|client| shown(directory, client)).collect();
            Ok(ok(json!({ "clients": clients })))
        }
        (Place::All, "POST") => {
            let (client, key) = operations::add(&store, &read::<NewClient>(body)?)?;
            take_over(directory, &store);
            let answer = AdminAnswer::json(201, operations::new_as_json(&client, &key).to_string());
            Ok(AdminAnswer { header: Some(("cache-control", "no-store")), ..answer })
        }
        (Place::One(id), "GET" | "HEAD") => Ok(ok(shown(directory, &operations::show(&store, &decoded(id))?))),
        (Place::One(id), "DELETE") => {
            let revoked = operations::revoke(&store, &decoded(id))?;
            Ok(changed(directory, &store, &revoked))
        }
        (Place::Restore(id), "POST") => {
            let restored = operations::restore(&store, &decoded(id))?;
            Ok(changed(directory, &store, &restored))
        }
        (Place::Credit(id), "POST") => {
            let credited = operations::credit(&store, &decoded(id), &read::<Amount>(body)?.amount)?;
            Ok(changed(directory, &store, &credited))
        }
        (place, _) => {
            let allow = match place {
                Place::All => "GET, HEAD, POST",
                Place::One(_) => "GET, HEAD, DELETE",
                Place::Credit(_) | Place::Restore(_) => "POST",
            };
            Ok(AdminAnswer::other_method(allow))
        }
    }
}

impl<'p> Place<'p> {
    fn of(path: &'p str) -> Option<Self> {
        let Some(rest) = path.strip_prefix("/clients/") else { return (path == "/clients").then_some(Self::All) };
        match rest.split_once('/') {
            None if rest.is_empty() => None,
            None => Some(Self::One(rest)),
            Some((id, "credit")) if !id.is_empty() => Some(Self::Credit(id)),
            Some((id, "restore")) if !id.is_empty() => Some(Self::Restore(id)),
            Some(_) => None,
        }
    }
}

fn decoded(id: &str) -> String {
    percent_decode_str(id).decode_utf8_lossy().into_owned()
}

fn read<'b, T: Deserialize<'b>>(body: &'b [u8]) -> Result<T, OperationError> {
    serde_json::from_slice(body).map_err(|why| OperationError::Invalid(format!("the body can't be read: {why}")))
}

/// Puts a change into force. It is committed already, so a fault here is for the log: the watch thread tries again.
fn take_over(directory: &Directory, store: &Store) {
    if let Err(error) = directory.refresh(store) {
        log::warn!(target: LOG, "a change of the clients is not in force yet: {error}");
    }
}

fn changed(directory: &Directory, store: &Store, client: &Client) -> AdminAnswer {
    take_over(directory, store);
    ok(shown(directory, client))
}

fn shown(directory: &Directory, client: &Client) -> Value {
    operations::as_json(client, directory.account(client.name.as_str()).as_deref())
}

fn ok(body: Value) -> AdminAnswer {
    AdminAnswer::json(200, body.to_string())
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    fn directory() -> (tempfile::TempDir, Directory) {
        let dir = tempfile::tempdir().unwrap();
        let directory = Directory::load(dir.path(), &HashMap::new()).unwrap();
        (dir, directory)
    }

    fn ask(directory: &Directory, method: &str, path: &str, body: &Value) -> (u16, Value) {
        let answer =
            answer(directory, method, path, if body.is_null() { Vec::new() } else { body.to_string().into() }.as_slice());
        (answer.status, serde_json::from_str(&answer.body).unwrap())
    }

    #[test]
    fn l5_a_client_s_whole_life() {
        let (_dir, directory) = directory();
        let asked = json!({"name": "alice", "credits": "1.50", "models": ["a", "b*"], "expires": "30d", "rpm": 60, "note": "n"});
        let (status, added) = ask(&directory, "POST", "/clients", &asked);
        assert_eq!((status, &added["name"]), (201, &json!("alice")));
        let (id, key) = (added["id"].as_str().unwrap(), added["key"].as_str().unwrap());
        let in_force = || directory.find(key.as_bytes()).unwrap().client.admit(0).is_ok();
        assert!(in_force(), "at once");

        let (status, one) = ask(&directory, "GET", &format!("/clients/{id}"), &Value::Null);
        assert_eq!(status, 200);
        assert_eq!(
            (&one["models"], &one["status"], &one["rpm"], &one["note"]),
            (&json!(["a", "b*"]), &json!("active"), &json!(60), &json!("n"))
        );
        assert_eq!(one["credits"], json!({"granted": "1.5", "balance": "1.5", "reserved": "0"}));
        let (_, list) = ask(&directory, "GET", "/clients", &Value::Null);
        assert_eq!(list["clients"], json!([one]));
        assert!(!list.to_string().contains(key));

        let (status, one) = ask(&directory, "POST", "/clients/alice/credit", &json!({"amount": "+0.5"}));
        assert_eq!((status, &one["credits"]["balance"]), (200, &json!("2")));
        let (status, one) = ask(&directory, "DELETE", &format!("/clients/{id}"), &Value::Null);
        assert_eq!((status, &one["status"], in_force()), (200, &json!("revoked"), false));
        let (status, one) = ask(&directory, "POST", "/clients/al%69ce/restore", &Value::Null);
        assert_eq!((status, &one["status"], in_force()), (200, &json!("active"), true));
    }

    #[test]
    fn l5_what_can_t_be_done_says_why() {
        let (_dir, directory) = directory();
        ask(&directory, "POST", "/clients", &json!({"name": "free"}));
        for (method, path, body, status, part) in [
            ("POST", "/clients", json!({"name": "free"}), 409, "already"),
            ("POST", "/clients", json!({"name": "a b"}), 400, "name"),
            ("POST", "/clients", json!({"name": "x", "credit": "1"}), 400, "unknown field `credit`"),
            ("POST", "/clients", json!({"name": "x", "credits": 1.5}), 400, "expected a string"),
            ("POST", "/clients", Value::Null, 400, "can't be read"),
            ("POST", "/clients/free/credit", json!({"amount": "1"}), 400, "not limited"),
            ("POST", "/clients/free/credit", json!({"amount": "much"}), 400, "much"),
            ("GET", "/clients/nobody", Value::Null, 404, "nobody"),
            ("DELETE", "/clients/nobody", Value::Null, 404, "nobody"),
            ("GET", "/clients/", Value::Null, 404, "no such page"),
            ("GET", "/clients/free/key", Value::Null, 404, "no such page"),
            ("PUT", "/clients/free", Value::Null, 405, "DELETE"),
            ("GET", "/clients/free/credit", Value::Null, 405, "POST"),
        ] {
            let (got, answer) = ask(&directory, method, path, &body);
            let message = answer["error"]["message"].as_str().unwrap();
            assert!(got == status && message.contains(part), "{method} {path} {body}: {got} {message}");
        }
        assert!(is_here("/clients") && is_here("/clients/x") && !is_here("/clientsx") && !is_here("/"));
    }
}
