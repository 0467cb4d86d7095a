//! What few cases have, each of it drawn by itself: hosts of other kinds, raw disks, partial last
//! sectors, bitmaps of several pages, flags, image tools between two lives. Only `ordered` with
//! userhelper's resizes has any of it.

use crate::sim::Assumptions;
use crate::streams::{Stream, below, chance, stream, weighted};

use super::case::{
    BackingFile, DriverName, Image, ImageTool, ImageVersion, Life, ResizeStrategy, Stimulus,
};
use super::subject::Subject;

/// What excludes each other in all lives of a case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// The backing file may be modified, or another.
    Usual,
    /// Image tools are used on the image.
    Tools,
    /// It is a raw disk.
    Raw,
}

fn kind(seed: u64, subject: &Subject) -> Kind {
    // The length of a raw disk is all that commits a shrink of it: it needs a cut in one piece.
    let raw = if subject.assumptions.atomic_set_len {
        6
    } else {
        0
    };
    let kinds = [(72, Kind::Usual), (22, Kind::Tools), (raw, Kind::Raw)];
    weighted(&mut stream(seed, "kind of case"), &kinds)
}

fn has_any(subject: &Subject) -> bool {
    subject.driver == DriverName::Ordered && !subject.resizes_by_model()
}

/// The sectors that have their bits in one page of the bitmap.
const PAGE_SECTORS: u64 = 32_768;

/// One case in this many has a bitmap of three pages. Such a case costs as much as a hundred
/// others.
const LARGE_ONES: u64 = 600;

/// One case in this many has a file that ends within the data of its last dirty sector. Nothing
/// is to be seen in it but that it does not open.
const CUT_ONES: u64 = 150;

/// Changes the image that a case begins with, and its host.
pub(super) fn of_image(
    seed: u64,
    subject: &Subject,
    image: &mut Image,
    assumptions: &mut Assumptions,
) {
    if !has_any(subject) {
        return;
    }
    let mut rng = stream(seed, "rarities of the image");
    assumptions.shares_extents |= chance(&mut rng, 15);
    assumptions.no_zero_range |= chance(&mut rng, 12);
    let is_damaged = image.missing || image.bitmap_cut.is_some() || image.patched.is_some();
    if kind(seed, subject) == Kind::Raw {
        (image.missing, image.bitmap_cut, image.patched) = (false, None, None);
        (image.extension, image.ends_with_data, image.raw) = (false, false, true);
        image.dirty.clear();
    } else if !is_damaged && below(&mut rng, LARGE_ONES) == 0 {
        three_pages(&mut rng, image);
    }
    // What a tool makes of it is looked at only where one is used.
    let percent = match kind(seed, subject) {
        Kind::Tools => 30,
        Kind::Usual | Kind::Raw => 14,
    };
    if chance(&mut rng, percent) {
        image.partial = 1 + below(&mut rng, 511);
    }
    let rng = &mut stream(seed, "a file cut within its data");
    if !is_damaged && !image.raw && !image.ends_with_data && below(rng, CUT_ONES) == 0 {
        image.dirty.push((0, 1));
        image.data_cut = Some(1 + below(rng, 512));
    }
}

/// A bitmap of three pages and a bit, none of them at a multiple of a page, with a hole between
/// the first bits and the last.
fn three_pages(rng: &mut Stream, image: &mut Image) {
    image.version = ImageVersion::V3;
    image.alignment = weighted(rng, &[(2, 512), (1, 1024), (1, 2048)]);
    image.sectors = 2 * PAGE_SECTORS + 1 + below(rng, 64);
    let (first, last) = (below(rng, 100), image.sectors - 1 - below(rng, 100));
    image.dirty = vec![(first, 1 + below(rng, 9)), (last, 1)];
}

