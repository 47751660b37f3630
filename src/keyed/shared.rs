//! The state that a keyed group, its handles and its runs share: the lock of its table, and every method under it.

use std::borrow::Borrow;
use std::hash::{BuildHasher, Hash};
use std::panic::{AssertUnwindSafe, Location, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, PoisonError, Weak};
use std::time::Duration;

use super::handle::KeyedContext;
use super::key::{SharedKey, TakenKey, share};
use super::rt::{self, Mutex, MutexGuard};
use super::rule::{Inserted, OnDuplicate};
use super::table::Table;
use crate::Handle;
use crate::common::panic::{self, DiscardEach, Guarded, Payload, drop_quietly};
use crate::common::time::Timestamp;
use crate::sched::{Cancels, JobFuture, RowJobs, RowKey, RowTable, Run, TableId};

/// Makes the future of the run of an entry that has expired. The future holds the guard, if there is one, and drops it
/// after everything else.
pub(super) type Handler<K, V, S> =
    Box<dyn Fn(KeyedContext<K, V, S>, K, V, Option<RunGuard<K, V, S>>) -> JobFuture + Send + Sync>;

/// `Some` if the keyed group is exclusive: how a key is shared between its run and the table.
pub(super) type Exclusive<K> = Option<fn(K) -> SharedKey<K>>;

/// The shared state of one keyed group.
///
/// The lock of the table comes before the scheduling group's lock. The only user code that runs under it is `Eq` and
/// `Borrow` of keys and the closures of `with` and `debounce_with`, never while the table is half changed. So if a
/// panic of theirs poisons the lock, the table is still whole. Keys and values are dropped, keys are cloned, and wakers
/// are woken when the lock is free; values also after the `RowJobs`, whose drop wakes the driver, since a destructor may
/// take long.
///
/// How the table and the group agree: each entry has a job in the group, whose slot is noted in its row. To insert,
/// move or cancel an entry changes the row and the job under both locks. A removal may only note the cancel of the job
/// (`Cancels`): the entry is out of the table by then, so no row names the slot any more when another job gets it. A
/// worker that starts a job first asks the table, under its lock, whether the row still has that slot (`Table::start`):
/// of a removal and a start that race, the one that takes the table's lock first wins.
// Aligned, so that these are in different lines of the cache: the counts of the `Arc`, which lie before it, the lock,
// and the other fields. Workers that start entries write the first two and only read the rest.
#[repr(align(64))]
pub(super) struct Keys<K, V, S> {
    id: TableId,
    cancels: Arc<Cancels>,
    /// A handle as a job of the group has it, which is admitted while the group drains.
    group: Handle,
    // Guarded, since it is often the driver that drops the last reference.
    hasher: Guarded<S>,
    exclusive: Exclusive<K>,
    /// Asserted, since it is called only in runs, whose panics are caught: like a job, it does not keep its group out of
    /// a `catch_unwind`.
    handler: Guarded<AssertUnwindSafe<Handler<K, V, S>>>,
    locked: Locked<K, V>,
}

#[repr(align(64))]
struct Locked<K, V> {
    table: Mutex<Table<K, V>>,
    /// The thread that holds the lock, named by an address that is its own; 0 for none. `Relaxed`, since a thread only
    /// has to recognise its own value.
    holder: AtomicUsize,
    /// Code that runs under the lock has dropped the group, so the entries are to be dropped after it. `Relaxed`, since
    /// it is set by the thread that holds the lock.
    is_to_clear: AtomicBool,
}

/// The lock, held.
struct Guard<'a, K, V, S> {
    holder: &'a AtomicUsize,
    // In this order, so that the lock is free when the other is dropped.
    table: MutexGuard<'a, Table<K, V>>,
    _clear: ClearAfter<'a, K, V, S>,
}

impl<K, V, S> Drop for Guard<'_, K, V, S> {
    fn drop(&mut self) {
        self.holder.store(0, Relaxed);
    }
}

/// Drops all entries, if they are to be dropped after the lock.
struct ClearAfter<'a, K, V, S>(&'a Keys<K, V, S>);

impl<K, V, S> Drop for ClearAfter<'_, K, V, S> {
    fn drop(&mut self) {
        let is_to_clear = &self.0.locked.is_to_clear;
        if is_to_clear.load(Relaxed) {
            is_to_clear.store(false, Relaxed);
            self.0.drop_all();
        }
    }
}

