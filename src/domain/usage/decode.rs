//! Decompresses an answer for meter and guard, should an upstream compress although it was asked not to (H4).
//!
//! The bytes that go to the client are never touched: the decoder reads beside them. Output leaves in pieces of at most
//! [`PIECE_BYTES`] and stops where there is no more room, to go on later (A7), so a bomb costs neither time nor memory; windows are
//! limited to what HTTP allows (32 KiB for gzip and deflate, 8 MiB for zstd, 16 MiB for br). A stream that is no such encoding, or that has
//! bytes behind its end, is an error, after which nothing more comes.

use std::io::Write;

use brotli::enc::StandardAlloc;
use brotli::{BrotliDecompressStream, BrotliResult, BrotliState};
use flate2::write::{DeflateDecoder, MultiGzDecoder, ZlibDecoder};
use zstd::stream::raw::{DParameter, Operation};

/// The largest piece of output that a sink sees.
pub const PIECE_BYTES: usize = 32 * 1024;

/// RFC 9659: a decoder of zstd in HTTP need not take windows beyond 8 MiB.
const ZSTD_WINDOW_LOG: u32 = 23;

/// The answer is not what its `Content-Encoding` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the answer is no valid {encoding} stream")]
pub struct DecodeError {
    pub encoding: &'static str,
}

/// An incremental decoder of one content encoding.
pub struct Decoder {
    encoding: &'static str,
    codec: Codec,
}

type Brotli = BrotliState<StandardAlloc, StandardAlloc, StandardAlloc>;

enum Codec {
    Gzip(Box<MultiGzDecoder<Vec<u8>>>),
    /// `deflate` before its first two bytes are known; holds the first.
    Deflate(Option<u8>),
    Zlib(Box<ZlibDecoder<Vec<u8>>>),
    Raw(Box<DeflateDecoder<Vec<u8>>>),
    Brotli {
        state: Box<Brotli>,
        out: Box<[u8]>,
    },
    Zstd {
        decoder: zstd::stream::raw::Decoder<'static>,
        out: Box<[u8]>,
    },
    /// The end, or an error, was reached.
    Ended(Result<(), DecodeError>),
}

impl Decoder {
    /// Makes the decoder for a `Content-Encoding`. `None` for `identity`, for an encoding that is not known and for a list of
    /// several.
    pub fn for_encoding(encoding: &str) -> Option<Self> {
        let is = |name: &str| encoding.trim().eq_ignore_ascii_case(name);
        let (encoding, codec) = if is("gzip") || is("x-gzip") {
            ("gzip", Codec::Gzip(Box::new(MultiGzDecoder::new(Vec::new()))))
        } else if is("deflate") {
            ("deflate", Codec::Deflate(None))
        } else if is("br") {
            // "Strict": without the large windows that HTTP's `br` does not have.
            let state = BrotliState::new_strict(StandardAlloc::default(), StandardAlloc::default(), StandardAlloc::default());
            ("br", Codec::Brotli { state: Box::new(state), out: piece() })
        } else if is("zstd") {
            let mut decoder = zstd::stream::raw::Decoder::new().ok()?;
            decoder.set_parameter(DParameter::WindowLogMax(ZSTD_WINDOW_LOG)).ok()?;
            ("zstd", Codec::Zstd { decoder, out: piece() })
        } else {
            return None;
        };
        Some(Self { encoding, codec })
    }