/// Changes a life of a case, which is of a device of about this size.
pub(super) fn of_life(seed: u64, number: usize, subject: &Subject, sectors: u64, life: &mut Life) {
    if !has_any(subject) {
        return;
    }
    let mut rng = stream(seed, &format!("rarities of life {number}"));
    life.synchronous = chance(&mut rng, 7);
    let words = weighted(&mut rng, &[(2, 0), (2, 1), (1, 2)]);
    life.pending_words = chance(&mut rng, 10).then_some(words);
    let mut order = stream(seed, &format!("order of life {number}"));
    life.side_by_side = chance(&mut order, 40).then(|| below(&mut order, u64::MAX));
    let segments = &mut stream(seed, &format!("segments of life {number}"));
    life.segments_of = chance(segments, 20).then(|| 1 + below(segments, 2));
    let pieces = &mut stream(seed, &format!("pieces of life {number}"));
    // Bitmaps have pieces only where there is more than one page.
    let percent = if sectors > PAGE_SECTORS { 70 } else { 25 };
    life.at_once = chance(pieces, percent).then(|| 512 << below(pieces, 5));
    match kind(seed, subject) {
        Kind::Usual => {}
        Kind::Tools => {
            life.backing = BackingFile::AsItWas;
            let percent = if number == 0 { 50 } else { 70 };
            life.tool = chance(&mut rng, percent).then(|| tool(&mut rng));
            let copies = matches!(
                life.tool,
                Some(ImageTool::Merge | ImageTool::ConvertToRaw | ImageTool::ConvertToCow)
            );
            let pieces = &mut stream(seed, &format!("pieces of a copy before life {number}"));
            if copies && life.at_once.is_none() && chance(pieces, 60) {
                life.at_once = Some(512 << below(pieces, 5));
            }
            let half = &mut stream(seed, &format!("half a merge before life {number}"));
            life.half_merged = life.tool == Some(ImageTool::Merge) && chance(half, 30);
        }
        Kind::Raw => life.backing = BackingFile::AsItWas,
    }
    let actions = &mut life.actions;
    let percent = if life.side_by_side.is_some() { 14 } else { 8 };
    if life.resize_faults.is_empty() && chance(&mut rng, percent) {
        // Before anything else: most sectors are clean.
        let story = last_steps(&mut rng, sectors);
        actions.splice(0..0, story);
    }
    if sectors > PAGE_SECTORS {
        let shrink = &mut stream(seed, &format!("a shrink by pages in life {number}"));
        if chance(shrink, 50) {
            actions.splice(0..0, by_pages(shrink, sectors));
        }
    }
    if kind(seed, subject) == Kind::Tools {
        // For the tool of the next life.
        let holes = &mut stream(seed, &format!("zeros before a tool in life {number}"));
        if chance(holes, 50) {
            actions.splice(0..0, dirty_hole(holes, sectors));
        }
    }
    let moves = &mut stream(seed, &format!("requests under a move in life {number}"));
    let asks = &mut stream(seed, &format!("what a shrink takes in life {number}"));
    life.keeps_asking = sectors > 1 && kind(seed, subject) != Kind::Raw && chance(asks, 8);
    if life.keeps_asking && life.resize_faults.is_empty() {
        let story = shrunk_under_io(asks, sectors);
        actions.splice(0..0, story);
    }
    let flushes = &mut stream(seed, &format!("flushes among writes in life {number}"));
    if life.side_by_side.is_some() && chance(flushes, 20) {
        let at = below(flushes, actions.len() as u64 + 1) as usize;
        let story = flushes_among_writes(flushes, sectors);
        actions.splice(at..at, story);
    }
    // Where operations go side by side, a request may be under way when a step begins.
    let (percent, drained) = match life.side_by_side {
        Some(_) => (16, 40),
        None => (3, 100),
    };
    if life.resize_faults.is_empty() && chance(moves, percent) {
        let at = below(moves, actions.len() as u64 + 1) as usize;
        let story = under_a_move(moves, sectors, drained);
        actions.splice(at..at, story);
    }
    anywhere(&mut rng, sectors, actions);
    let closed = &mut stream(seed, &format!("life {number} closed under a resize"));
    if life.resize_faults.is_empty() && chance(closed, 6) {
        actions.extend(closed_under_a_resize(closed, sectors));
    }
}

