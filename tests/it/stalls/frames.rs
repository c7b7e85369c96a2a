//! HTTP/2 by hand: the frames that a stalling client sends, and the ones it looks for.

/// RFC 9113 §3.4.
pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// An empty SETTINGS.
pub const SETTINGS: &[u8] = b"\0\0\0\x04\0\0\0\0\0";
pub const PING: &[u8] = b"\0\0\x08\x06\0\0\0\0\0stalling";
/// SETTINGS_INITIAL_WINDOW_SIZE 0: no stream may answer with a body.
pub const NO_WINDOW: &[u8] = b"\0\0\x06\x04\0\0\0\0\0\0\x04\0\0\0\0";

pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const RST_STREAM: u8 = 3;
pub const WINDOW_UPDATE: u8 = 8;
pub const CONTINUATION: u8 = 9;

pub const END_STREAM: u8 = 1;
pub const END_HEADERS: u8 = 4;

pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// A head, each field written out.
pub fn head(method: &str, path: &str, key: Option<&str>) -> Vec<u8> {
    let bearer = key.map(|key| format!("Bearer {key}"));
    let fields = [(":method", method), (":scheme", "http"), (":authority", "gateway"), (":path", path)];
    let authorization = bearer.as_deref().map(|bearer| ("authorization", bearer));
    let mut block = Vec::new();
    for (name, value) in fields.into_iter().chain(authorization).chain([("content-type", "application/json")]) {
        block.push(0);
        for text in [name, value] {
            block.push(u8::try_from(text.len()).ok().filter(|length| *length < 127).expect("a short text"));
            block.extend_from_slice(text.as_bytes());
        }
    }
    block
}

/// A whole request.
pub fn request(stream: u32, path: &str, key: Option<&str>, body: &str) -> Vec<u8> {
    let head = frame(HEADERS, END_HEADERS, stream, &head("POST", path, key));
    [head, frame(DATA, END_STREAM, stream, body.as_bytes())].concat()
}

/// Takes the first whole frame off what was read: its kind and its stream.
pub fn take(read: &mut Vec<u8>) -> Option<(u8, u32)> {
    let length = usize::from(*read.first()?) << 16 | usize::from(*read.get(1)?) << 8 | usize::from(*read.get(2)?);
    let taken = read.get(..9 + length)?.to_vec();
    read.drain(..9 + length);
    Some((taken[3], u32::from_be_bytes([taken[5], taken[6], taken[7], taken[8]])))
}
