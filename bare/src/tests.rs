//! All ways read the same blocks, wherever they are, and say so of one that is not there.

use std::io::{ErrorKind, Write};

use super::*;

const LEN: usize = 4096;

/// Blocks of each file.
const BLOCKS: u64 = 100;

/// Two files; of each block the first byte says which it is.
fn files() -> Files {
    let files = [1, 2].map(|factor| {
        let mut file = tempfile::tempfile().unwrap();
        for block in 0..BLOCKS {
            let mut content = [0xff; LEN];
            content[0] = (block * factor % 251) as u8;
            file.write_all(&content).unwrap();
        }
        file
    });
    Files::from(files)
}

/// Each block of both files once, in another order than theirs, and the sum of their first bytes.
fn all() -> (Arc<[Place]>, u64) {
    let places = (0..2 * BLOCKS).map(|index| Place {
        file: index as usize % 2,
        at: (index / 2 * 37 % BLOCKS) * LEN as u64,
    });
    let first = |place: &Place| place.at / LEN as u64 * (place.file as u64 + 1) % 251;
    let places: Vec<_> = places.collect();
    let sum = places.iter().map(first).sum();
    (places.into(), sum)
}

type Way = Box<dyn FnMut(&Arc<[Place]>) -> io::Result<u64>>;

/// Every way to read, at this depth.
fn ways(files: &Files, depth: usize) -> Vec<Way> {
    let own = Files::clone(files);
    let mut pool = Pool::start(files, depth, LEN).unwrap();
    let mut ways: Vec<Way> = vec![
        Box::new(move |places| in_turn(&own, LEN, places)),
        Box::new(move |places| pool.read(places)),
    ];
    for registered in [
        Registered::Nothing,
        Registered::Files,
        Registered::FilesAndBuffers,
    ] {
        match Ring::new(files, depth, LEN, registered) {
            Ok(mut ring) => ways.push(Box::new(move |places| ring.read(places))),
            // A container may not allow it.
            Err(error) => assert!(
                matches!(error.raw_os_error(), Some(libc::EPERM | libc::ENOSYS)),
                "{registered:?}: {error}"
            ),
        }
    }
    ways
}

#[test]
fn each_way_reads_every_block_of_the_list_once() {
    let files = files();
    let (places, sum) = all();
    for depth in [1, 3, 32] {
        for (way, mut read) in ways(&files, depth).into_iter().enumerate() {
            // Also after the first list.
            for _ in 0..2 {
                assert_eq!(read(&places).unwrap(), sum, "way {way}, depth {depth}");
            }
        }
    }
}

#[test]
fn a_block_that_is_not_there_is_an_error_after_which_others_are_read() {
    let files = files();
    let (places, sum) = all();
    let past_the_end = Place {
        file: 1,
        at: BLOCKS * LEN as u64 - 512,
    };
    let no_file = Place { file: 2, at: 0 };
    for (missing, kind) in [
        (past_the_end, ErrorKind::UnexpectedEof),
        (no_file, ErrorKind::Other),
    ] {
        let mut wrong = places.to_vec();
        wrong.insert(50, missing);
        let wrong = wrong.into();
        for (way, mut read) in ways(&files, 4).into_iter().enumerate() {
            assert_eq!(read(&wrong).unwrap_err().kind(), kind, "way {way}");
            assert_eq!(read(&places).unwrap(), sum, "way {way}");
        }
    }
}