/// How many rows a walk looks at under one hold of the lock.
const CHUNK: u32 = 512;

/// Lets the entry in a row start, if there is one.
fn unblock<K, V>(table: &mut Table<K, V>, row: Option<u32>, jobs: &mut RowJobs<'_>) {
    if let Some(slot) = row.and_then(|row| table.slot(row)) {
        jobs.unblock(slot);
    }
}

/// Takes the entry in a row, which has been moved or replaced, out of the queue of its key. If it could start before, the
/// next one may start in its place.
fn leave<K, V>(table: &mut Table<K, V>, row: u32, jobs: &mut RowJobs<'_>) {
    let next = table.leave(row);
    unblock(table, next, jobs);
}

impl<K, V, S> Keys<K, V, S> {
    pub(super) fn is_exclusive(&self) -> bool {
        self.exclusive.is_some()
    }

    pub(super) fn group(&self) -> &Handle {
        &self.group
    }

    #[track_caller]
    fn lock(&self) -> Guard<'_, K, V, S> {
        let Locked { table, holder, .. } = &self.locked;
        let here = rt::here();
        assert!(
            holder.load(Relaxed) != here,
            "schedgroup: a keyed group was called from inside `Eq` of one of its keys, or a closure of `with` or \
             `debounce_with`, which run under its lock"
        );
        let table = table.lock().unwrap_or_else(PoisonError::into_inner);
        holder.store(here, Relaxed);
        Guard {
            holder,
            table,
            _clear: ClearAfter(self),
        }
    }

    #[track_caller]
    pub(super) fn len(&self) -> usize {
        self.lock().table.len()
    }

    /// Takes out all entries that have not started, chunk by chunk; first those that an earlier drain has left.
    #[track_caller]
    fn take_all(&self) -> impl Iterator<Item = Vec<(TakenKey<K>, V)>> {
        let left = self.lock().table.take_left();
        let chunks = (0..).map_while(|chunk| self.take_chunk(chunk));
        std::iter::once(left).chain(chunks)
    }

    /// Takes out all entries in one chunk of rows; `None` behind the last chunk.
    fn take_chunk(&self, chunk: u32) -> Option<Vec<(TakenKey<K>, V)>> {
        let first = chunk.checked_mul(CHUNK)?;
        let (mut taken, mut may_start) = (Vec::with_capacity(CHUNK as usize), Vec::new());
        let mut jobs = self.group.row_jobs();
        let mut guard = self.lock();
        if first >= guard.table.rows_end() {
            return None;
        }
        for row in first..first + CHUNK {
            let Some((entry, next)) = guard.table.take_unstarted(row) else {
                continue;
            };
            jobs.cancel(entry.slot);
            taken.push((entry.key, entry.value));
            may_start.extend(next);
        }
        // Afterwards, since most of them were taken out as well.
        for row in may_start {
            unblock(&mut guard.table, Some(row), &mut jobs);
        }
        Some(taken)
    }

    /// Takes out all entries that have not started.
    ///
    /// A key that a concurrent call of `keys` clones has to be cloned here as well. If that panics, all that was taken
    /// out is left to the next drain.
    #[track_caller]
    pub(super) fn drain(&self) -> Vec<(K, V)> {
        let mut all = Vec::new();
        for chunk in self.take_all() {
            let mut chunk = chunk.into_iter();
            while let Some((key, value)) = chunk.next() {
                let (key, payload) = match key.into_key() {
                    Ok(key) => {
                        all.push((key, value));
                        continue;
                    }
                    Err(panicked) => panicked,
                };
                let all = all
                    .into_iter()
                    .map(|(key, value)| (TakenKey::Own(key), value));
                let left = all.chain([(key, value)]).chain(chunk).collect();
                self.lock().table.leave_to_next_drain(left);
                resume_unwind(payload);
            }
        }
        all
    }

    /// Drops all entries that have not started.
    fn drop_all(&self) {
        for (key, value) in self.take_all().flatten() {
            drop_quietly(key);
            drop_quietly(value);
        }
    }

    /// Returns clones of the keys of the pending entries.
    #[track_caller]
    pub(super) fn keys(&self) -> Vec<K>
    where
        K: Clone + Send + Sync + 'static,
    {
        // If a clone panics, those before it are dropped while it unwinds, and may panic, too.
        let mut all = DiscardEach::from(Vec::new());
        for first in (0..u32::MAX).step_by(CHUNK as usize) {
            // To clone a key is user code, so it is done when the lock is free. A row may go meanwhile, so its key is
            // put into an `Arc` first, which the row and this function share, and taken out again afterwards.
            let keys = {
                let mut guard = self.lock();
                if first >= guard.table.rows_end() {
                    break;
                }
                guard.table.share(first..first + CHUNK, share)
            };
            // A panic of `Clone` goes on in the caller only when each row has its key back.
            let cloned = panic::catch(|| all.extend(keys.iter().map(|(_, key)| key.cloned())));
            let mut guard = self.lock();
            let unshared = keys
                .into_iter()
                .map(|(row, key)| guard.table.unshare(row, key));
            let gone: Vec<_> = unshared.flatten().collect();
            drop(guard);
            panic::discard_each(gone);
            cloned.unwrap_or_else(|payload| resume_unwind(payload));
        }
        all.take()
    }
}

