//! Reads the modules of a file: what each defines, imports and names, with all that is compiled for tests alone left out.

use super::tokens::{Kind, Token, tokens};

/// A module's path below the crate's root, or a path as it is written.
pub type ModPath = Vec<String>;

/// One module: a file's own, or one that is written out inside of it.
#[derive(Debug, Default)]
pub struct Scope {
    pub module: ModPath,
    /// Names of what the module defines itself, at its own level.
    pub items: Vec<String>,
    pub imports: Vec<Import>,
    /// Paths of two names and more, outside of `use`.
    pub paths: Vec<Spot<ModPath>>,
    /// Names that stand alone.
    pub words: Vec<Spot<String>>,
}

/// One name that a `use` brings in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Import {
    pub path: ModPath,
    /// What it is called here; `None`: everything below the path (`*`).
    pub name: Option<String>,
    pub is_public: bool,
    pub line: usize,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spot<T> {
    pub what: T,
    pub line: usize,
}

/// What one file holds.
#[derive(Debug, Default)]
pub struct Source {
    pub scopes: Vec<Scope>,
    /// Modules in files of their own that are compiled for tests alone: by path, or by file where the path is given.
    pub test_modules: Vec<ModPath>,
    pub test_files: Vec<String>,
}

/// Reads a file that holds the module `module`.
pub fn read(module: &[String], source: &str) -> Source {
    let mut reader = Reader { source: Source::default() };
    reader.scope(module.to_vec(), &tokens(source));
    reader.source
}

struct Reader {
    source: Source,
}

/// What stands before an item.
#[derive(Default)]
struct Attributes {
    is_test: bool,
    path: Option<String>,
}

impl Reader {
    fn scope(&mut self, module: ModPath, tokens: &[Token]) {
        let mut scope = Scope { module, ..Scope::default() };
        let (mut at, mut depth) = (0, 0usize);
        let mut attributes = Attributes::default();
        while let Some(token) = tokens.get(at) {
            let rest = &tokens[at..];
            let word_at = |ahead: usize| rest.get(ahead).and_then(Token::word);
            if let Some(length) = attribute(rest, &mut attributes) {
                if attributes.is_test && rest[1].is('!') {
                    return;
                }
                scope.paths.extend(paths(&rest[..length]));
                at += length;
                continue;
            }
            if attributes.is_test {
                at += self.skip_test_item(&scope.module, &attributes, rest);
                attributes = Attributes::default();
                continue;
            }
            let is_named = at > 0 && (tokens[at - 1].kind == Kind::Colons || tokens[at - 1].is('.'));
            at += match &token.kind {
                Kind::Mark(mark) => {
                    match mark {
                        '{' => depth += 1,
                        '}' => depth = depth.saturating_sub(1),
                        _ => {}
                    }
                    1
                }
                Kind::Word(word) if word == "pub" => {
                    let length = visibility(rest);
                    let is_import = word_at(length) == Some("use");
                    length + if is_import { import(&rest[length..], true, &mut scope.imports) } else { 0 }
                }
                Kind::Word(word) if word == "use" && !rest.get(1).is_some_and(|next| next.is('<')) => {
                    import(rest, false, &mut scope.imports)
                }
                Kind::Word(word) if word == "mod" => match (word_at(1), rest.get(2)) {
                    (Some(name), Some(open)) if open.is('{') => {
                        scope.items.push(name.to_owned());
                        let body = group(&rest[2..]);
                        self.scope(below(&scope.module, name), &rest[3..2 + body - 1]);
                        2 + body
                    }
                    _ => 2,
                },
                Kind::Word(word) if word == "macro_rules" => {
                    scope.items.extend(word_at(2).map(str::to_owned));
                    3
                }
                Kind::Word(word) if is_item(word) && word_at(1).is_some() => {
                    let name = word_at(1).filter(|name| !is_item(name) && *name != "async" && *name != "mut");
                    if depth == 0 {
                        scope.items.extend(name.map(str::to_owned));
                    }
                    if name.is_some() { 2 } else { 1 }
                }
                Kind::Word(_) if is_named => 1,
                Kind::Word(word) => {
                    let path = path(rest);
                    let length = path.len() * 2 - 1;
                    let line = token.line;
                    if path.len() > 1 {
                        scope.paths.push(Spot { what: path, line });
                    } else if is_telling(word, rest.get(1)) {
                        scope.words.push(Spot { what: word.clone(), line });
                    }
                    length
                }
                Kind::Colons | Kind::Text(_) => 1,
            };
            attributes = Attributes::default();
        }
        self.source.scopes.push(scope);
    }

    /// Passes over an item that only tests are compiled with, and notes a module that is one.
    fn skip_test_item(&mut self, module: &[String], attributes: &Attributes, rest: &[Token]) -> usize {
        let before = if rest[0].word() == Some("pub") { visibility(rest) } else { 0 };
        let item = &rest[before..];
        if let [keyword, name, end, ..] = item
            && keyword.word() == Some("mod")
            && end.is(';')
        {
            match &attributes.path {
                Some(path) => self.source.test_files.push(path.clone()),
                None => self.source.test_modules.extend(name.word().map(|name| below(module, name))),
            }
            return before + 3;
        }
        before + item_length(item)
    }
}