/// A dirty hole, and data that it ends, in one run.
fn dirty_hole(rng: &mut Stream, sectors: u64) -> Vec<Stimulus> {
    // Up to the end of the disk, or anywhere; long enough for a whole page of the host's.
    let count = (16 + below(rng, 16)).min(sectors);
    let start = match chance(rng, 40) {
        true => sectors - count,
        false => below(rng, sectors - count + 1),
    };
    let zeros = Stimulus::WriteZeroes { start, count };
    let discard = Stimulus::Discard { start, count };
    let mut story = vec![zeros, discard, Stimulus::Drain, Stimulus::Flush];
    let data = below(rng, 8).min(start);
    if data > 0 {
        let (start, count, fua) = (start - data, data, false);
        story.insert(0, Stimulus::Write { start, count, fua });
    }
    story
}

/// Now and then inserts actions that fit anywhere.
fn anywhere(rng: &mut Stream, sectors: u64, actions: &mut Vec<Stimulus>) {
    let at = below(rng, actions.len() as u64 + 1) as usize;
    let zeros = Stimulus::WriteZeroes {
        start: below(rng, 4).min(sectors - 1),
        count: sectors.saturating_sub(4).clamp(1, 1000),
    };
    let rebuild = |sectors, odd| Stimulus::Resize {
        sectors,
        strategy: ResizeStrategy::Rebuild,
        window: 1000,
        alignment: 0,
        odd,
    };
    let all_zeros = Stimulus::WriteZeroes {
        start: 0,
        count: sectors,
    };
    let odd = 1 + below(rng, 511);
    let story = match weighted(rng, &[(73, 0), (8, 1), (6, 2), (6, 3), (4, 4), (2, 5)]) {
        0 => Vec::new(),
        // All bits in one go.
        5 => vec![all_zeros, Stimulus::Drain, Stimulus::Flush, Stimulus::Drain],
        // In pieces, where the host cannot zero a range.
        1 => vec![zeros, Stimulus::Drain],
        // Of a device with a partial last sector, to the same size. Another is not to get one.
        2 => vec![
            Stimulus::Drain,
            rebuild(sectors, odd),
            Stimulus::FinishResize,
        ],
        // Of such a device, to its whole sectors, and perhaps longer again.
        3 => cut_off(rng, sectors),
        _ => vec![rebuild(sectors + 1, odd)],
    };
    actions.splice(at..at, story);
}

/// A few requests and no more, to be run in all orders.
pub(super) fn few_requests(seed: u64, sectors: u64, life: &mut Life) {
    let rng = &mut stream(seed, "requests in every order");
    let start = below(rng, sectors);
    let request = |rng: &mut Stream| {
        // Most of them overlap, or have their bits in one word.
        let start = (start + below(rng, 3)).min(sectors - 1);
        let count = 1 + below(rng, (sectors - start).min(3));
        let fua = chance(rng, 20);
        weighted(
            rng,
            &[
                (5, Stimulus::Write { start, count, fua }),
                (2, Stimulus::Read { start, count }),
                (3, Stimulus::Flush),
                (1, Stimulus::Discard { start, count }),
                (1, Stimulus::WriteZeroes { start, count }),
            ],
        )
    };
    life.actions = (0..2 + below(rng, 2)).map(|_| request(rng)).collect();
    life.actions.push(Stimulus::Drain);
    life.side_by_side = Some(below(rng, u64::MAX));
    (life.tool, life.half_merged) = (None, false);
    life.faults.clear();
    life.resize_faults.clear();
}

