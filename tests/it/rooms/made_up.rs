//! The analyser itself, on small trees that were made up: what is an arrow, what is a circle, what is left out.

use super::imports::{Files, Imports};
use super::{circles, imports, table};

fn read(files: &[(&str, &str)]) -> Imports {
    imports::imports(&files.iter().map(|(file, source)| ((*file).to_owned(), (*source).to_owned())).collect::<Files>())
}

/// The arrows, as `from > to: names`.
fn arrows(files: &[(&str, &str)]) -> Vec<String> {
    let imports = read(files);
    let arrows = imports.arrows.iter().flat_map(|(from, to)| to.iter().map(move |(to, names)| (from, to, names)));
    arrows.map(|(from, to, names)| format!("{from} > {to}: {}", names.keys().cloned().collect::<Vec<_>>().join(" "))).collect()
}

fn circles_of_files(files: &[(&str, &str)]) -> Vec<String> {
    circles::of_files(&read(files).arrows)
}

#[test]
fn two_files_that_use_each_other_are_a_circle_with_the_names_that_tie_it() {
    let found = circles_of_files(&[
        ("lib.rs", "mod a;\nmod b;\nmod c;"),
        ("a.rs", "//! A\nuse crate::b::{Left, Right};\npub struct A;"),
        ("b.rs", "pub struct Left;\npub struct Right;\npub fn b() { crate::a::A; crate::c::c() }"),
        ("c.rs", "pub fn c() {}"),
    ]);
    let lines = ["a.rs, b.rs", "src/a.rs:2 uses Left, Right of src/b.rs", "src/b.rs:3 uses A of src/a.rs"];
    assert_eq!(found, [format!("these files use each other: {}\n    {}\n    {}", lines[0], lines[1], lines[2])]);
}

#[test]
fn a_mod_rs_is_a_file_but_its_mod_lines_and_re_exports_are_no_arrows() {
    let face = ("x/mod.rs", "mod a;\nmod b;\npub use a::A;\npub use b::*;");
    let below = ("x/b.rs", "use super::A;\npub struct B(A);");
    let tree = [("lib.rs", "mod x;"), face, ("x/a.rs", "pub struct A;"), below];
    assert_eq!(arrows(&tree), ["x/b.rs > x/a.rs: A"]);
    // What it uses itself of what it re-exports is one.
    let user = ("x/mod.rs", "mod a;\nmod b;\npub use a::A;\npub const C: A = A;");
    let above = ("x/a.rs", "pub struct A;\nconst D: A = super::C;");
    assert_eq!(circles_of_files(&[("lib.rs", "mod x;"), user, above]).len(), 1);
}

#[test]
fn a_re_export_leads_to_the_file_that_defines_the_name() {
    for (user, face) in [
        ("use crate::x::A;", "mod a;\npub use a::A;"),
        ("use crate::x::Other;", "mod a;\npub use a::A as Other;"),
        ("use crate::x::A;", "mod a;\npub use a::*;"),
        ("use crate::x::*;\nfn f(_: A) {}", "mod a;\npub use self::a::{A};"),
        ("use crate::x as y;\nfn f(_: y::A) {}", "mod a;\npub(crate) use a::A;"),
        ("fn f(_: crate::x::A) {}", "mod a;\nuse a::A;"),
        ("use super::x::{self, a};\nfn f(_: a::A) {}", "pub mod a;"),
        ("use crate::x::a;\nfn f(_: a::A) {}", "pub mod a;"),
        ("macro_rules! m { () => { $crate::x::A } }", "mod a;\npub use a::A;"),
    ] {
        let tree = [("lib.rs", "mod x;\nmod y;"), ("x/mod.rs", face), ("x/a.rs", "pub struct A;"), ("y.rs", user)];
        let of_user = arrows(&tree).into_iter().filter(|arrow| arrow.starts_with("y.rs")).collect::<Vec<_>>();
        assert_eq!(of_user, ["y.rs > x/a.rs: A"], "{user} {face}");
    }
}

#[test]
fn a_name_that_a_module_shares_with_what_it_defines_is_both() {
    let face = ("x/mod.rs", "mod peek;\npub use peek::peek;");
    let tree = [("lib.rs", "mod x;\nmod y;"), face, ("x/peek.rs", "pub fn peek() {}"), ("y.rs", "use crate::x::peek;")];
    assert_eq!(arrows(&tree), ["y.rs > x/peek.rs: peek"]);
}

