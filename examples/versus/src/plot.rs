//! Draws an SVG of the cost of a job, from a thousand to ten million pending jobs.

use std::fmt::Write;

use crate::cell::{Who, measure};
use crate::workload::{Job, Workload};

const SIZES: [usize; 5] = [1_000, 10_000, 100_000, 1_000_000, 10_000_000];
const LINES: [(Who, &str); 3] = [
    (Who::Tracker, "#b5483a"),
    (Who::DelayQueue, "#8a6d1f"),
    (Who::Ours, "#1f6f8b"),
];
/// The workload, the figure and the title of each.
const PANELS: [(Workload, &str, &str); 2] = [
    (
        Workload::Schedule { producers: 1 },
        "cpu",
        "schedule, CPU ns a job until quiet",
    ),
    (
        Workload::Burst(Job::Ready),
        "life",
        "all due at once, CPU ns a job, schedule to wait",
    ),
];

const WIDTH: f64 = 380.0;
const HEIGHT: f64 = 240.0;
const LEFT: f64 = 50.0;
const TOP: f64 = 40.0;
const GAP: f64 = 70.0;
/// The vertical axis, as powers of ten.
const LOW: f64 = 1.0;
const HIGH: f64 = 4.0;

pub(crate) fn draw(file: &str) {
    let mut svg = String::new();
    let whole = (LEFT + 2.0 * WIDTH + GAP + 20.0, TOP + HEIGHT + 70.0);
    writeln!(
        svg,
        r#"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {} {}" font-family="sans-serif" font-size="12">
<rect width="100%" height="100%" fill="white"/>"#,
        whole.0, whole.1
    )
    .expect("a string takes all");
    for (panel, (workload, figure, title)) in PANELS.into_iter().enumerate() {
        let left = LEFT + panel as f64 * (WIDTH + GAP);
        frame(&mut svg, left, title);
        let sizes = SIZES.map(|size| {
            let rounds = if size < 1_000_000 { 5 } else { 1 };
            (
                size,
                measure(&LINES.map(|(who, _)| who), workload, size, rounds),
            )
        });
        for (who, colour) in LINES {
            let points = sizes.each_ref().map(|(size, cells)| {
                let nanos = cells[&who].median(figure).expect("a figure of each size");
                println!("{title}: {} of {size}: {nanos:.0}", who.name());
                place(left, *size, nanos)
            });
            line(&mut svg, &points, colour);
        }
    }
    legend(&mut svg);
    svg += "</svg>\n";
    std::fs::write(file, svg).expect("a file that can be written");
}

/// Where a point lies; both axes are logarithmic.
fn place(left: f64, size: usize, nanos: f64) -> (f64, f64) {
    let decades = (SIZES[SIZES.len() - 1] as f64 / SIZES[0] as f64).log10();
    let x = (size as f64 / SIZES[0] as f64).log10() / decades;
    let y = ((nanos.log10() - LOW) / (HIGH - LOW)).clamp(0.0, 1.0);
    (left + x * WIDTH, TOP + (1.0 - y) * HEIGHT)
}

fn frame(svg: &mut String, left: f64, title: &str) {
    let mut put = |element: String| *svg += &element;
    put(format!(
        "<text x=\"{left}\" y=\"{}\">{title}</text>\n",
        TOP - 14.0
    ));
    for power in LOW as i32..=HIGH as i32 {
        let nanos = 10_f64.powi(power);
        let (_, y) = place(left, SIZES[0], nanos);
        put(format!(
            "<path d=\"M{left} {y}h{WIDTH}\" stroke=\"#ddd\"/><text x=\"{}\" y=\"{}\" text-anchor=\"end\">{nanos}</text>\n",
            left - 6.0,
            y + 4.0
        ));
    }
    for size in SIZES {
        let (x, _) = place(left, size, 1.0);
        let name = match size {
            1_000_000.. => format!("{} M", size / 1_000_000),
            _ => format!("{} k", size / 1_000),
        };
        put(format!(
            "<path d=\"M{x} {TOP}v{HEIGHT}\" stroke=\"#ddd\"/><text x=\"{x}\" y=\"{}\" text-anchor=\"middle\">{name}</text>\n",
            TOP + HEIGHT + 18.0
        ));
    }
}

fn line(svg: &mut String, points: &[(f64, f64)], colour: &str) {
    let all: Vec<String> = points
        .iter()
        .map(|(x, y)| format!("{x:.1},{y:.1}"))
        .collect();
    *svg += &format!(
        "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/>\n",
        all.join(" ")
    );
    for (x, y) in points {
        *svg += &format!("<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3\" fill=\"{colour}\"/>\n");
    }
}

fn legend(svg: &mut String) {
    for (place, (who, colour)) in LINES.into_iter().enumerate() {
        let (x, y) = (LEFT + place as f64 * 170.0, TOP + HEIGHT + 48.0);
        *svg += &format!(
            "<path d=\"M{x} {y}h20\" stroke=\"{colour}\" stroke-width=\"2\"/><text x=\"{}\" y=\"{}\">{}</text>\n",
            x + 26.0,
            y + 4.0,
            who.name()
        );
    }
}
