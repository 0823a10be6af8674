//! The cost of the mirror's indexes by time and by identity, beside the standard library's sets and
//! maps: `cargo bench --no-default-features --bench indexes`; with `-- memory`, their memory.

use std::collections::BTreeSet;
use std::hint::black_box;
use std::process::Command;

use dhcp_blq::mirror::group::Groups;
use dhcp_blq::mirror::index::identity::IdentityIndex;
use dhcp_blq::mirror::index::time_set::TimeSet;
use dhcp_blq::model::time::Time;
use divan::Bencher;
use divan::counter::ItemsCount;
use hashbrown::HashMap;
use roaring::RoaringBitmap;

/// Leases in an index.
const SIZES: [u32; 3] = [100_000, 1_000_000, 10_000_000];
/// Changes in a sample.
const CHANGES: u32 = 10_000;
/// Seconds in which every lease is renewed.
const RENEWED_IN: u32 = 43_200;
/// Octets of a record: a key and zeros.
const RECORD: usize = 64;
/// Octets of a key.
const KEY: usize = 7;

fn main() {
    let mut arguments = std::env::args().skip_while(|argument| argument != "memory");
    let parameters: Vec<String> = arguments.by_ref().skip(1).collect();
    match parameters.as_slice() {
        [what, leases] => weigh_one(what, leases.parse().expect("a number")),
        _ if std::env::args().any(|argument| argument == "memory") => weigh_all(),
        _ => divan::main(),
    }
}

/// A number in no visible order, different for each number.
fn scatter(number: u32) -> u32 {
    let mixed = number.wrapping_mul(0x9e37_79b1);
    (mixed ^ mixed >> 15).wrapping_mul(0x85eb_ca6b)
}

/// A number below `leases` in no visible order: each once before one comes again.
fn shuffled(number: u32, leases: u32) -> u32 {
    (u64::from(number) * 7_368_787 % u64::from(leases)) as u32
}

/// A set of times with addresses.
trait TimeIndex: Default {
    fn insert(&mut self, time: u32, address: u32) -> bool;
    fn remove(&mut self, time: u32, address: u32) -> bool;
    fn count(&self, start: u32, end: u32) -> usize;
}

impl TimeIndex for TimeSet {
    fn insert(&mut self, time: u32, address: u32) -> bool {
        self.insert(Time(time), address, Groups::default())
    }
    fn remove(&mut self, time: u32, address: u32) -> bool {
        self.remove(Time(time), address)
    }
    fn count(&self, start: u32, end: u32) -> usize {
        let range = self.range((Time(start), 0), Time(end));
        range.fold(0, |count, (_, address)| {
            count + usize::from(black_box(address) > 0)
        })
    }
}

/// The standard library's set.
type OrdinarySet = BTreeSet<(Time, u32)>;

impl TimeIndex for OrdinarySet {
    fn insert(&mut self, time: u32, address: u32) -> bool {
        self.insert((Time(time), address))
    }
    fn remove(&mut self, time: u32, address: u32) -> bool {
        self.remove(&(Time(time), address))
    }
    fn count(&self, start: u32, end: u32) -> usize {
        let range = self.range((Time(start), 0)..=(Time(end), u32::MAX));
        range.fold(0, |count, (_, address)| {
            count + usize::from(black_box(*address) > 0)
        })
    }
}

/// Leases in an index by time: the last transaction and the end of each.
struct Renewals<T> {
    times: T,
    /// The time of the last renewal of each lease.
    renewed: Vec<u32>,
    /// Renewals so far.
    count: u32,
}

impl<T: TimeIndex> Renewals<T> {
    /// Leases renewed over half of their lifetime, in no order of addresses.
    fn new(leases: u32) -> Renewals<T> {
        let mut renewals = Renewals {
            times: T::default(),
            renewed: vec![0; leases as usize],
            count: 0,
        };
        for _ in 0..leases {
            renewals.renew();
        }
        renewals
    }

    /// Renews the lease with the earliest renewal, or one near it.
    fn renew(&mut self) {
        let leases = self.renewed.len() as u32;
        // All sizes are multiples of 8.
        let round = self.count / leases;
        let address = shuffled(self.count, leases) ^ (round % 8);
        let renewed = &mut self.renewed[address as usize];
        if *renewed > 0 {
            self.times.remove(*renewed, address);
            self.times.remove(*renewed + 2 * RENEWED_IN, address);
        }
        let per_second = leases / RENEWED_IN + 1;
        *renewed = 1_700_000_000 + self.count / per_second;
        self.times.insert(*renewed, address);
        self.times.insert(*renewed + 2 * RENEWED_IN, address);
        self.count += 1;
    }
}

/// A time of the day, in no order.
fn some_time(address: u32, round: u32) -> u32 {
    scatter(address).wrapping_add(round * 77) % (2 * RENEWED_IN)
}

/// One entry for each lease, at times in no order.
fn scattered<T: TimeIndex>(leases: u32) -> T {
    let mut times = T::default();
    for address in 0..leases {
        times.insert(some_time(address, 0), address);
    }
    times
}