#[test]
fn paths_in_the_code_are_arrows_from_wherever_they_start() {
    for path in ["crate::x::b::B", "super::b::B", "self::super::b::B"] {
        let user = format!("fn f() {{ let _ = {path}::new(1); }}");
        let tree = [("lib.rs", "mod x;"), ("x/mod.rs", "mod a;\nmod b;"), ("x/a.rs", &user), ("x/b.rs", "pub struct B;")];
        assert_eq!(arrows(&tree), ["x/a.rs > x/b.rs: B"], "{path}");
    }
    let child = [("lib.rs", "mod x;"), ("x/mod.rs", "mod a;\nfn f() { a::g() }"), ("x/a.rs", "pub fn g() {}")];
    assert_eq!(arrows(&child), ["x/mod.rs > x/a.rs: g"]);
}

#[test]
fn a_module_that_is_written_out_belongs_to_its_file() {
    let a = "mod inner { use super::super::b::B;\n pub struct C; }\npub use inner::C;";
    let tree =
        [("lib.rs", "mod a;\nmod b;"), ("a.rs", a), ("b.rs", "pub struct B;\nuse crate::a::C;\nuse crate::a::inner::C as D;")];
    assert_eq!(arrows(&tree), ["a.rs > b.rs: B", "b.rs > a.rs: C"]);
}

#[test]
fn what_only_tests_are_compiled_with_is_left_out() {
    for a in [
        "#[cfg(test)]\nmod tests { use crate::b::B; }",
        "#[cfg(test)]\nmod tests;",
        "#[cfg(test)]\n#[path = \"a_tests.rs\"]\nmod tests;",
        "#[cfg(test)]\nuse crate::b::{B, C};",
        "#[cfg(all(test, unix))]\npub(crate) fn f(b: &crate::b::B) -> [u8; 2] { crate::b::C }",
        "#[cfg(test)]\nimpl<A, B> X for crate::b::B<A, B> where A: Y { fn f() {} }",
        "struct S { #[cfg(test)] b: Vec<(crate::b::B, u8)>, #[cfg(test)] c: crate::b::C }",
        "#[cfg(test)]\nconst B: [crate::b::B; 1] = [crate::b::B { c: 1 }];",
        "#![cfg(test)]\nuse crate::b::B;\nfn f() { crate::b::C }",
    ] {
        let test = "use crate::b::B;\nuse super::super::b::C;";
        let b = "pub struct B;\npub struct C;\nuse crate::a::A;";
        let tree = [("lib.rs", "mod a;\nmod b;"), ("a.rs", a), ("a/tests.rs", test), ("a_tests.rs", test), ("b.rs", b)];
        let from_a = arrows(&tree).into_iter().filter(|arrow| arrow.starts_with("a.rs")).collect::<Vec<_>>();
        assert!(from_a.is_empty(), "{a} {from_a:?}");
    }
    let counted =
        "#[cfg(test)]\nuse crate::x::Y;\n#[cfg(not(test))]\nuse crate::b::B;\n#[cfg(feature = \"x\")]\nfn f() { crate::b::C }";
    let tree = [("lib.rs", "mod a;\nmod b;"), ("a.rs", counted), ("b.rs", "pub struct B;\npub struct C;")];
    assert_eq!(arrows(&tree), ["a.rs > b.rs: B C"]);
}

#[test]
fn comments_and_literals_name_nothing() {
    let a = r####"
        //! [`crate::b::B`]
        /* crate::b::B /* crate::b::B */ crate::b::B */
        const T: &str = "crate::b::B \" crate::b::B // ";
        const R: &str = r#"crate::b::B " crate::b::B"#;
        const Y: &[u8] = br##"crate::b::B"# crate::b::B"##;
        const C: [char; 3] = ['"', '\'', '\u{1f600}'];
        const B: [u8; 2] = [b'"', b'\\'];
        fn f<'a>(r#type: &'a str) -> impl Iterator<Item = u8> + use<'a> {}
        fn g() { let c = crate::c::C; } // crate::b::B
    "####;
    let tree = [("lib.rs", "mod a;\nmod b;\nmod c;"), ("a.rs", a), ("b.rs", "pub struct B;"), ("c.rs", "pub struct C;")];
    assert_eq!(arrows(&tree), ["a.rs > c.rs: C"]);
}

