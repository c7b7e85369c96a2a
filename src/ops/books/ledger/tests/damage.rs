//! Files that were cut and bits that were flipped: nothing panics, what is intact stays, what is not is reported.

use super::*;

const ENTRIES: u64 = 8;

fn sample() -> (TempDir, PathBuf, Vec<u8>) {
    let state = tempfile::tempdir().unwrap();
    let ledger = start(&state);
    (0..ENTRIES).for_each(|nth| entry(&ledger, nth));
    kill(ledger, Vec::new());
    let file = files(&state)[0].clone();
    let bytes = std::fs::read(&file).unwrap();
    (state, file, bytes)
}

fn whole_lines(bytes: &[u8]) -> usize {
    bytes.iter().filter(|byte| **byte == b'\n').count()
}

#[test]
fn a_file_cut_anywhere_keeps_every_line_before_the_cut() {
    let (state, file, bytes) = sample();
    let lock = names::lock_file(
        &directory(state.path()),
        &SegmentName::parse(file.file_name().unwrap().to_str().unwrap()).unwrap().writer,
    );
    for cut in bytes.len() - 4_096..bytes.len() {
        let kept = &bytes[..cut];
        std::fs::write(&file, kept).unwrap();
        std::fs::write(&lock, b"").unwrap();
        let (ledger, recovery) = Ledger::start(state.path(), SETTINGS, false, NOW).unwrap();
        // A line that lost its feed alone is whole.
        let lost = bytes[cut..].iter().position(|byte| *byte == b'\n').unwrap();
        let (is_torn, lines) = (lost > 0 && kept.last() != Some(&b'\n'), whole_lines(kept) + usize::from(lost == 0));
        assert_eq!(recovery.torn.len(), usize::from(is_torn), "{cut}");
        assert_eq!(recovery.damaged, 0);
        // The header, then each open followed by its close: at most one lost its close to the cut.
        let opens = lines / 2;
        let (read, closes) = records(&state);
        assert_eq!((read.len(), closes.len()), (opens, opens), "{cut}");
        assert_eq!(recovery.interrupted, (lines as u64 + 1) % 2, "{cut}");
        let verdict = verify::verify(ledger.directory(), None).unwrap();
        assert_eq!(verdict.findings, [], "{cut}");
        drop(ledger);
        for other in files(&state).iter().filter(|other| **other != file) {
            std::fs::remove_file(other).unwrap();
        }
    }
}

#[test]
fn a_thousand_flipped_bits_cost_at_most_their_own_line() {
    let (state, file, bytes) = sample();
    let lines = whole_lines(&bytes);
    let mut random = 0x9e37_79b9_7f4a_7c15u64;
    for _ in 0..1_000 {
        // xorshift: the same bits in every run.
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        let at = random;
        let (byte, bit) = ((at >> 3) as usize % bytes.len(), at & 7);
        let mut damaged = bytes.clone();
        damaged[byte] ^= 1 << bit;
        std::fs::write(&file, &damaged).unwrap();
        let (mut intact, mut faults) = (0, 0);
        let mut scan = Scan::open(&file, 0).unwrap();
        while let Some(raw) = scan.next_line().unwrap() {
            faults += usize::from(raw.each(|_| intact += 1).is_err());
        }
        let is_feed = bytes[byte] == b'\n';
        assert_eq!(intact, if is_feed { lines } else { lines - 1 }, "byte {byte}, bit {bit}");
        assert!(faults > 0, "byte {byte}, bit {bit}");
        let verdict = verify::verify(&directory(state.path()), None).unwrap();
        let seen = !verdict.findings.is_empty() || verdict.to_recover > 0 || byte == bytes.len() - 1;
        assert!(seen, "byte {byte}, bit {bit}: {verdict:?}");
    }
}

/// Half a line glued to a whole one, as a writer without our care would leave it.
#[test]
fn a_line_behind_a_torn_one_is_kept() {
    let (state, file, bytes) = sample();
    let feeds: Vec<usize> = bytes.iter().enumerate().filter(|(_, byte)| **byte == b'\n').map(|(at, _)| at).collect();
    let mut torn = bytes[..feeds[4] - 30].to_vec();
    torn.extend_from_slice(&bytes[feeds[4] + 1..]);
    std::fs::write(&file, torn).unwrap();
    let (opens, closes) = records(&state);
    assert_eq!((opens.len() + closes.len()) as u64, 2 * ENTRIES - 1);
}

#[test]
fn a_file_that_is_no_ledger_is_read_without_an_end_or_a_panic() {
    let (state, file, _) = sample();
    for noise in [vec![0u8; 300_000], b"\n".repeat(1_000), b"{\"v\":".repeat(20_000), Vec::new()] {
        std::fs::write(&file, &noise).unwrap();
        assert!(records(&state).1.is_empty());
        verify::verify(&directory(state.path()), None).unwrap();
    }
}
