//! Bombs and honest answers: how much is decoded with each chunk, what waits, what passes.

use std::io::Write;

use bytes::Bytes;

use super::*;
use crate::domain::guard::KeyGuard;
use crate::domain::secret::Secret;

const BOUNDS: DecodeBounds = DecodeBounds { chunk_bytes: 1 << 20, ratio: 100 };
const KEY: &str = "sk-canary-0123456789";

fn clear(encoding: &str, guarded: bool) -> Clear {
    let key = Secret::new(KEY).unwrap();
    let scan = guarded.then(|| KeyGuard::new([&key].into_iter()).scan());
    Clear::new(Decoder::for_encoding(encoding).unwrap(), scan, BOUNDS)
}

fn gzip(text: &[u8]) -> Bytes {
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    gzip.write_all(text).unwrap();
    gzip.finish().unwrap().into()
}

/// Blocks of zstd, each of four bytes that stand for 128 KiB.
fn zstd_bomb(blocks: usize) -> Bytes {
    let mut bytes = b"\x28\xb5\x2f\xfd\x00\x68".to_vec();
    let header = ((128_u32 << 10) << 3 | 1 << 1).to_le_bytes();
    for _ in 0..blocks {
        bytes.extend_from_slice(&header[..3]);
        bytes.push(b' ');
    }
    bytes.extend_from_slice(&[1, 0, 0]);
    bytes.into()
}

#[test]
fn a7_a_bomb_costs_a_bounded_share_with_each_chunk_and_is_stopped() {
    for (encoding, bomb) in [("zstd", zstd_bomb(160_000)), ("gzip", gzip(&vec![b'a'; 200 << 20]))] {
        for size in [1, 100, 16 << 10, 64 << 10] {
            let (mut clear, mut metered) = (clear(encoding, true), 0);
            let mut outcome = Ok(Slice::default());
            for chunk in bomb.chunks(size) {
                let before = clear.decoded;
                outcome = clear.push(Some(Bytes::copy_from_slice(chunk)), false, &mut |plain| metered += plain.len());
                assert!(clear.decoded - before < (BOUNDS.chunk_bytes + (128 << 10)) as u64, "{encoding} by {size}");
                if outcome.is_err() || clear.came > 10_000 && size == 1 {
                    break;
                }
            }
            if size > 100 {
                let rest = clear.push(None, true, &mut |_| {});
                assert!(outcome == Err(Unread::TooMuch) || rest == Err(Unread::TooMuch), "{encoding} by {size}");
            }
            assert!(metered as u64 <= BOUNDS.chunk_bytes as u64 + clear.came * BOUNDS.ratio, "{encoding} by {size}");
            assert!(clear.waiting.iter().map(Bytes::len).sum::<usize>() <= MOST_WAITING + size);
        }
    }
}

#[test]
fn a7_what_is_too_much_for_one_chunk_goes_on_with_the_next_and_passes_whole() {
    let body = gzip(&[&vec![b'a'; 3 << 20][..], b"end"].concat());
    let (mut clear, mut passed, mut last) = (clear("gzip", true), Vec::new(), Vec::new());
    let mut meter = |plain: &[u8]| last = plain.to_vec();
    let first = clear.push(Some(body.clone()), false, &mut meter).unwrap();
    assert_eq!(first.ready, None, "nothing passes that was not looked at");
    assert_eq!(first.pause, PAUSE_PER_MIB);
    assert!(!first.is_unmetered);
    for end in [false, false, true] {
        let slice = clear.push(Some(Bytes::new()), end, &mut |_| {}).unwrap();
        assert!(slice.is_unmetered);
        passed.extend(slice.ready.unwrap_or_default());
    }
    assert_eq!(passed, body);
}

#[test]
fn a7_an_honest_answer_never_waits() {
    let event = "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"the same word\"}}]}\n\n";
    let text = event.repeat(10_000);
    let bytes = gzip(text.as_bytes());
    for size in [1, 700, 64 << 10] {
        let (mut clear, mut metered) = (clear("gzip", true), Vec::new());
        for chunk in bytes.chunks(size) {
            let chunk = Bytes::copy_from_slice(chunk);
            let slice = clear.push(Some(chunk.clone()), false, &mut |plain| metered.extend_from_slice(plain)).unwrap();
            assert_eq!((slice.ready, slice.is_unmetered), (Some(chunk), false), "by {size}");
        }
        assert!(metered == text.as_bytes(), "by {size}");
    }
}

#[test]
fn a8_a_key_is_found_behind_the_meters_bound() {
    let body = gzip(&[&vec![b'a'; 5 << 20][..], KEY.as_bytes()].concat());
    let mut clear = clear("gzip", true);
    let found = body.chunks(100).chain([&[][..]; 9]).find_map(|chunk| {
        let pushed = clear.push(Some(Bytes::copy_from_slice(chunk)), false, &mut |_| {});
        pushed.err()
    });
    assert_eq!(found, Some(Unread::Leak));
}

#[test]
fn a7_without_anything_to_find_an_answer_is_not_read_beyond_the_bound() {
    let mut clear = clear("zstd", false);
    assert_eq!(clear.push(Some(zstd_bomb(1_000)), false, &mut |_| {}), Err(Unread::TooMuch));
    assert!(clear.decoded < 2 * BOUNDS.chunk_bytes as u64);
}

#[test]
fn a7_the_last_chunk_is_read_on_within_the_ratio_and_a_bomb_is_not() {
    // A little noise between long runs: a ratio below the bound.
    let mut noise = 7_u64;
    let text: Vec<u8> = (0..40_000)
        .flat_map(|_| {
            noise = noise.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            [&noise.to_le_bytes()[4..], &[b'a'; 120]].concat()
        })
        .collect();
    let honest = gzip(&text);
    assert!(text.len() > 4 << 20 && (text.len() / honest.len()) < 40);
    let mut read = clear("gzip", true);
    let slice = read.push(Some(honest.clone()), true, &mut |_| {}).unwrap();
    assert_eq!((slice.ready, read.decoded), (Some(honest), text.len() as u64));

    let mut bomb = clear("gzip", true);
    assert_eq!(bomb.push(Some(gzip(&vec![b'a'; 60 << 20])), true, &mut |_| {}), Err(Unread::TooMuch));
    assert!(bomb.decoded < 2 * BOUNDS.chunk_bytes as u64, "{}", bomb.decoded);
}
