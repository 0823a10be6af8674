//! Tests of damaged state files.

use proptest::prelude::*;
use proptest::sample::Index;

use super::*;

/// Returns the bindings and the time in a file with these contents; `None` if it cannot be used.
fn read(contents: &[u8]) -> Option<(Vec<Binding>, Option<Time>)> {
    let (_directory, path) = place();
    fs::write(&path, contents).unwrap();
    let (_store, saved) = Store::open(&path).ok()?;
    Some((saved.bindings, saved.saved_at))
}

/// A file of three transactions: its contents while open and once closed, and its states.
struct Small {
    /// The contents after each transaction.
    open: Vec<Vec<u8>>,
    /// The contents once closed.
    closed: Vec<u8>,
    /// The bindings and the time after each transaction.
    states: Vec<(Vec<Binding>, Option<Time>)>,
}

/// Creates a file of three transactions.
fn small() -> Small {
    let (_directory, path) = place();
    let (mut store, _) = Store::open(&path).unwrap();
    let mut small = Small {
        open: vec![fs::read(&path).unwrap()],
        closed: Vec::new(),
        states: vec![(Vec::new(), None)],
    };
    let mut bindings = BTreeMap::new();
    for (at, part) in (1..).zip([1..=3, 3..=3, 2..=4]) {
        let changed = |last| Binding {
            since: Time(at),
            ..binding(last)
        };
        let changed: Vec<Binding> = part.map(changed).collect();
        let mut batch = batch(&changed);
        batch.at = Time(at);
        store.write(&batch).unwrap();
        bindings.extend(
            changed
                .into_iter()
                .map(|binding| (binding.address, binding)),
        );
        let state = bindings.values().cloned().collect();
        small.states.push((state, Some(Time(at))));
        small.open.push(fs::read(&path).unwrap());
    }
    drop(store);
    small.closed = fs::read(&path).unwrap();
    small
}

/// Every bit of a closed file is covered by a checksum.
#[test]
fn detects_every_flipped_bit() {
    let Small { closed, states, .. } = small();
    assert_eq!(read(&closed).as_ref(), states.last());
    for place in 0..closed.len() {
        for bit in 0..8 {
            let mut damaged = closed.clone();
            damaged[place] ^= 1 << bit;
            assert_eq!(read(&damaged), None, "bit {bit} of octet {place}");
        }
    }
}

#[test]
fn detects_every_truncation() {
    let Small { closed, states, .. } = small();
    for length in 0..closed.len() {
        // A file of this length may be one whose first write was interrupted.
        let is_new = length == 0 || (8..=MARK.len() + 1).contains(&length);
        let expected = is_new.then(|| states[0].clone());
        assert_eq!(read(&closed[..length]), expected, "{length} octets");
    }
}

/// A killed process may leave its last transaction torn, which is ignored. Any other damage is
/// detected.
#[test]
fn drops_a_torn_transaction_and_nothing_else() {
    let Small { open, states, .. } = small();
    let [.., before, last] = &open[..] else {
        panic!()
    };
    for length in HEADER..last.len() {
        let expected = (length >= before.len()).then(|| states[2].clone());
        assert_eq!(read(&last[..length]), expected, "{length} octets");
    }
    for place in 0..last.len() {
        let mut damaged = last.clone();
        damaged[place] ^= 1 << (place % 8);
        let expected = (place >= before.len()).then(|| states[2].clone());
        assert_eq!(read(&damaged), expected, "octet {place}");
    }
    // The header may be on disk before the transaction.
    let header = [&last[..HEADER], &before[HEADER..]].concat();
    assert_eq!(read(&header).as_ref(), Some(&states[2]));
    // The next transaction overwrites the torn one.
    let (_directory, path) = place();
    fs::write(&path, &last[..last.len() - 1]).unwrap();
    let (mut store, saved) = Store::open(&path).unwrap();
    assert_eq!(saved.bindings, states[2].0);
    store.write(&batch(&[binding(9)])).unwrap();
    drop(store);
    let (_, saved) = Store::open(&path).unwrap();
    let expected: Vec<Binding> = states[2].0.iter().cloned().chain([binding(9)]).collect();
    assert_eq!(saved.bindings, expected);
}

/// Intact frames at another offset than the one they were written at.
#[test]
fn detects_frames_at_another_offset() {
    let Small { open, closed, .. } = small();
    let frame = |number: usize| &closed[open[number].len()..open[number + 1].len()];
    let header = &closed[..HEADER];
    for order in [[0, 0, 2], [0, 2, 1], [1, 1, 2], [2, 1, 0]] {
        let moved = [header, frame(order[0]), frame(order[1]), frame(order[2])].concat();
        assert_eq!(read(&moved), None, "{order:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// A damaged file is read as of one of its transactions, or set aside.
    #[test]
    fn never_accepts_damaged_contents(
        damage in proptest::collection::vec((any::<Index>(), any::<u8>()), 1..20),
        length in proptest::option::of(any::<Index>()),
    ) {
        let (directory, path) = place();
        let (mut store, _) = Store::open(&path).unwrap();
        let versions: Vec<Vec<Binding>> = [1, 2, 3]
            .map(|since| {
                let changed = |last| Binding { since: Time(since), ..binding(last) };
                (1..=99).map(changed).collect()
            })
            .into();
        for version in &versions {
            store.write(&batch(version)).unwrap();
        }
        drop(store);
        let mut octets = fs::read(&path).unwrap();
        for (place, octet) in damage {
            *place.get_mut(&mut octets) = octet;
        }
        if let Some(length) = length {
            octets.truncate(length.index(octets.len()));
        }
        let is_own = octets.is_empty() || octets.starts_with(MARK);
        fs::write(&path, octets).unwrap();
        let (store, saved) = Store::open_or_recover(&path);
        prop_assert!(store.is_open() || !is_own);
        if !store.is_open() {
            return Ok(());
        }
        let set_aside = fs::read_dir(directory.path()).unwrap().count() == 2;
        prop_assert!(saved.bindings.is_empty() || versions.contains(&saved.bindings));
        prop_assert!(set_aside || !saved.bindings.is_empty() || saved.saved_at.is_none());
    }
}