#[divan::bench(types = [TimeSet, OrdinarySet], args = SIZES, sample_count = 50)]
fn renew<T: TimeIndex>(bencher: Bencher<'_, '_>, leases: u32) {
    let mut renewals = Renewals::<T>::new(leases);
    bencher
        .counter(ItemsCount::new(4 * CHANGES))
        .bench_local(|| (0..CHANGES).for_each(|_| renewals.renew()));
}

#[divan::bench(types = [TimeSet, OrdinarySet], args = SIZES, sample_count = 50)]
fn move_to_a_scattered_time<T: TimeIndex>(bencher: Bencher<'_, '_>, leases: u32) {
    let mut times = scattered::<T>(leases);
    let mut count = 0;
    bencher
        .counter(ItemsCount::new(2 * CHANGES))
        .bench_local(|| {
            for _ in 0..CHANGES {
                let address = shuffled(count, leases);
                let round = count / leases;
                times.remove(some_time(address, round), address);
                times.insert(some_time(address, round + 1), address);
                count += 1;
            }
        });
}

#[divan::bench(types = [TimeSet, OrdinarySet], args = SIZES, sample_count = 2, sample_size = 1)]
fn fill_in_order<T: TimeIndex>(bencher: Bencher<'_, '_>, leases: u32) {
    bencher.counter(ItemsCount::new(leases)).bench_local(|| {
        let mut times = T::default();
        for number in 0..leases {
            times.insert(number / 10, scatter(number));
        }
        times
    });
}

#[divan::bench(types = [TimeSet, OrdinarySet], args = SIZES, sample_count = 50)]
fn range_of_1000<T: TimeIndex>(bencher: Bencher<'_, '_>, leases: u32) {
    let mut times = T::default();
    for number in 0..leases {
        times.insert(number / 10, scatter(number));
    }
    let mut start = 0;
    bencher.counter(ItemsCount::new(1_000u32)).bench_local(|| {
        start = (start + 7_919) % (leases / 10 - 100);
        times.count(start, start + 99)
    });
}

/// Keys by address, a record apart from each other.
struct Records(Vec<[u8; RECORD]>);

impl Records {
    /// A key of its own for each address.
    fn of_one(leases: u32) -> Records {
        let record = |number: u32| {
            let mut record = [0; RECORD];
            record[KEY - 4..KEY].copy_from_slice(&scatter(number).to_be_bytes());
            record
        };
        Records((0..leases).map(record).collect())
    }

    fn key(&self, address: u32) -> Option<&[u8]> {
        self.0.get(address as usize).map(|record| &record[..KEY])
    }
}

/// Addresses by key.
trait Identities: Default {
    fn insert(&mut self, address: u32, records: &Records);
    fn remove(&mut self, address: u32, records: &Records);
    fn find(&self, key: &[u8], records: &Records) -> u32;
}

impl Identities for IdentityIndex {
    fn insert(&mut self, address: u32, records: &Records) {
        if let Some(key) = records.key(address) {
            self.insert(key, address, |address| records.key(address));
        }
    }
    fn remove(&mut self, address: u32, records: &Records) {
        if let Some(key) = records.key(address) {
            self.remove(key, address, |address| records.key(address));
        }
    }
    fn find(&self, key: &[u8], records: &Records) -> u32 {
        let found = self.find(key, |address| records.key(address));
        found.all().next().unwrap_or_default()
    }
}

/// The standard library's kind of map, which holds the keys.
type OrdinaryMap = HashMap<Vec<u8>, OneOrMany>;

/// The addresses of a key in the map.
enum OneOrMany {
    One(u32),
    Many(Box<RoaringBitmap>),
}

impl Identities for OrdinaryMap {
    fn insert(&mut self, address: u32, records: &Records) {
        let Some(key) = records.key(address) else {
            return;
        };
        match self.get_mut(key) {
            Some(OneOrMany::Many(many)) => {
                many.insert(address);
            }
            Some(one_or_many) => {
                if let OneOrMany::One(one) = *one_or_many {
                    let both = RoaringBitmap::from_iter([one, address]);
                    *one_or_many = OneOrMany::Many(Box::new(both));
                }
            }
            None => {
                self.insert(key.to_owned(), OneOrMany::One(address));
            }
        }
    }
    fn remove(&mut self, address: u32, records: &Records) {
        let Some(key) = records.key(address) else {
            return;
        };
        let is_over = match self.get_mut(key) {
            Some(OneOrMany::Many(many)) => {
                many.remove(address);
                many.is_empty()
            }
            Some(OneOrMany::One(one)) => *one == address,
            None => false,
        };
        if is_over {
            self.remove(key);
        }
    }
    fn find(&self, key: &[u8], _: &Records) -> u32 {
        match self.get(key) {
            Some(OneOrMany::Many(many)) => many.min().unwrap_or_default(),
            Some(OneOrMany::One(one)) => *one,
            None => 0,
        }
    }
}

/// An index of all records.
fn index_all<T: Identities>(records: &Records) -> T {
    let mut identities = T::default();
    for address in 0..records.0.len() as u32 {
        identities.insert(address, records);
    }
    identities
}