    /// Decodes the next bytes; what they give goes to `sink` at once, in zero or more pieces, and is taken from `room`. Gives the number
    /// of bytes that were read. With no room left more may be behind them: the next call begins with those that were not read, or with none.
    ///
    /// # Errors
    /// When the bytes are no valid stream, or follow its end; every later call then fails as well.
    pub fn push(&mut self, chunk: &[u8], room: &mut usize, sink: &mut dyn FnMut(&[u8])) -> Result<usize, DecodeError> {
        if let Codec::Deflate(first) = &mut self.codec {
            let Some((codec, header, rest)) = deflate(first, chunk) else { return Ok(chunk.len()) };
            self.codec = codec;
            self.push(&header, room, sink)?;
            return Ok(chunk.len() - rest.len() + self.push(rest, room, sink)?);
        }
        let error = DecodeError { encoding: self.encoding };
        let mut sink = |piece: &[u8]| {
            *room = room.saturating_sub(piece.len());
            sink(piece);
            *room > 0
        };
        let outcome = match &mut self.codec {
            Codec::Ended(Ok(())) if chunk.is_empty() => return Ok(0),
            Codec::Ended(_) => None,
            Codec::Gzip(decoder) => write_through(decoder.as_mut(), chunk, MultiGzDecoder::get_mut, &mut sink),
            Codec::Zlib(decoder) => write_through(decoder.as_mut(), chunk, ZlibDecoder::get_mut, &mut sink),
            Codec::Raw(decoder) => write_through(decoder.as_mut(), chunk, DeflateDecoder::get_mut, &mut sink),
            // Its first bytes told what it is.
            Codec::Deflate(_) => None,
            Codec::Brotli { state, out } => unbrotli(state, out, chunk, &mut sink),
            Codec::Zstd { decoder, out } => unzstd(decoder, out, chunk, &mut sink),
        };
        match outcome {
            Some(Step::More(taken)) => Ok(taken),
            Some(Step::End(taken)) if taken == chunk.len() => {
                self.codec = Codec::Ended(Ok(()));
                Ok(taken)
            }
            Some(Step::End(_)) | None => {
                self.codec = Codec::Ended(Err(error));
                Err(error)
            }
        }
    }
}

/// How many bytes of a chunk a codec read; no step stands for bytes that are no valid stream.
enum Step {
    More(usize),
    End(usize),
}

/// Takes a piece; whether there is room for another.
type Sink<'s> = dyn FnMut(&[u8]) -> bool + 's;

fn piece() -> Box<[u8]> {
    vec![0; PIECE_BYTES].into_boxed_slice()
}

/// Feeds one of flate2's decoders, which stop after 32 KiB of output, and empties the buffer that they write to.
fn write_through<D: Write>(
    decoder: &mut D,
    chunk: &[u8],
    buffer: impl Fn(&mut D) -> &mut Vec<u8>,
    sink: &mut Sink<'_>,
) -> Option<Step> {
    let mut has_room = |decoder: &mut D| {
        let buffer = buffer(decoder);
        let has_room = buffer.is_empty() || sink(buffer);
        buffer.clear();
        has_room
    };
    let mut at = 0;
    while let Some(rest) = chunk.get(at..).filter(|rest| !rest.is_empty()) {
        let taken = decoder.write(rest).ok()?;
        // They take nothing that follows the end.
        at += (taken > 0).then_some(taken)?;
        if !has_room(decoder) {
            return Some(Step::More(at));
        }
    }
    decoder.flush().ok()?;
    has_room(decoder);
    Some(Step::More(at))
}

/// Servers send `deflate` with zlib's header, as the standard says, or without: its two bytes tell (RFC 1950, 2.2).
fn deflate<'a>(held: &mut Option<u8>, chunk: &'a [u8]) -> Option<(Codec, [u8; 2], &'a [u8])> {
    let (first, rest) = match *held {
        Some(first) => (first, chunk),
        None => chunk.split_first().map(|(first, rest)| (*first, rest))?,
    };
    *held = Some(first);
    let (&second, rest) = rest.split_first()?;
    let is_zlib = first & 0x0f == 8 && first >> 4 <= 7 && u16::from_be_bytes([first, second]) % 31 == 0;
    let codec = match is_zlib {
        true => Codec::Zlib(Box::new(ZlibDecoder::new(Vec::new()))),
        false => Codec::Raw(Box::new(DeflateDecoder::new(Vec::new()))),
    };
    Some((codec, [first, second], rest))
}