impl<K, V, S> Drop for Keys<K, V, S> {
    fn drop(&mut self) {
        self.drop_all();
        self.group.unregister(self.id);
    }
}

impl<K, V, S> Keys<K, V, S>
where
    K: Eq + Send + 'static,
    V: Send + 'static,
    S: Send + Sync + 'static,
{
    #[track_caller]
    pub(super) fn new(
        group: &Handle,
        hasher: S,
        exclusive: Exclusive<K>,
        handler: Handler<K, V, S>,
    ) -> Arc<Keys<K, V, S>> {
        Arc::new_cyclic(|keys: &Weak<Keys<K, V, S>>| Keys {
            id: group.register(Weak::clone(keys) as Weak<dyn RowTable>),
            cancels: group.cancels(),
            group: group.of_jobs(),
            hasher: Guarded::new(hasher),
            exclusive,
            handler: Guarded::new(AssertUnwindSafe(handler)),
            locked: Locked {
                table: Mutex::new(Table::new()),
                holder: AtomicUsize::new(0),
                is_to_clear: AtomicBool::new(false),
            },
        })
    }

    fn row_key(&self, row: u32) -> RowKey {
        RowKey {
            table: self.id,
            row,
        }
    }

    /// The same as `may_start`, in a keyed group that is exclusive. Apart, so that it costs the others nothing.
    #[inline(never)]
    fn may_start_alone(
        &self,
        share: fn(K) -> SharedKey<K>,
        me: &Arc<dyn RowTable>,
        row: u32,
        slot: u32,
    ) -> Result<bool, Payload> {
        let mut jobs = self.group.row_jobs();
        let mut guard = self.lock();
        let table = &mut guard.table;
        if !table.has_entry_of(row, slot) {
            // The entry was removed or replaced just now. `start` finds that out, too.
            return Ok(true);
        }
        match panic::catch(|| table.running(row)) {
            Ok(Some(run)) => {
                // Both under the table's lock, so the run cannot end, and look for blocked rows, in between. The deadline is
                // that of the job also if a shutdown drops it: before all others, it would keep them blocked for ever.
                let at = jobs.block(slot, self.row_key(row), me);
                table.block(run, row, at);
                Ok(false)
            }
            Ok(None) => {
                table.begin(row, share);
                Ok(true)
            }
            // A panic of `Eq` ends the job of this entry, so the entry goes too.
            Err(payload) => {
                let (taken, next) = table.take_unstarted(row).unzip();
                unblock(table, next.flatten(), &mut jobs);
                drop(guard);
                drop(jobs);
                if let Some(taken) = taken {
                    // One by one: two destructors that panic at once would end the process.
                    drop_quietly(taken.key);
                    drop_quietly(taken.value);
                }
                Err(payload)
            }
        }
    }
}

/// Held by the run of a key in a keyed group that is exclusive. Its drop, which comes after that of everything else in
/// the run, lets the next run of the key begin.
pub(super) struct RunGuard<K, V, S> {
    keys: Arc<Keys<K, V, S>>,
    row: u32,
}