/// A resize that is due, or has come a few steps, when the device is closed. Where operations go
/// side by side, some lives give it up with requests under way.
fn closed_under_a_resize(rng: &mut Stream, sectors: u64) -> Vec<Stimulus> {
    let write = |rng: &mut Stream| {
        let start = sectors - 1 - below(rng, sectors.min(24));
        let (count, fua) = (1 + below(rng, (sectors - start).min(6)), false);
        Stimulus::Write { start, count, fua }
    };
    let strategies = [
        (2, ResizeStrategy::Headroom),
        (2, ResizeStrategy::Rebuild),
        (4, ResizeStrategy::Reflow),
    ];
    let shrinks = sectors > 1 && chance(rng, 30);
    let mut story = vec![write(rng)];
    if shrinks || chance(rng, 30) {
        story.push(Stimulus::Drain);
    }
    story.push(Stimulus::Resize {
        sectors: match shrinks {
            true => sectors - 1 - below(rng, (sectors - 1).min(20)),
            false => sectors + 1 + below(rng, 40),
        },
        strategy: weighted(rng, &strategies),
        window: weighted(rng, &[(2, 4), (1, 1000)]),
        alignment: weighted(rng, &[(1, 0), (2, 16384)]),
        odd: 0,
    });
    for _ in 0..below(rng, 6) {
        let other = if chance(rng, 50) {
            write(rng)
        } else {
            Stimulus::Step
        };
        story.push(match chance(rng, 60) {
            true => Stimulus::StepResize,
            false => other,
        });
    }
    story
}

/// A partial last sector is cut off, by whichever way to resize, and then the device grows.
fn cut_off(rng: &mut Stream, sectors: u64) -> Vec<Stimulus> {
    let strategies = [
        (2, ResizeStrategy::Auto),
        (3, ResizeStrategy::Headroom),
        (2, ResizeStrategy::Rebuild),
    ];
    let mut resize = |sectors| Stimulus::Resize {
        sectors,
        strategy: weighted(rng, &strategies),
        window: 1000,
        alignment: 0,
        odd: 0,
    };
    let (shorter, longer) = (resize(sectors), resize(sectors + 3));
    let mut story = vec![
        Stimulus::Drain,
        shorter,
        Stimulus::FinishResize,
        Stimulus::Drain,
    ];
    if chance(rng, 60) {
        story.extend([longer, Stimulus::FinishResize, Stimulus::Drain]);
    }
    story
}

fn tool(rng: &mut Stream) -> ImageTool {
    weighted(
        rng,
        &[
            (2, ImageTool::Repair),
            (2, ImageTool::Rebase),
            (1, ImageTool::RebaseFar),
            (3, ImageTool::Merge),
            (2, ImageTool::ConvertToRaw),
            (2, ImageTool::ConvertToCow),
            (1, ImageTool::Recover),
        ],
    )
}

/// A reflow after each step of which a sector is written for the first time, most likely, and
/// flushed: also when all is moved and only the bitmap and the header are left.
fn last_steps(rng: &mut Stream, sectors: u64) -> Vec<Stimulus> {
    let mut story = vec![Stimulus::Resize {
        sectors: sectors + 1 + below(rng, 40),
        strategy: ResizeStrategy::Reflow,
        window: 1000,
        alignment: weighted(rng, &[(1, 16384), (1, 32768)]),
        odd: 0,
    }];
    let first = below(rng, sectors);
    for step in 0..36 {
        let write = Stimulus::Write {
            start: (first + 5 * step) % sectors,
            count: 1,
            fua: false,
        };
        story.extend([
            write,
            Stimulus::Flush,
            Stimulus::Drain,
            Stimulus::StepResize,
        ]);
    }
    story
}

