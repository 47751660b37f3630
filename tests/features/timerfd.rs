//! A group with a timer of the kernel's beside tokio's own.
#![cfg(target_os = "linux")]
#![forbid(unsafe_code)]

use std::fs;
use std::panic::catch_unwind;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use schedgroup::Group;
use tokio::time::{Instant, timeout};

const PATIENCE: Duration = Duration::from_secs(60);

/// How many timers this process holds open.
fn timers() -> usize {
    let files = fs::read_dir("/proc/self/fd").unwrap().flatten();
    let names = files.filter_map(|file| fs::read_link(file.path()).ok());
    names
        .filter(|name| name.as_os_str() == "anon_inode:[timerfd]")
        .count()
}

/// The seconds until the timers of this process ring.
fn set_to() -> Vec<u64> {
    let files = fs::read_dir("/proc/self/fdinfo").unwrap().flatten();
    let texts = files.filter_map(|file| fs::read_to_string(file.path()).ok());
    texts
        .filter_map(|text| {
            let (seconds, _) = text.split_once("it_value: (")?.1.split_once(',')?;
            seconds.parse().ok()
        })
        .collect()
}

async fn all_run_and_none_early() {
    let group = Group::builder().timerfd().build();
    let (early, ran) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let start = Instant::now();
    for job in 0..200 {
        // Forth and back, so that the timer is set earlier as well as later.
        let at = start + Duration::from_micros(137) * (job * 73 % 200);
        let (early, ran) = (Arc::clone(&early), Arc::clone(&ran));
        group.schedule(at, async move {
            early.fetch_add(usize::from(Instant::now() < at), SeqCst);
            ran.fetch_add(1, SeqCst);
        });
    }
    timeout(PATIENCE, group.wait()).await.unwrap().unwrap();
    assert_eq!((early.load(SeqCst), ran.load(SeqCst)), (0, 200));
}

/// Open files are counted for the whole process, so everything is tested in one place.
#[test]
fn a_timer_of_the_kernel_wakes_the_driver() {
    let two_workers = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    two_workers.block_on(async {
        let group = Group::builder().timerfd().build();
        assert_eq!(timers(), 1, "timers of one group");
        let job = group.delay(Duration::from_secs(3_600), async {});
        let is_set = || matches!(set_to()[..], [seconds] if (3_000..3_600).contains(&seconds));
        let set = async {
            while !is_set() {
                tokio::task::yield_now().await;
            }
        };
        let set = timeout(PATIENCE, set).await;
        assert!(set.is_ok(), "set to {:?} for an hour", set_to());
        assert!(job.cancel());
        timeout(PATIENCE, group.wait()).await.unwrap().unwrap();
    });
    two_workers.block_on(all_run_and_none_early());
    drop(two_workers);
    assert_eq!(timers(), 0, "timers left open");

    let mut paused = tokio::runtime::Builder::new_current_thread();
    let paused = paused.enable_all().start_paused(true).build().unwrap();
    paused.block_on(async {
        let (group, start) = (Group::builder().timerfd().build(), Instant::now());
        group.delay(Duration::from_secs(3600), async {});
        group.wait().await.unwrap();
        assert_eq!(start.elapsed(), Duration::from_secs(3600));
    });
    paused.block_on(all_run_and_none_early());

    let mut without_io = tokio::runtime::Builder::new_current_thread();
    let without_io = without_io.enable_time().build().unwrap();
    let files: Arc<Mutex<Vec<String>>> = Arc::default();
    let seen = Arc::clone(&files);
    std::panic::set_hook(Box::new(move |panic| {
        let file = panic.location().map(|location| location.file().to_owned());
        seen.lock().unwrap().extend(file);
    }));
    let built = catch_unwind(|| without_io.block_on(async { Group::builder().timerfd().build() }));
    drop(std::panic::take_hook());
    assert!(built.is_err(), "built without an I/O driver");
    assert_eq!(*files.lock().unwrap(), [file!()], "panics, by file");
    without_io.block_on(async {
        let group = Group::new();
        group.delay(Duration::from_millis(1), async {});
        group.wait().await.unwrap();
    });

    let one_thread = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    one_thread.block_on(async {
        let few = FewFiles::new();
        let group = Group::builder().timerfd().build();
        drop(few);
        assert_eq!(timers(), 0, "a timer though no file could be opened");
        let ran = group.spawn_after(Duration::from_millis(1), async { 7 });
        assert_eq!(timeout(PATIENCE, ran).await.unwrap().unwrap(), 7);
    });
}

/// Lets the process open no more files.
struct FewFiles(rustix::process::Rlimit);

impl FewFiles {
    fn new() -> FewFiles {
        use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
        let before = getrlimit(Resource::Nofile);
        let none = Rlimit {
            current: Some(0),
            maximum: before.maximum,
        };
        setrlimit(Resource::Nofile, none).unwrap();
        FewFiles(before)
    }
}

impl Drop for FewFiles {
    fn drop(&mut self) {
        rustix::process::setrlimit(rustix::process::Resource::Nofile, self.0).unwrap();
    }
}
