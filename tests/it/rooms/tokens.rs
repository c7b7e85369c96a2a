//! Splits a source into the few tokens that names and paths are made of; comments are left out, and what literals hold is told apart.

/// One token and its line, from 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    pub kind: Kind,
    pub line: usize,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A name or a keyword; `r#type` without its mark.
    Word(String),
    /// `::`
    Colons,
    /// The text of a string, its escapes as they are written.
    Text(String),
    /// Any other character that is no space.
    Mark(char),
}

impl Token {
    pub fn word(&self) -> Option<&str> {
        match &self.kind {
            Kind::Word(word) => Some(word),
            _ => None,
        }
    }

    pub fn is(&self, mark: char) -> bool {
        self.kind == Kind::Mark(mark)
    }
}

/// Splits a whole file. Numbers, characters and lifetimes leave nothing that could be taken for a name.
pub fn tokens(source: &str) -> Vec<Token> {
    let chars: Vec<char> = source.chars().collect();
    let mut reader = Reader { chars: &chars, at: 0, line: 1 };
    std::iter::from_fn(|| reader.next()).collect()
}

struct Reader<'s> {
    chars: &'s [char],
    at: usize,
    line: usize,
}

impl Reader<'_> {
    fn next(&mut self) -> Option<Token> {
        loop {
            let line = self.line;
            let kind = match self.peek(0)? {
                c if c.is_whitespace() => {
                    self.take(1);
                    continue;
                }
                '/' if self.peek(1) == Some('/') => {
                    self.take_while(|c| c != '\n');
                    continue;
                }
                '/' if self.peek(1) == Some('*') => {
                    self.comment();
                    continue;
                }
                '"' => self.string(),
                '\'' => {
                    self.character_or_lifetime();
                    continue;
                }
                c if c.is_ascii_digit() => {
                    self.take_while(is_of_word);
                    continue;
                }
                c if is_of_word(c) => match self.word_or_literal() {
                    Some(kind) => kind,
                    None => continue,
                },
                ':' if self.peek(1) == Some(':') => {
                    self.take(2);
                    Kind::Colons
                }
                mark => {
                    self.take(1);
                    Kind::Mark(mark)
                }
            };
            return Some(Token { kind, line });
        }
    }

    fn peek(&self, ahead: usize) -> Option<char> {
        self.chars.get(self.at + ahead).copied()
    }

    fn take(&mut self, count: usize) {
        let taken = self.chars.iter().skip(self.at).take(count);
        self.line += taken.filter(|c| **c == '\n').count();
        self.at += count;
    }

    fn take_while(&mut self, is_wanted: impl Fn(char) -> bool) -> String {
        let taken: String = self.chars[self.at..].iter().take_while(|c| is_wanted(**c)).collect();
        self.take(taken.chars().count());
        taken
    }

    /// Comments of this form may hold one another.
    fn comment(&mut self) {
        let mut depth = 0;
        while let Some(c) = self.peek(0) {
            match (c, self.peek(1)) {
                ('/', Some('*')) => depth += 1,
                ('*', Some('/')) => depth -= 1,
                _ => {
                    self.take(1);
                    continue;
                }
            }
            self.take(2);
            if depth == 0 {
                return;
            }
        }
    }

    fn string(&mut self) -> Kind {
        self.take(1);
        let from = self.at;
        while let Some(c) = self.peek(0).filter(|c| *c != '"') {
            self.take(if c == '\\' { 2 } else { 1 });
        }
        let text = self.chars[from..self.at.min(self.chars.len())].iter().collect();
        self.take(1);
        Kind::Text(text)
    }

    /// `'x'` and `'\n'` end with a quote, `'a` of a lifetime does not.
    fn character_or_lifetime(&mut self) {
        if self.peek(1) == Some('\\') {
            self.take(3);
            self.take_while(|c| c != '\'');
            self.take(1);
        } else if self.peek(2) == Some('\'') {
            self.take(3);
        } else {
            self.take(1);
            self.take_while(is_of_word);
        }
    }

    /// A word, or a literal that begins with letters: `r"…"`, `br#"…"#`, `b"…"`, `c"…"`, `b'x'`.
    fn word_or_literal(&mut self) -> Option<Kind> {
        let word = self.take_while(is_of_word);
        match (word.as_str(), self.peek(0)) {
            ("r" | "br" | "cr", Some('"' | '#')) => {
                let hashes = self.take_while(|c| c == '#').len();
                if self.peek(0) != Some('"') {
                    return Some(Kind::Word(self.take_while(is_of_word)));
                }
                Some(self.raw_string(hashes))
            }
            ("b" | "c", Some('"')) => Some(self.string()),
            ("b", Some('\'')) => {
                self.character_or_lifetime();
                None
            }
            _ => Some(Kind::Word(word)),
        }
    }

    fn raw_string(&mut self, hashes: usize) -> Kind {
        self.take(1);
        let from = self.at;
        let is_end = |rest: &[char]| rest[0] == '"' && rest[1..].iter().take(hashes).filter(|c| **c == '#').count() == hashes;
        while self.at < self.chars.len() && !is_end(&self.chars[self.at..]) {
            self.take(1);
        }
        let text = self.chars[from..self.at.min(self.chars.len())].iter().collect();
        self.take(1 + hashes);
        Kind::Text(text)
    }
}

fn is_of_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}