#[test]
fn folders_may_be_a_circle_where_no_files_are() {
    let tree = [
        ("lib.rs", "mod x;"),
        ("x/mod.rs", "mod y;\nmod z;"),
        ("x/y/mod.rs", "mod a;\nmod b;"),
        ("x/y/a.rs", "use crate::x::z::c::C;"),
        ("x/y/b.rs", "pub struct B;"),
        ("x/z/mod.rs", "mod c;\nmod d;"),
        ("x/z/c.rs", "pub struct C;"),
        ("x/z/d.rs", "use crate::x::y::b::B;"),
    ];
    let arrows = read(&tree).arrows;
    assert!(circles::of_files(&arrows).is_empty());
    let [text] = &circles::of_folders(&arrows)[..] else { panic!("one circle") };
    for part in
        ["parts of src/x use each other: y, z", "src/x/y/a.rs:1 uses C of src/x/z/c.rs", "x/z/d.rs:1 uses B of src/x/y/b.rs"]
    {
        assert!(text.contains(part), "{text}");
    }
}

#[test]
fn a_file_that_uses_its_folders_face_ties_no_circle_of_folders() {
    let tree = [
        ("lib.rs", "mod x;"),
        ("x/mod.rs", "mod a;\npub mod b;\npub struct X;\nfn f() { a::A; }"),
        ("x/a.rs", "use super::X;\npub struct A;"),
        ("x/b/mod.rs", "use super::X;"),
    ];
    let arrows = read(&tree).arrows;
    assert_eq!((circles::of_files(&arrows).len(), circles::of_folders(&arrows).len()), (1, 0));
}

const TABLE: &str = "//! | room | does | may use | never |
//! |---|---|---|---|
//! | [`low`] | *decides*, on values | | log, clock, pingora |
//! | [`high`] | everything | low | files, environment |
//! | [`top`] | plugs | all | |
";

#[test]
fn an_arrow_that_the_table_does_not_allow_is_told_with_file_line_and_name() {
    let rooms = table::rooms(TABLE).unwrap();
    let imports = read(&[
        ("lib.rs", "mod low;\nmod high;\nmod top;"),
        ("low.rs", "use crate::high::High;\npub struct Low;"),
        ("high/mod.rs", "pub struct High;\nuse crate::low::Low;\nfn f() {\n crate::top::t() }"),
        ("top.rs", "use crate::{high::High, low::Low};\npub fn t() {}"),
    ]);
    let found = table::forbidden_arrows(&rooms, &imports.arrows);
    let expected = [
        "high must not use top: src/high/mod.rs uses t in line 4 of src/top.rs",
        "low must not use high: src/low.rs uses High in line 1 of src/high/mod.rs",
    ];
    assert_eq!(found, expected);
}

#[test]
fn a_word_of_the_last_column_is_a_path_of_its_own_however_it_is_brought_in() {
    let rooms = table::rooms(TABLE).unwrap();
    for (file, source, word) in [
        ("low.rs", "fn f() { log::info!(\"x\") }", Some("log")),
        ("low.rs", "use log::{info, warn};", Some("log")),
        ("low.rs", "use std::time::Instant;\nfn f() { Instant::now() }", Some("clock")),
        ("low.rs", "use std::time;\nfn f() { time::SystemTime::now() }", Some("clock")),
        ("low.rs", "use std::time::Instant;\nfn f(now: Instant) {}", None),
        ("low.rs", "use pingora_core::Error;", Some("pingora")),
        ("low.rs", "#[pingora::main]\nfn f() {}", Some("pingora")),
        ("low.rs", "use crate::access_log::Line;\nfn f() { access_log::x() }", None),
        ("low.rs", "mod log { pub fn info() {} }\nfn f() { log::info() }", None),
        ("high.rs", "use std::{fmt, fs as files};", Some("files")),
        ("high.rs", "fn f() { std::env::var(\"X\"); env!(\"X\") }", Some("environment")),
        ("high.rs", "use log::info;", None),
        ("top.rs", "use std::fs;\nuse log::info;", None),
    ] {
        let imports = read(&[("lib.rs", "mod low;\nmod high;\nmod top;"), (file, source)]);
        let found = table::forbidden_paths(&rooms, &imports.outside);
        assert_eq!(found.is_empty(), word.is_none(), "{source} {found:?}");
        let told = word.is_none_or(|word| found.iter().all(|fault| fault.contains(&format!("never use {word}: src/{file}:"))));
        assert!(told, "{source} {found:?}");
    }
}

#[test]
fn a_cell_of_the_table_that_means_nothing_is_refused() {
    for (cell, slip) in [("| low |", "| lower |"), ("log, clock", "log, watches")] {
        let fault = table::rooms(&TABLE.replace(cell, slip)).unwrap_err();
        assert!(fault.contains(slip.trim_matches(|c| c == '|' || c == ' ').rsplit(' ').next().unwrap()), "{fault}");
    }
    assert!(table::rooms("//! no table").is_err());
}
