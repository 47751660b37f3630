//! Whether work slows down when much more is due than is done.

use std::time::Duration;

use super::{Kind, Outcome, Pending, Place, load, median, work};

/// How long the backlog is worked, in rounds one after the other.
const ROUNDS: usize = 6;
const ROUND: Duration = Duration::from_secs(5);

/// The jobs of a round without a backlog.
const FEW: u64 = 20_000;

pub(crate) async fn run(kinds: &[Kind], rows: u64) -> Outcome {
    println!("load {}\n", load());
    println!(
        "| jobs a second | few are due | of {rows}, by rounds of {ROUND:?} | the part of few |"
    );
    println!("|---|---|---|---|");
    for kind in kinds {
        for at_once in [64, 512] {
            let mut few = Vec::new();
            for _ in 0..3 {
                let Some(place) = Place::new(*kind).await else {
                    continue;
                };
                let queue = place.open().await?;
                place.fill(FEW, Pending::Due).await?;
                few.push(
                    work(&queue, "default", at_once, FEW, ROUND * 12)
                        .await?
                        .jobs,
                );
            }
            let Some(place) = Place::new(*kind).await else {
                continue;
            };
            let queue = place.open().await?;
            place.fill(rows, Pending::Due).await?;
            let mut many = Vec::new();
            for _ in 0..ROUNDS {
                many.push(
                    work(&queue, "default", at_once, u64::MAX, ROUND)
                        .await?
                        .jobs,
                );
            }
            let rounds: Vec<_> = many.iter().map(|jobs| format!("{jobs:.0}")).collect();
            let (few, many) = (median(few), median(many));
            println!(
                "| {kind:?}, {at_once} at once | {few:.0} | {} | {:.0} % |",
                rounds.join(", "),
                100.0 * many / few
            );
        }
    }
    Ok(())
}
