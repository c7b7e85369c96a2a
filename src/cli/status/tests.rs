//! Documents of gateways that are well, are not, and are of another version.

use serde_json::{Value, json};

use super::render;
use crate::ops::watch::counters::Counters;
use crate::ops::watch::status::StatusDocument;
use crate::ops::watch::vitals::Vitals;

fn well() -> Value {
    json!({
        "version": "0.1.0", "pid": 4711, "started_at": "2026-03-01T00:00:00.000Z", "uptime_s": 97_445, "state": "ready",
        "config": { "path": "conf/config.json", "loaded_at": "2026-03-02T01:00:00.000Z", "last_reload": null },
        "listeners": [
            { "addr": "0.0.0.0:8080", "tls": false, "h2c": true }, { "addr": "0.0.0.0:8443", "tls": true, "h2c": false },
        ],
        "admin": "127.0.0.1:9090", "requests_in_flight": 12, "open_streams": 8, "clients": 3, "access_lines_dropped": 0,
        "request_bodies": { "taken_bytes": 1_258_291, "limit_bytes": 1_073_741_824 },
        "process": { "open_fds": 34, "max_fds": 1_024, "resident_bytes": 25_165_824, "cpu_s": 1.5 },
        "ledger": { "writable": true, "trouble": null, "entries_open": 12, "entries_waiting": 0, "unfolded_bytes": 512, "lag_s": 0.4,
                    "state_dir": "/var/lib/trollbridge", "disk_free_bytes": 13_314_398_617u64 },
        "totals": { "requests": { "2xx": 90, "4xx": 10, "5xx": 0 }, "ends": { "ok": 89, "refused": 10, "client_gone": 1 },
                    "refusals": { "no_key": 10 }, "tokens": { "input": 1_000, "output": 50 }, "cost_usd": "0.011808" },
        "upstreams": [
            { "name": "main", "configured": true, "keys": [{ "id": "main", "state": "ready", "attempts": 90, "rests": 0 }] },
            { "name": "ohmygpt", "configured": false, "keys": [] },
        ],
    })
}

#[test]
fn a_gateway_that_is_well_is_told_in_columns_without_a_fault() {
    let expected = "\
gateway   trollbridge 0.1.0, ready, pid 4711, up 1 d 3 h since 2026-03-01T00:00:00.000Z
config    conf/config.json, loaded 2026-03-02T01:00:00.000Z, 3 clients
listens   0.0.0.0:8080 (h2c), 0.0.0.0:8443 (TLS), 127.0.0.1:9090 (admin)
now       12 in flight, 8 open streams, 1.1 MiB of 1.0 GiB for bodies, 24.0 MiB resident, 34 of 1024 file descriptors
ledger    writable, 12 open, 0 waiting, 512 B not in the reports yet, 12.3 GiB free for /var/lib/trollbridge
requests  100 finished, 2xx 90, 4xx 10, by end: client_gone 1, ok 89, refused 10
refusals  no_key 10
tokens    input 1000, output 50
cost      0.011808 USD since the start

keys
main     main  ready           90 attempts  0 rests
ohmygpt  -     not configured
";
    assert_eq!(render(&well()), expected);
}

#[test]
fn what_is_wrong_stands_first() {
    let mut document = well();
    document["state"] = json!("ledger_unwritable");
    document["ledger"]["writable"] = json!(false);
    document["ledger"]["trouble"] = json!("No space left on device");
    document["ledger"]["entries_waiting"] = json!(2);
    document["ledger"]["disk_free_bytes"] = json!(4_096);
    document["ledger"]["lag_s"] = json!(120.0);
    document["config"]["last_reload"] = json!({ "at": "T", "ok": false, "words": "2 faults" });
    document["process"]["open_fds"] = json!(1_000);
    document["access_lines_dropped"] = json!(7);
    document["upstreams"][0] = json!({ "name": "troll", "configured": true,
        "keys": [{ "id": "k1", "state": "cooling", "cause": "rate_limited", "ready_in_s": 75, "attempts": 4, "rests": 1,
                   "models": [{ "model": "big", "cause": "no_access", "until": "T", "ready_in_s": 3_000 }] },
                 { "id": "k2", "state": "dead", "cause": "unauthorized", "attempts": 1, "rests": 1 }],
        "proxies": [{ "id": "p1", "kind": "connect", "health": "down", "since": "T", "quota": "exhausted", "attempts": 3,
                      "connect_failures": 3 }] });
    let rendered = render(&document);
    let (faults, rest) = rendered.split_once("\n\n").unwrap();
    let expected = "\
! the ledger can't be written (No space left on device): requests are refused with 503
! 2 closed entries wait in memory for the disk: don't kill the process
! the disk of the state directory has 4.0 KiB left: once it is full, requests are refused
! reports and balances are 120 s behind the ledger: the program's log says why
! upstream troll: none of 2 keys is ready, the first is back in 1 min 15 s
! upstream troll: key k2 is dead (unauthorized); replace or mend it, then reload
! upstream troll: all 1 proxies are down
! upstream troll: proxy p1 is down since T
! the reload at T was refused, the settings from before are in force: 2 faults
! 97 % of the file descriptors are open (LimitNOFILE=)
! 7 access lines were dropped: whoever reads the standard output is too slow";
    assert_eq!(faults, expected);
    let rest: String = rest.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ") + "\n").collect();
    assert!(rest.contains("troll k1 cooling (rate_limited) ready in 1 min 15 s 4 attempts 1 rests\n"), "{rest}");
    assert!(rest.contains("troll k1 cooling for big (no_access) ready in 50 min 0 s\n"), "{rest}");
    assert!(rest.contains("troll p1 connect down since T keys exhausted 3 attempts 3 without a connection\n"), "{rest}");
}

#[test]
fn a_document_of_another_version_is_rendered_as_far_as_it_goes() {
    assert_eq!(render(&json!({})), "config  from no file\n");
    assert_eq!(render(&json!([1, "two"])), "config  from no file\n");
    let strange =
        json!({ "state": 7, "upstreams": [{ "keys": "none" }], "totals": { "tokens": [] }, "pid": -1, "version": "9\u{1b}[2J" });
    let rendered = render(&strange);
    assert!(rendered.contains("trollbridge 9\u{fffd}[2J") && !rendered.contains('\u{1b}'), "{rendered:?}");
}

#[test]
fn every_line_is_there_for_the_document_that_is_really_sent() {
    let document = Vitals::example(&Counters::default(), |vitals| serde_json::to_value(StatusDocument::of(vitals)).unwrap());
    let rendered = render(&document);
    for head in [
        "gateway   trollbridge 1.2.3, ready, pid ",
        "\nconfig ",
        "\nnow ",
        "\nledger    writable",
        "\nrequests  0 finished\n",
        "\ncost ",
    ] {
        assert!(rendered.contains(head), "no {head} in\n{rendered}");
    }
    assert!(!rendered.contains('!'), "{rendered}");
}