/// The length of an attribute; what it says is added to what the ones before it said. `#![cfg(test)]` stands before all of the file.
fn attribute(rest: &[Token], attributes: &mut Attributes) -> Option<usize> {
    if !rest[0].is('#') {
        return None;
    }
    let before = if rest.get(1).is_some_and(|next| next.is('!')) { 2 } else { 1 };
    if !rest.get(before).is_some_and(|next| next.is('[')) {
        return None;
    }
    let length = before + group(&rest[before..]);
    let inside = &rest[before + 1..length - 1];
    match inside.first().and_then(Token::word) {
        Some("cfg") => {
            let has = |wanted: &str| inside.iter().any(|token| token.word() == Some(wanted));
            attributes.is_test |= has("test") && !has("not") && !has("any");
        }
        Some("path") => {
            attributes.path = inside.iter().find_map(|token| match &token.kind {
                Kind::Text(path) => Some(path.clone()),
                _ => None,
            });
        }
        _ => {}
    }
    Some(length)
}

/// The length of a `pub` with what it is limited to, which is no path that is used.
fn visibility(rest: &[Token]) -> usize {
    if rest.get(1).is_some_and(|next| next.is('(')) { 1 + group(&rest[1..]) } else { 1 }
}

/// The length of the group that `rest` begins with, its brackets included.
fn group(rest: &[Token]) -> usize {
    let mut depth = 0usize;
    for (at, token) in rest.iter().enumerate() {
        match token.kind {
            Kind::Mark('(' | '[' | '{') => depth += 1,
            Kind::Mark(')' | ']' | '}') => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return at + 1;
        }
    }
    rest.len()
}

/// The length of an item, a field, a variant or a statement. A body ends an item, but for those that end with a semicolon.
fn item_length(item: &[Token]) -> usize {
    let first = item.iter().filter_map(Token::word).find(|word| !matches!(*word, "async" | "unsafe" | "extern"));
    let second = item.get(1).and_then(Token::word);
    let ends_at_semicolon =
        matches!(first, Some("use" | "static" | "type" | "let")) || (first == Some("const") && second != Some("fn"));
    let has_body = matches!(first, Some("fn" | "impl" | "struct" | "enum" | "union" | "trait" | "mod" | "const" | "macro_rules"));
    let mut at = 0;
    while let Some(token) = item.get(at) {
        match token.kind {
            Kind::Mark(')' | ']' | '}') => return at,
            Kind::Mark(open @ ('(' | '[' | '{')) => {
                at += group(&item[at..]);
                if open == '{' && !ends_at_semicolon {
                    return at;
                }
                continue;
            }
            Kind::Mark(';') => return at + 1,
            Kind::Mark(',') if !has_body && !ends_at_semicolon => return at + 1,
            _ => {}
        }
        at += 1;
    }
    at
}

/// Reads a `use`, and returns its length.
fn import(rest: &[Token], is_public: bool, imports: &mut Vec<Import>) -> usize {
    let length = rest.iter().position(|token| token.is(';')).unwrap_or(rest.len());
    tree(&rest[1..length], Vec::new(), is_public, imports);
    length + 1
}

/// Reads a tree of `use` below `prefix`.
fn tree(tokens: &[Token], prefix: ModPath, is_public: bool, imports: &mut Vec<Import>) {
    let mut path = prefix;
    for (at, token) in tokens.iter().enumerate() {
        let line = token.line;
        match &token.kind {
            Kind::Word(word) if word == "as" => {
                // `as _` brings in a trait without a name.
                let name = tokens.get(at + 1).and_then(Token::word).map(str::to_owned);
                if path.last().is_some_and(|last| last == "self") {
                    path.pop();
                }
                imports.push(Import { path, name, is_public, line });
                return;
            }
            Kind::Word(word) => path.push(word.clone()),
            Kind::Mark('*') => return imports.push(Import { path, name: None, is_public, line }),
            Kind::Mark('{') => {
                let inside = &tokens[at + 1..tokens.len() - 1];
                let mut from = 0;
                while from < inside.len() {
                    let length = branch(&inside[from..]);
                    tree(&inside[from..from + length], path.clone(), is_public, imports);
                    from += length + 1;
                }
                return;
            }
            _ => {}
        }
    }
    let Some(line) = tokens.first().map(|token| token.line) else { return };
    if path.len() > 1 && path.last().is_some_and(|last| last == "self") {
        path.pop();
    }
    let name = path.last().cloned();
    imports.push(Import { path, name, is_public, line });
}

/// The length of a tree up to the comma after it.
fn branch(tokens: &[Token]) -> usize {
    let mut at = 0;
    while at < tokens.len() && !tokens[at].is(',') {
        at += if tokens[at].is('{') { group(&tokens[at..]) } else { 1 };
    }
    at
}

/// The paths in an attribute: `#[tokio::main]`.
fn paths(attribute: &[Token]) -> Vec<Spot<ModPath>> {
    let mut paths = Vec::new();
    let mut at = 0;
    while let Some(token) = attribute.get(at) {
        let path = path(&attribute[at..]);
        at += (path.len() * 2).max(1);
        if path.len() > 1 {
            paths.push(Spot { what: path, line: token.line });
        }
    }
    paths
}

/// The names that `rest` begins with, joined by `::`.
fn path(rest: &[Token]) -> ModPath {
    let mut path = Vec::new();
    for pair in rest.chunks(2) {
        let Some(word) = pair[0].word() else { break };
        path.push(word.to_owned());
        if pair.get(1).is_none_or(|next| next.kind != Kind::Colons) {
            break;
        }
    }
    path
}

fn is_item(word: &str) -> bool {
    matches!(word, "fn" | "struct" | "enum" | "trait" | "const" | "static" | "type" | "union")
}

/// Whether a name that stands alone is an item's, not a variable's or a field's: by its case, or because it is called.
fn is_telling(word: &str, next: Option<&Token>) -> bool {
    word.starts_with(char::is_uppercase) || next.is_some_and(|next| next.is('(') || next.is('!'))
}

fn below(module: &[String], name: &str) -> ModPath {
    module.iter().cloned().chain([name.to_owned()]).collect()
}