fn unbrotli(state: &mut Brotli, out: &mut [u8], chunk: &[u8], sink: &mut Sink<'_>) -> Option<Step> {
    let (mut left, mut at, mut total) = (chunk.len(), 0, 0);
    loop {
        let (mut room, mut written) = (out.len(), 0);
        let result = BrotliDecompressStream(&mut left, &mut at, chunk, &mut room, &mut written, out, &mut total, state);
        let piece = out.get(..written).unwrap_or_default();
        let has_room = piece.is_empty() || sink(piece);
        match result {
            BrotliResult::ResultSuccess => return Some(Step::End(at)),
            BrotliResult::NeedsMoreInput => return Some(Step::More(at)),
            BrotliResult::NeedsMoreOutput if has_room => {}
            BrotliResult::NeedsMoreOutput => return Some(Step::More(at)),
            BrotliResult::ResultFailure => return None,
        }
    }
}

fn unzstd(decoder: &mut impl Operation, out: &mut [u8], chunk: &[u8], sink: &mut Sink<'_>) -> Option<Step> {
    let mut at = 0;
    loop {
        let status = decoder.run_on_buffers(chunk.get(at..)?, out).ok()?;
        let piece = out.get(..status.bytes_written).unwrap_or_default();
        let has_room = piece.is_empty() || sink(piece);
        at += status.bytes_read;
        // A full piece may have more behind it.
        let is_read = at == chunk.len() && status.bytes_written < out.len();
        if is_read || !has_room {
            return Some(Step::More(at));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use flate2::Compression;
    use proptest::prelude::*;

    use super::*;

    fn gzip(plain: &[u8]) -> Vec<u8> {
        read(flate2::read::GzEncoder::new(plain, Compression::default()))
    }

    fn read(mut encoder: impl Read) -> Vec<u8> {
        let mut out = Vec::new();
        encoder.read_to_end(&mut out).unwrap();
        out
    }

    fn encoded(plain: &[u8]) -> Vec<(&'static str, Vec<u8>)> {
        let two_members: Vec<u8> = [gzip(&plain[..plain.len() / 2]), gzip(&plain[plain.len() / 2..])].concat();
        vec![
            ("gzip", gzip(plain)),
            ("x-gzip", two_members),
            ("deflate", read(flate2::read::ZlibEncoder::new(plain, Compression::default()))),
            ("deflate", read(flate2::read::DeflateEncoder::new(plain, Compression::default()))),
            ("br", read(brotli::CompressorReader::new(plain, 4096, 5, 22))),
            ("zstd", zstd::encode_all(plain, 3).unwrap()),
        ]
    }

    fn decode(encoding: &str, chunks: &[&[u8]]) -> Result<Vec<u8>, DecodeError> {
        let mut out = Vec::new();
        let mut decoder = Decoder::for_encoding(encoding).unwrap();
        for chunk in chunks {
            let taken = decoder.push(chunk, &mut usize::MAX.clone(), &mut |piece| {
                assert!(piece.len() <= PIECE_BYTES);
                out.extend_from_slice(piece);
            })?;
            assert_eq!(taken, chunk.len());
        }
        Ok(out)
    }

    #[test]
    fn h4_every_encoding_is_decoded_whole_and_byte_by_byte() {
        let plain = "data: {\"usage\":{\"prompt_tokens\":12}}\n\n".repeat(3000).into_bytes();
        for (encoding, bytes) in encoded(&plain) {
            assert_eq!(decode(encoding, &[&bytes]).unwrap(), plain, "{encoding}");
            assert_eq!(decode(encoding, &bytes.chunks(1).collect::<Vec<_>>()).unwrap(), plain, "{encoding}");
            assert_eq!(decode(encoding, &bytes.chunks(7).collect::<Vec<_>>()).unwrap(), plain, "{encoding}");
        }
    }

    #[test]
    fn h4_what_was_sent_before_a_flush_is_seen_before_the_end() {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(b"data: [DONE]\n\n").unwrap();
        encoder.flush().unwrap();
        assert_eq!(decode("gzip", &[encoder.get_ref()]).unwrap(), b"data: [DONE]\n\n");
    }

    #[test]
    fn a7_a_bomb_comes_in_small_pieces_and_stops_where_there_is_no_room() {
        let plain = vec![b'a'; 20 * 1024 * 1024];
        for (encoding, bytes) in encoded(&plain) {
            let (mut total, mut at, mut calls) = (0, 0, 0);
            let mut decoder = Decoder::for_encoding(encoding).unwrap();
            loop {
                let (before, mut room) = (total, 1 << 20);
                at += decoder
                    .push(&bytes[at..], &mut room, &mut |piece| {
                        assert!(piece.len() <= PIECE_BYTES, "{encoding}");
                        total += piece.len();
                    })
                    .unwrap();
                assert!(total - before < (1 << 20) + 2 * PIECE_BYTES, "{encoding}");
                calls += 1;
                if room > 0 {
                    break;
                }
            }
            assert_eq!((total, at), (plain.len(), bytes.len()), "{encoding}");
            assert!(calls >= 20, "{encoding}: {calls}");
        }
    }

    #[test]
    fn a8_bytes_behind_the_end_are_an_error() {
        for (encoding, bytes) in encoded(b"{\"usage\":{}}") {
            for behind in [&b"sk-key"[..], b"\0"] {
                let whole = [&bytes, behind].concat();
                // To zstd the beginning of another frame may be in the making; what never gets whole is none.
                let more = [&whole[..], b"more and more"].concat();
                assert!(decode(encoding, &[&more]).is_err(), "{encoding}");
                assert!(decode(encoding, &[&bytes, behind, b"more and more"]).is_err(), "{encoding}");
            }
            let twice = [&bytes[..], &bytes].concat();
            assert_eq!(decode(encoding, &[&twice]).is_ok(), matches!(encoding, "gzip" | "x-gzip" | "zstd"), "{encoding}");
        }
    }

    #[test]
    fn a_zstd_window_beyond_the_limit_is_refused() {
        let mut encoder = zstd::stream::Encoder::new(Vec::new(), 1).unwrap();
        encoder.window_log(27).unwrap();
        encoder.include_contentsize(false).unwrap();
        encoder.write_all(&vec![7; 1 << 20]).unwrap();
        let bytes = encoder.finish().unwrap();
        assert_eq!(decode("zstd", &[&bytes]), Err(DecodeError { encoding: "zstd" }));
    }

    #[test]
    fn identity_unknown_and_stacked_encodings_have_no_decoder() {
        for encoding in ["identity", "", "compress", "gzip, br"] {
            assert!(Decoder::for_encoding(encoding).is_none(), "{encoding}");
        }
        assert!(Decoder::for_encoding(" GZip ").is_some());
    }

    #[test]
    fn an_error_stays() {
        let mut decoder = Decoder::for_encoding("gzip").unwrap();
        assert!(decoder.push(b"{\"not\":\"gzip\"}", &mut 9, &mut |_| {}).is_err());
        assert!(decoder.push(&gzip(b"x"), &mut 9, &mut |_| unreachable!()).is_err());
    }

    proptest! {
        #[test]
        fn garbage_is_an_error_or_nothing_but_no_panic(
            bytes in proptest::collection::vec(any::<u8>(), 0..400),
            flips in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 1..4),
            step in 1..64usize,
        ) {
            for (encoding, mut good) in encoded(b"{\"usage\":{\"input_tokens\":1}} and then some more text, some more text") {
                let _ = decode(encoding, &bytes.chunks(step).collect::<Vec<_>>());
                for (at, byte) in &flips {
                    *at.get_mut(&mut good) = *byte;
                }
                let _ = decode(encoding, &good.chunks(step).collect::<Vec<_>>());
            }
        }
    }
}
