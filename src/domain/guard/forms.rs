//! The forms in which a key may stand in a text: as it is, as JSON reads it, in base64 and in hexadecimal.
//!
//! Base64 turns three bytes into four characters, so a key within a longer text (`user:key`, a whole head) has three forms, by the place
//! where it begins. Of each the characters are taken that depend on the key alone: six bytes give seven of them at least, too many to come
//! by chance.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};

use super::spelling;

/// Shorter secrets are not looked for: they would stop answers that contain them by chance.
pub const MIN_KEY_BYTES: usize = 6;

/// All forms of one key; some may be the same.
pub(super) fn forms(key: &str) -> Vec<Box<[u8]>> {
    let mut forms = vec![key.as_bytes().to_vec()];
    let mut read = Vec::new();
    spelling::read(key.as_bytes(), |byte, _| read.push(byte));
    if read.len() >= MIN_KEY_BYTES {
        forms.push(read);
    }
    forms.extend((0..3).flat_map(|place| in_base64(key, place)));
    forms.push(key.bytes().flat_map(|byte| format!("{byte:02x}").into_bytes()).collect());
    forms.push(key.bytes().flat_map(|byte| format!("{byte:02X}").into_bytes()).collect());
    forms.into_iter().map(Vec::into_boxed_slice).collect()
}

/// The key in both alphabets, so many bytes behind the beginning of three.
fn in_base64(key: &str, place: usize) -> [Vec<u8>; 2] {
    let mut text = vec![0; place];
    text.extend_from_slice(key.as_bytes());
    let shared_before = (place * 4).div_ceil(3);
    let shared_behind = usize::from(!text.len().is_multiple_of(3));
    [STANDARD_NO_PAD.encode(&text), URL_SAFE_NO_PAD.encode(&text)].map(|encoded| {
        let own = encoded.get(shared_before..encoded.len() - shared_behind).unwrap_or_default();
        own.as_bytes().to_vec()
    })
}

#[cfg(test)]
#[path = "forms_tests.rs"]
mod tests;
