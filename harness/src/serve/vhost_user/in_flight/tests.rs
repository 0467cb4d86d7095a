//! What is noted, what the next server makes of it, and what is refused.

use super::*;

const LEN: u16 = 8;

fn notes() -> (Arc<InFlightNotes>, OwnedFd) {
    let (notes, file) = InFlightNotes::new(NotedQueues::new(2, LEN).unwrap()).unwrap();
    (Arc::new(notes), file)
}

fn given_back(file: &OwnedFd) -> Result<InFlightNotes, NoNotes> {
    let shape = NotedQueues::new(2, LEN).unwrap();
    let file = file.try_clone().unwrap();
    InFlightNotes::given_back(file, 0, shape.bytes() as u64, shape)
}

fn answer(queue: &QueueNotes, head: u16, used: &mut u16) {
    *used = used.wrapping_add(1);
    queue.end(head, Consequence::None, || Ok(*used)).unwrap();
}

#[test]
fn what_was_taken_and_not_answered_is_in_flight_in_its_order() {
    let (notes, file) = notes();
    let queue = notes.queue(1).unwrap();
    let mut used = u16::MAX;
    assert_eq!(queue.resume(used, LEN), Ok(None), "it begins");
    for (number, head) in [5, 1, 7, 3].into_iter().enumerate() {
        queue.begin(head, number as u64);
    }
    answer(&queue, 1, &mut used);
    assert_eq!(used, 0, "the ring's place wraps");
    drop((notes, queue));
    let next = Arc::new(given_back(&file).unwrap());
    let other = next.queue(0).unwrap();
    assert_eq!(other.resume(0, LEN), Ok(None), "the other queue's own");
    let queue = next.queue(1).unwrap();
    assert_eq!(queue.resume(used, LEN), Ok(Some(vec![5, 7, 3])));
    assert!(next.queue(2).is_none());
}

/// The server is killed before an answer shows, and between that and its last note.
#[test]
fn an_answer_that_shows_is_given_whatever_the_notes_say() {
    let kill = || Err(Broken::Rings);
    for (shows, expected) in [(false, vec![2, 4]), (true, vec![4])] {
        let (notes, file) = notes();
        let queue = notes.queue(0).unwrap();
        let mut used = 0;
        assert_eq!(queue.resume(used, LEN), Ok(None));
        for (number, head) in [0, 2, 4].into_iter().enumerate() {
            queue.begin(head, number as u64);
        }
        answer(&queue, 0, &mut used);
        assert_eq!(queue.end(2, Consequence::None, kill), kill().map(drop));
        used += u16::from(shows);
        let next = Arc::new(given_back(&file).unwrap());
        let queue = next.queue(0).unwrap();
        assert_eq!(queue.resume(used, LEN), Ok(Some(expected.clone())));
        assert_eq!(queue.resume(used, LEN), Ok(Some(expected)), "again");
    }
}

#[test]
fn a_client_whose_server_took_changes_with_it_is_refused() {
    let (notes, file) = notes();
    let queue = notes.queue(0).unwrap();
    queue.resume(0, LEN).unwrap();
    let end = |consequence| queue.end(0, consequence, || Ok(1)).unwrap();
    end(Consequence::Change);
    let covered = notes.answered();
    end(Consequence::Change);
    assert!(notes.has_volatile());
    let refused = given_back(&file).unwrap_err().to_string();
    assert!(refused.starts_with("2 changes"), "{refused}");
    end(Consequence::Flush(covered));
    let refused = given_back(&file).unwrap_err().to_string();
    assert!(refused.starts_with("1 changes"), "{refused}");
    end(Consequence::Flush(notes.answered()));
    assert!(!notes.has_volatile());
    assert_eq!(given_back(&file).unwrap().answered(), 2);
}

#[test]
fn notes_of_another_shape_or_server_are_refused() {
    for (queues, len) in [(0, 1), (1, 0), (5, 1), (1, 1025), (u16::MAX, u16::MAX)] {
        let refused = NotedQueues::new(queues, len).unwrap_err().to_string();
        assert!(refused.contains("expected 1 to 4 queues"), "{refused}");
    }
    let shape = NotedQueues::new(1, LEN).unwrap();
    let len = shape.bytes() as u64;
    let of_seals = |len: u64, seals: SealFlags| {
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let file = rustix::fs::memfd_create("notes", flags).unwrap();
        rustix::fs::ftruncate(&file, len).unwrap();
        rustix::fs::fcntl_add_seals(&file, seals).unwrap();
        file
    };
    let empty = |len| of_seals(len, SealFlags::SHRINK);
    for (file, offset, len) in [
        (empty(len - 1), 0, len),
        (empty(len), 4096, len),
        (empty(len), 0, len - 1),
        (empty(len), u64::MAX, len),
    ] {
        let refused = InFlightNotes::given_back(file, offset, len, shape);
        assert!(
            matches!(refused, Err(NoNotes::Length { .. })),
            "{refused:?}"
        );
    }
    let refused = InFlightNotes::given_back(empty(len), 0, len, shape);
    assert!(matches!(refused, Err(NoNotes::Foreign)), "{refused:?}");
    // A file that somebody can make shorter under the server's hands, whatever is in it.
    let on_disk = tempfile::tempfile().unwrap();
    on_disk.set_len(len).unwrap();
    for file in [
        of_seals(len, SealFlags::empty()),
        of_seals(len, SealFlags::GROW),
        on_disk.into(),
    ] {
        let refused = InFlightNotes::given_back(file, 0, len, shape);
        assert!(matches!(refused, Err(NoNotes::Unsealed)), "{refused:?}");
    }
    let (_, file) = notes();
    assert!(rustix::fs::ftruncate(&file, 0).is_err());

    // A queue that is longer than its notes, and notes that say something else.
    let (notes, _) = notes();
    let queue = notes.queue(0).unwrap();
    assert!(queue.resume(0, LEN + 1).is_err());
    queue.resume(0, LEN).unwrap();
    notes.store(COUNT_AT, LEN + 1);
    assert!(queue.resume(0, LEN).is_err());
}

/// Whatever is in the memory, nothing outside the queue comes of it.
#[test]
fn hostile_notes_name_chains_of_the_queue_only() {
    use proptest::prelude::*;
    let bytes = prop::collection::vec(any::<u8>(), NotedQueues::new(1, LEN).unwrap().trailer());
    proptest!(ProptestConfig::with_cases(500), |(bytes in bytes, used: u16, len in 1..LEN)| {
        let (notes, _file) = InFlightNotes::new(NotedQueues::new(1, LEN).unwrap()).unwrap();
        notes.memory.as_volatile_slice().write_slice(&bytes, 0).unwrap();
        notes.store(VERSION_AT, VERSION);
        notes.store(COUNT_AT, LEN);
        let queue = Arc::new(notes).queue(0).unwrap();
        let mut heads = queue.resume(used, len).unwrap().unwrap();
        prop_assert!(heads.iter().all(|&head| head < len));
        heads.sort_unstable();
        heads.dedup();
        prop_assert!(heads.len() <= usize::from(len));
    });
}
