//! Compresses a body piece by piece, flushed after each, so that every event can be decoded when its bytes are there.

use std::io::{self, Write};

use bytes::Bytes;

use super::script::Encoding;

impl Encoding {
    /// The word in `Content-Encoding`.
    pub fn token(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Deflate => "deflate",
            Self::Br => "br",
            Self::Zstd => "zstd",
        }
    }
}

/// Compresses `pieces`; the result has one piece more, the end of the compressed stream, where that has bytes of its own.
pub fn compress(encoding: Encoding, pieces: &[Bytes]) -> io::Result<Vec<Bytes>> {
    match encoding {
        Encoding::Gzip => {
            let encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
            stream(encoder, pieces, |encoder| std::mem::take(encoder.get_mut()), flate2::write::GzEncoder::finish)
        }
        // HTTP's `deflate` is the zlib format (RFC 9110, 8.4.1.2).
        Encoding::Deflate => {
            let encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::default());
            stream(encoder, pieces, |encoder| std::mem::take(encoder.get_mut()), flate2::write::ZlibEncoder::finish)
        }
        Encoding::Br => {
            let encoder = brotli::CompressorWriter::new(Vec::new(), 4096, 4, 20);
            stream(encoder, pieces, |encoder| std::mem::take(encoder.get_mut()), |encoder| Ok(encoder.into_inner()))
        }
        Encoding::Zstd => {
            let encoder = zstd::stream::write::Encoder::new(Vec::new(), 0)?;
            stream(encoder, pieces, |encoder| std::mem::take(encoder.get_mut()), zstd::stream::write::Encoder::finish)
        }
    }
}

fn stream<E: Write>(
    mut encoder: E,
    pieces: &[Bytes],
    drain: impl Fn(&mut E) -> Vec<u8>,
    finish: impl FnOnce(E) -> io::Result<Vec<u8>>,
) -> io::Result<Vec<Bytes>> {
    let mut out = Vec::with_capacity(pieces.len() + 1);
    for piece in pieces {
        encoder.write_all(piece)?;
        encoder.flush()?;
        out.push(Bytes::from(drain(&mut encoder)));
    }
    let tail = finish(encoder)?;
    if !tail.is_empty() {
        out.push(Bytes::from(tail));
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    fn decoded(encoding: Encoding, bytes: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        match encoding {
            Encoding::Gzip => flate2::read::GzDecoder::new(bytes).read_to_end(&mut out),
            Encoding::Deflate => flate2::read::ZlibDecoder::new(bytes).read_to_end(&mut out),
            Encoding::Br => brotli::Decompressor::new(bytes, 4096).read_to_end(&mut out),
            Encoding::Zstd => zstd::stream::read::Decoder::new(bytes).unwrap().read_to_end(&mut out),
        }
        .unwrap();
        out
    }

    #[test]
    fn every_coding_decodes_to_the_same_bytes() {
        let pieces =
            [Bytes::from_static(b"data: one\n\n"), Bytes::from_static(b"data: two\n\n"), Bytes::from_static(b"data: [DONE]\n\n")];
        for encoding in [Encoding::Gzip, Encoding::Deflate, Encoding::Br, Encoding::Zstd] {
            let compressed = compress(encoding, &pieces).unwrap();
            assert!(compressed.len() >= pieces.len(), "{encoding:?}");
            assert_eq!(decoded(encoding, &compressed.concat()), pieces.concat(), "{encoding:?}");
        }
    }
}