/// A reflow with requests of every kind between its steps, of which `drained` percent have ended
/// when the next step comes. They are long, so that most of them touch the window being moved, or
/// lie on both sides of the frontier.
fn under_a_move(rng: &mut Stream, sectors: u64, drained: u64) -> Vec<Stimulus> {
    let mut story = Vec::new();
    if chance(rng, 50) {
        // There is something to move in each window.
        let (count, fua) = (sectors.min(120), false);
        let start = 0;
        story.extend([Stimulus::Write { start, count, fua }, Stimulus::Drain]);
    }
    let resize = Stimulus::Resize {
        sectors: sectors + 1 + below(rng, 40),
        strategy: ResizeStrategy::Reflow,
        window: weighted(rng, &[(1, 4), (2, 16), (1, 1000)]),
        alignment: weighted(rng, &[(1, 16384), (1, 32768)]),
        odd: 0,
    };
    story.push(resize);
    for _ in 0..24 {
        story.push(Stimulus::StepResize);
        let start = below(rng, sectors);
        let count = 1 + below(rng, sectors - start);
        let fua = false;
        let request = weighted(
            rng,
            &[
                (2, Some(Stimulus::WriteZeroes { start, count })),
                (2, Some(Stimulus::Write { start, count, fua })),
                (1, Some(Stimulus::Discard { start, count })),
                (2, Some(Stimulus::Read { start, count })),
                (5, None),
            ],
        );
        let after = match chance(rng, drained) {
            true => Stimulus::Drain,
            false => Stimulus::Step,
        };
        story.extend(request.into_iter().flat_map(|it| [it, after]));
    }
    if chance(rng, 60) {
        let finish = Stimulus::FinishResize;
        story.extend([finish, Stimulus::Drain, finish]);
    }
    story
}

/// Writes that come, and end, while a flush is under way, and flushes that come after them.
fn flushes_among_writes(rng: &mut Stream, sectors: u64) -> Vec<Stimulus> {
    let mut story = Vec::new();
    for _ in 0..6 {
        let start = below(rng, sectors);
        let fua = chance(rng, 10);
        story.push(Stimulus::Write {
            start,
            count: 1,
            fua,
        });
        story.extend(vec![Stimulus::Step; 1 + below(rng, 4) as usize]);
        story.push(Stimulus::Flush);
        story.extend(vec![Stimulus::Step; below(rng, 4) as usize]);
    }
    story
}

/// A shrink while requests for the sectors that it takes are under way, and come.
fn shrunk_under_io(rng: &mut Stream, sectors: u64) -> Vec<Stimulus> {
    let taken = 1 + below(rng, (sectors - 1).min(40));
    let request = |rng: &mut Stream| {
        // Past the new end, or around it.
        let start = (sectors - taken).saturating_sub(below(rng, 3)) + below(rng, taken);
        let count = 1 + below(rng, (sectors - start).min(8));
        let fua = false;
        let requests = [
            (4, Stimulus::Write { start, count, fua }),
            (1, Stimulus::Read { start, count }),
            (1, Stimulus::WriteZeroes { start, count }),
        ];
        weighted(rng, &requests)
    };
    let mut story: Vec<_> = (0..1 + below(rng, 3)).map(|_| request(rng)).collect();
    story.extend(vec![Stimulus::Step; below(rng, 4) as usize]);
    story.push(Stimulus::Resize {
        sectors: sectors - taken,
        strategy: weighted(
            rng,
            &[(2, ResizeStrategy::Headroom), (1, ResizeStrategy::Rebuild)],
        ),
        window: 1000,
        alignment: 0,
        odd: 0,
    });
    for _ in 0..4 + below(rng, 4) {
        story.push(Stimulus::StepResize);
        if chance(rng, 40) {
            story.push(request(rng));
        }
        story.extend(vec![Stimulus::Step; below(rng, 3) as usize]);
    }
    let end = [Stimulus::FinishResize, Stimulus::Drain];
    story.extend(end.into_iter().chain(end));
    story
}

/// A shrink to a part of the pages of a large device's bitmap.
fn by_pages(rng: &mut Stream, sectors: u64) -> Vec<Stimulus> {
    let least = weighted(rng, &[(1, 1), (2, PAGE_SECTORS + 1)]);
    let shrink = Stimulus::Resize {
        sectors: least + below(rng, sectors - least),
        strategy: ResizeStrategy::Rebuild,
        window: 1000,
        alignment: 0,
        odd: 0,
    };
    vec![
        shrink,
        Stimulus::FinishResize,
        Stimulus::Flush,
        Stimulus::Drain,
    ]
}
