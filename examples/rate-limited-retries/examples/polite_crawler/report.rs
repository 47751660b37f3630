//! What the crawl came to, by the servers' own logs.

use super::crawl::{Counts, Crawled, GRACE, allowed, overall, per_host};
use super::server::{Host, KINDS, Verdict};
use rate_limited_retries::Stats;
use std::time::Duration;

/// One line for each second.
pub(crate) fn live(counts: &Counts, stats: &Stats, since: Duration) {
    let retried: usize = counts.retried.values().sum();
    println!(
        "{:>4.0} s {:>7} done {:>6} retried {:>7} queued {:>5} delayed {:>4} running {:>7.0} starts/s",
        since.as_secs_f64(),
        counts.done,
        retried,
        stats.queued,
        stats.delayed,
        stats.running,
        stats.started as f64 / since.as_secs_f64().max(0.1),
    );
}

/// Prints the report. Returns how many requests were sent in a forbidden window, and how many too many in a period.
pub(crate) fn report(hosts: &[Host], crawled: &Crawled) -> (usize, u64) {
    let (rate, mut forbidden, mut over) = (allowed(), 0, 0);
    println!(
        "\nhosts      requests  pages once  twice  'wait' said  in a forbidden window  most in a second, of {}",
        rate.in_a_period()
    );
    for kind in KINDS {
        let of_kind = hosts.iter().filter(|host| host.kind == kind);
        let verdicts: Vec<Verdict> = of_kind.map(|host| host.verdict(rate)).collect();
        let sum = |of: fn(&Verdict) -> usize| verdicts.iter().map(of).sum::<usize>();
        let most = verdicts.iter().map(|v| v.most).max().unwrap_or(0);
        forbidden += sum(|v| v.forbidden);
        over += most.saturating_sub(rate.in_a_period());
        println!(
            "{:>2} {:<8}{:>8}{:>12}{:>7}{:>13}{:>23}{:>25}",
            verdicts.len(),
            format!("{kind:?}").to_lowercase(),
            sum(|v| v.requests),
            sum(|v| v.once),
            sum(|v| v.twice),
            sum(|v| v.said),
            sum(|v| v.forbidden),
            most,
        );
    }
    let Crawled {
        length,
        counts,
        stats,
        drained,
        most_tasks,
        most_starts,
    } = crawled;
    let seconds = length.as_secs_f64();
    println!(
        "\n{} starts in {seconds:.1} s: {:.0} a second of {}; the latest was {:?} late; at most {most_tasks} tasks",
        stats.started,
        stats.started as f64 / seconds,
        overall().count(),
        counts.latest,
    );
    println!(
        "by the dispatcher's clock at most {most_starts} starts of a host in a second, of {}",
        per_host().in_a_period()
    );
    println!("retried: {:?}", counts.retried);
    println!(
        "done: {}; given up: {:?}; left out, of hopeless hosts: {}",
        counts.done, counts.gave_up, counts.skipped
    );
    if let Some(drained) = drained {
        println!(
            "stopped: {} more started within {GRACE:?}, {} were left, of which {} had been tried",
            drained.started,
            drained.left.len(),
            drained.left.iter().filter(|left| left.attempts > 0).count(),
        );
    }
    (forbidden, over)
}
