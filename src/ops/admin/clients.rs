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

/// What one page asks for.
pub struct Asked<'a> {
    pub directory: &'a Directory,
    pub method: &'a str,
    /// The client's id or name, as the path has it; empty where the page is about all of them.
    pub id: &'a str,
    pub body: &'a [u8],
}

/// Does what is asked of one page, with a method that the page takes.
pub type Operation = fn(&Asked<'_>, &Store) -> Result<AdminAnswer, OperationError>;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Amount {
    amount: String,
}

/// Answers one request that may see its page; `takes` says of its method whether the page does. Waits for the disk: not for an async
/// thread.
pub fn answer(asked: &Asked<'_>, operation: Operation, takes: Result<(), AdminAnswer>) -> AdminAnswer {
    let done = asked.directory.store().map_err(OperationError::from).and_then(|store| match takes {
        Ok(()) => operation(asked, &store),
        Err(other_method) => Ok(other_method),
    });
    done.unwrap_or_else(|error| {
        let status = match &error {
            OperationError::Invalid(_) => 400,
            OperationError::Unknown(_) => 404,
            OperationError::NameTaken(_) => 409,
            OperationError::Store(StoreError::Busy { .. }) => 503,
            OperationError::Store(_) => 500,
        };
        AdminAnswer::error(status, &error.to_string())
    })
}

pub fn all(asked: &Asked<'_>, store: &Store) -> Result<AdminAnswer, OperationError> {
    if asked.method == "POST" {
        let (client, key) = operations::add(store, &read::<NewClient>(asked.body)?)?;
        take_over(asked.directory, store);
        let answer = AdminAnswer::json(201, operations::new_as_json(&client, &key).to_string());
        return Ok(AdminAnswer { header: Some(("cache-control", "no-store")), ..answer });
    }
    let clients: Vec<Value> = operations::list(store)?.iter().map(|client| shown(asked.directory, client)).collect();
    Ok(ok(json!({ "clients": clients })))
}

pub fn one(asked: &Asked<'_>, store: &Store) -> Result<AdminAnswer, OperationError> {
    let id = decoded(asked.id);
    if asked.method == "DELETE" {
        return Ok(changed(asked.directory, store, &operations::revoke(store, &id)?));
    }
    Ok(ok(shown(asked.directory, &operations::show(store, &id)?)))
}

pub fn restore(asked: &Asked<'_>, store: &Store) -> Result<AdminAnswer, OperationError> {
    Ok(changed(asked.directory, store, &operations::restore(store, &decoded(asked.id))?))
}

pub fn credit(asked: &Asked<'_>, store: &Store) -> Result<AdminAnswer, OperationError> {
    let credited = operations::credit(store, &decoded(asked.id), &read::<Amount>(asked.body)?.amount)?;
    Ok(changed(asked.directory, store, &credited))
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
    use crate::ops::admin::table::{AnswerBy, Page};

    fn directory() -> (tempfile::TempDir, Directory) {
        let dir = tempfile::tempdir().unwrap();
        let directory = Directory::load(dir.path(), &HashMap::new()).unwrap();
        (dir, directory)
    }

    fn ask(directory: &Directory, method: &str, path: &str, body: &Value) -> (u16, Value) {
        let page = Page::at(path);
        let AnswerBy::Clients(operation) = page.answer else { panic!("{path} is not of the clients") };
        let body = if body.is_null() { Vec::new() } else { body.to_string().into() };
        let asked = Asked { directory, method, id: page.id_in(path), body: &body };
        let answer = operation.map_or_else(AdminAnswer::no_page, |operation| answer(&asked, operation, page.take(method)));
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
    }
}