impl<K, V, S> Drop for RunGuard<K, V, S> {
    fn drop(&mut self) {
        let keys = &self.keys;
        let mut jobs = keys.group.row_jobs();
        let mut guard = keys.lock();
        let Some((run, next)) = guard.table.end(self.row) else {
            return;
        };
        unblock(&mut guard.table, next, &mut jobs);
        drop(guard);
        drop(jobs);
        drop_quietly(run);
    }
}

impl<K, V, S> RowTable for Keys<K, V, S>
where
    K: Eq + Send + 'static,
    V: Send + 'static,
    S: Send + Sync + 'static,
{
    fn may_start(&self, me: &Arc<dyn RowTable>, row: u32, slot: u32) -> Result<bool, Payload> {
        match self.exclusive {
            None => Ok(true),
            Some(share) => self.may_start_alone(share, me, row, slot),
        }
    }

    fn start(self: Arc<Self>, row: u32, slot: u32, run: Run) -> Option<JobFuture> {
        // `None` if the entry was removed or replaced just before.
        let (taken, is_run) = self.lock().table.start(row, slot)?;
        let run_guard = is_run.then(|| RunGuard {
            keys: Arc::clone(&self),
            row,
        });
        let run = run.at_exact_time(|| self.group.now());
        let context = KeyedContext::new(Arc::clone(&self), run);
        let key = match taken.key.into_key() {
            Ok(key) => key,
            Err((key, payload)) => {
                // Here, and not while the panic unwinds: a panic of these destructors would end the process.
                drop_quietly(key);
                drop_quietly(taken.value);
                resume_unwind(payload)
            }
        };
        Some((self.handler)(context, key, taken.value, run_guard))
    }

    fn clear(&self) {
        let Locked {
            holder,
            is_to_clear,
            ..
        } = &self.locked;
        if holder.load(Relaxed) == rt::here() {
            is_to_clear.store(true, Relaxed);
        } else {
            self.drop_all();
        }
    }
}

/// The entries as one kind of caller uses them: `group` is a handle of the owner and of others, or of the group's own
/// jobs, which may insert while the group drains.
pub(super) struct Entries<'a, K, V, S> {
    pub(super) keys: &'a Arc<Keys<K, V, S>>,
    pub(super) group: &'a Handle,
}

impl<K, V, S> Clone for Entries<'_, K, V, S> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<K, V, S> Copy for Entries<'_, K, V, S> {}