#[divan::bench(types = [IdentityIndex, OrdinaryMap], args = SIZES, sample_count = 2, sample_size = 1)]
fn fill_with_keys<T: Identities>(bencher: Bencher<'_, '_>, leases: u32) {
    let records = Records::of_one(leases);
    bencher
        .counter(ItemsCount::new(leases))
        .bench_local(|| index_all::<T>(&records));
}

#[divan::bench(types = [IdentityIndex, OrdinaryMap], args = SIZES, sample_count = 50)]
fn find_key<T: Identities>(bencher: Bencher<'_, '_>, leases: u32) {
    let records = Records::of_one(leases);
    let identities = index_all::<T>(&records);
    let mut count = 0;
    bencher.counter(ItemsCount::new(CHANGES)).bench_local(|| {
        let mut sum = 0u32;
        for _ in 0..CHANGES {
            count += 1;
            let mut key = [0; KEY];
            let number = scatter(count) % leases;
            key[KEY - 4..].copy_from_slice(&scatter(number).to_be_bytes());
            sum = sum.wrapping_add(identities.find(&key, &records));
        }
        sum
    });
}

#[divan::bench(types = [IdentityIndex, OrdinaryMap], args = SIZES, sample_count = 50)]
fn remove_and_insert_key<T: Identities>(bencher: Bencher<'_, '_>, leases: u32) {
    let records = Records::of_one(leases);
    let mut identities = index_all::<T>(&records);
    let mut count = 0;
    bencher
        .counter(ItemsCount::new(2 * CHANGES))
        .bench_local(|| {
            for _ in 0..CHANGES {
                count += 1;
                let address = scatter(count) % leases;
                identities.remove(address, &records);
                identities.insert(address, &records);
            }
        });
}

/// Resident octets of this process.
fn resident() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").expect("Linux");
    let pages = statm.split(' ').nth(1).and_then(|pages| pages.parse().ok());
    pages.unwrap_or(0) * 4096
}

/// Prints the octets that a new index takes for each entry.
fn weigh<T>(entries: u32, make: impl FnOnce() -> T) {
    let before = resident();
    let made = make();
    let octets = resident().saturating_sub(before);
    println!("{:.1}", octets as f64 / f64::from(entries));
    drop(made);
}

/// Measures the memory of an index of one kind and size.
fn weigh_one(what: &str, leases: u32) {
    match what.split_once(' ') {
        Some(("TimeSet", what)) => weigh_times::<TimeSet>(what, leases),
        Some(("BTreeSet", what)) => weigh_times::<OrdinarySet>(what, leases),
        Some(("IdentityIndex", what)) => weigh_identities::<IdentityIndex>(what, leases),
        Some(("HashMap", what)) => weigh_identities::<OrdinaryMap>(what, leases),
        _ => panic!("expected the name of an index and a way to fill it"),
    }
}

/// Measures the memory of an index by time.
fn weigh_times<T: TimeIndex>(what: &str, leases: u32) {
    let at = |time: fn(u32) -> u32| {
        let mut times = T::default();
        for number in 0..leases {
            times.insert(time(number), scatter(number));
        }
        times
    };
    match what {
        "a second each" => weigh(leases, || at(|number| number)),
        "one second" => weigh(leases, || at(|_| 1)),
        "scattered" => weigh(leases, || scattered::<T>(leases)),
        "renewed" => weigh(2 * leases, || {
            let mut renewals = Renewals::<T>::new(leases);
            (0..2 * leases).for_each(|_| renewals.renew());
            renewals.times
        }),
        _ => panic!("expected a way to fill an index"),
    }
}

/// Measures the memory of an index by identity: so many neighbours share a key.
fn weigh_identities<T: Identities>(what: &str, leases: u32) {
    let per_key: usize = what.parse().expect("a number of addresses");
    let mut records = Records::of_one(leases);
    for number in (0..leases as usize).rev() {
        records.0[number] = records.0[number / per_key];
    }
    weigh(leases, || index_all::<T>(&records));
}

/// Measures the memory of all indexes, each in a process of its own.
fn weigh_all() {
    let program = std::env::current_exe().expect("Linux");
    let times = ["a second each", "one second", "scattered", "renewed"];
    let per_key = ["1", "2", "3", "8", "9", "20", "100", "100000"];
    let times = ["TimeSet", "BTreeSet"].map(|index| (index, &times[..]));
    let identities = ["IdentityIndex", "HashMap"].map(|index| (index, &per_key[..]));
    println!("octets an entry, of entries: {SIZES:?}");
    for (index, ways) in times.into_iter().chain(identities) {
        for way in ways {
            let what = format!("{index} {way}");
            print!("{what:30}");
            for leases in SIZES {
                let mut command = Command::new(&program);
                command.args(["memory", &what, &leases.to_string()]);
                let output = command.output().expect("this program");
                print!("{:>8}", String::from_utf8_lossy(&output.stdout).trim());
            }
            println!();
        }
    }
}