impl<'a, K, V, S> Entries<'a, K, V, S>
where
    K: Eq + Hash + Send + 'static,
    V: Send + 'static,
    S: BuildHasher + Send + Sync + 'static,
{
    /// Returns 32 bits of a key's hash. This is user code, and is called without the lock.
    fn hash<Q>(self, key: &Q) -> u32
    where
        K: Borrow<Q>,
        Q: Hash + ?Sized,
    {
        let hash = self.keys.hasher.hash_one(key);
        // The multiplication spreads the hash over the upper bits, for a poor hasher of which only some bits differ.
        (hash.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32) as u32
    }

    fn me(self) -> impl Fn() -> Arc<dyn RowTable> + use<'a, K, V, S> {
        move || Arc::clone(self.keys) as Arc<dyn RowTable>
    }

    /// Calls `then` under the lock with the table, the row of the key's pending entry, and the jobs of the group.
    /// Returns `None` if the key has no pending entry.
    #[track_caller]
    fn find<Q, R>(
        self,
        key: &Q,
        then: impl FnOnce(&mut Table<K, V>, u32, &mut RowJobs<'_>) -> R,
    ) -> Option<R>
    where
        K: Borrow<Q>,
        Q: Eq + Hash + ?Sized,
    {
        let hash = self.hash(key);
        let mut jobs = self.group.row_jobs();
        let mut guard = self.keys.lock();
        let row = guard.table.find(hash, |known| known.borrow() == key)?;
        Some(then(&mut guard.table, row, &mut jobs))
    }

    #[track_caller]
    pub(super) fn insert(
        self,
        key: K,
        value: V,
        at: Timestamp,
        on_duplicate: OnDuplicate,
    ) -> Inserted<V> {
        let site = Location::caller();
        // Guarded from the first call of `Hash` on, and dropped after the locks, which are taken later.
        let (key, value) = (Guarded::new(key), Guarded::new(value));
        let hash = self.hash(&*key);
        let mut jobs = self.group.row_jobs();
        let mut guard = self.keys.lock();
        let table = &mut guard.table;
        let known = table.find(hash, |known| *known == *key);
        let former = known.and_then(|row| table.slot(row));
        let wins = former.is_none_or(|slot| on_duplicate.replaces(|| jobs.deadline(slot), at));
        // Nothing below is user code.
        let value = value.into_inner();
        if !wins {
            // A closed group rejects it all the same.
            match jobs.admit() {
                Ok(()) => Inserted::Kept(value),
                Err(_) => Inserted::Rejected(value),
            }
        } else {
            let row = known.unwrap_or_else(|| table.next_row());
            let row_key = self.keys.row_key(row);
            match (
                jobs.insert(at, row_key, self.me(), former, site),
                table.value(row),
            ) {
                (None, _) => Inserted::Rejected(value),
                (Some(slot), Some(former)) => {
                    let former = std::mem::replace(former, value);
                    table.set_slot(row, slot);
                    table.set_first(row, None);
                    leave(table, row, &mut jobs);
                    Inserted::Replaced(former)
                }
                (Some(slot), None) => {
                    table.insert(hash, key.into_inner(), value, slot);
                    Inserted::New
                }
            }
        }
    }

    /// Moves the pending entry of a key to `quiet` from now, and at the latest to `ceiling` after its first debounce;
    /// or inserts an entry. `apply` runs under the lock: it changes the value of the entry that is there, or is called
    /// with `None` and returns the value of the new one.
    ///
    /// Returns `false`, and does not call `apply`, if the group rejects the entry.
    #[track_caller]
    fn debounce_by(
        self,
        key: K,
        quiet: Duration,
        ceiling: Duration,
        apply: impl FnOnce(Option<&mut V>) -> Option<V>,
    ) -> bool {
        let site = Location::caller();
        // As in `insert`.
        let key = Guarded::new(key);
        let hash = self.hash(&*key);
        let mut jobs = self.group.row_jobs();
        let mut guard = self.keys.lock();
        let table = &mut guard.table;
        // Read under the lock, so that of two concurrent calls the one with the later time also has the last word on
        // the value.
        let now = self.group.now();
        let known = table.find(hash, |known| *known == *key);
        let Some((row, slot)) = known.and_then(|row| Some((row, table.slot(row)?))) else {
            let row = table.next_row();
            let at = now.after(quiet.min(ceiling));
            let row_key = self.keys.row_key(row);
            // Before `apply`, so that the group cannot reject the value that is made. A worker that starts the job
            // meanwhile waits for the table's lock.
            let Some(slot) = jobs.insert(at, row_key, self.me(), None, site) else {
                return false;
            };
            let made = panic::catch(|| apply(None).expect("a new entry has a value"));
            let value = made.unwrap_or_else(|payload| {
                jobs.cancel(slot);
                resume_unwind(payload)
            });
            table.insert(hash, key.into_inner(), value, slot);
            table.set_first(row, Some(now));
            return true;
        };
        let first = table.first(row).unwrap_or(now);
        let at = now.after(quiet).min(first.after(ceiling));
        let Some(slot) = jobs.rearm(slot, at, self.keys.row_key(row), self.me()) else {
            return false;
        };
        table.set_slot(row, slot);
        table.set_first(row, Some(first));
        leave(table, row, &mut jobs);
        apply(table.value(row));
        true
    }

    #[track_caller]
    pub(super) fn debounce(
        self,
        key: K,
        quiet: Duration,
        ceiling: Duration,
        value: V,
    ) -> Inserted<V> {
        let mut value = DiscardEach::from(Some(value));
        let debounced = self.debounce_by(key, quiet, ceiling, |known| match known {
            Some(known) => {
                if let Some(value) = &mut *value {
                    std::mem::swap(known, value);
                }
                None
            }
            None => value.take(),
        });
        match value.take() {
            None => Inserted::New,
            Some(value) if debounced => Inserted::Replaced(value),
            Some(value) => Inserted::Rejected(value),
        }
    }

    #[track_caller]
    pub(super) fn debounce_with(
        self,
        key: K,
        quiet: Duration,
        ceiling: Duration,
        make: impl FnOnce() -> V,
        update: impl FnOnce(&mut V),
    ) -> bool {
        // In options, so that a closure that is not called is dropped here, after the lock: it holds values of the user,
        // whose panics end here. More than one of them may panic, also after the closure that was called.
        let mut make = DiscardEach::from(Some(make));
        let mut update = DiscardEach::from(Some(update));
        self.debounce_by(key, quiet, ceiling, |known| match known {
            Some(known) => {
                if let Some(update) = update.take() {
                    update(known);
                }
                None
            }
            None => make.take().map(|make| make()),
        })
    }

    #[track_caller]
    pub(super) fn reset<Q>(self, key: &Q, at: Timestamp) -> bool
    where
        K: Borrow<Q>,
        Q: Eq + Hash + ?Sized,
    {
        let reset = self.find(key, |table, row, jobs| {
            let former = table.slot(row)?;
            let slot = jobs.reset(former, at, self.keys.row_key(row), self.me())?;
            // It is read before it is written: the row's line of memory is not to be written for nothing.
            if slot != former {
                table.set_slot(row, slot);
            }
            leave(table, row, jobs);
            Some(())
        });
        reset.flatten().is_some()
    }

    #[track_caller]
    pub(super) fn expire<Q>(self, key: &Q) -> bool
    where
        K: Borrow<Q>,
        Q: Eq + Hash + ?Sized,
    {
        let expired = self.find(key, |table, row, jobs| {
            // Read under the lock: an entry that waits for its key's run was due before, and must not be moved, since
            // it stays in its queue.
            let now = self.group.now();
            let slot = table.slot(row);
            let expires = slot.is_some_and(|slot| jobs.expire(slot, now));
            if expires {
                table.expire(row);
            }
            expires
        });
        expired == Some(true)
    }

    #[track_caller]
    pub(super) fn remove<Q>(self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
        Q: Eq + Hash + ?Sized,
    {
        let hash = self.hash(key);
        // Mostly the group's lock is not needed. Declared before the guard, so that it is dropped after it.
        let mut jobs = None;
        let mut guard = self.keys.lock();
        let table = &mut guard.table;
        let (taken, next) = table.remove(hash, |known| known.borrow() == key)?;
        // The next caller that takes the group's lock applies the cancel that is noted. The cancel of the last entry is
        // applied at once, so that an empty keyed group leaves nothing behind.
        if table.len() == 0 || !self.keys.cancels.note(taken.slot) {
            let jobs = jobs.get_or_insert_with(|| self.group.row_jobs());
            jobs.cancel(taken.slot);
        }
        if next.is_some() {
            let jobs = jobs.get_or_insert_with(|| self.group.row_jobs());
            unblock(table, next, jobs);
        }
        drop(guard);
        drop(jobs);
        drop_quietly(taken.key);
        Some(taken.value)
    }

    #[track_caller]
    pub(super) fn with<Q, R>(self, key: &Q, look: impl FnOnce(&mut V) -> R) -> Option<R>
    where
        K: Borrow<Q>,
        Q: Eq + Hash + ?Sized,
    {
        // As in `debounce_with`.
        let mut look = DiscardEach::from(Some(look));
        self.find(key, |table, row, _| {
            let value = table.value(row)?;
            look.take().map(|look| look(value))
        })?
    }

    #[track_caller]
    pub(super) fn deadline<Q>(self, key: &Q) -> Option<Timestamp>
    where
        K: Borrow<Q>,
        Q: Eq + Hash + ?Sized,
    {
        self.find(key, |table, row, jobs| jobs.deadline(table.slot(row)?))?
    }

    #[track_caller]
    pub(super) fn contains<Q>(self, key: &Q) -> bool
    where
        K: Borrow<Q>,
        Q: Eq + Hash + ?Sized,
    {
        self.find(key, |_, _, _| ()).is_some()
    }

    /// Stops the run of a key in an exclusive keyed group. Returns whether there is one.
    #[track_caller]
    pub(super) fn abort<Q>(self, key: &Q) -> bool
    where
        K: Borrow<Q>,
        Q: Eq + Hash + ?Sized,
    {
        let hash = self.hash(key);
        let mut jobs = self.group.row_jobs();
        let mut guard = self.keys.lock();
        let run = guard.table.find_run(hash, |known| known.borrow() == key);
        let slot = run.and_then(|row| guard.table.slot(row));
        slot.map(|slot| jobs.abort(slot)).is_some()
    }
}
