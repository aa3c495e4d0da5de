//! Charts as SVG: real axes, a mark for every number, a tooltip for every mark.
//!
//! A chart is drawn for a width of 440 units, close to what it gets on a phone and in a column of a wide screen, so that its text keeps
//! its size. Colours are classes (`c-function`, `c-0`, …) of the style sheet, which knows light and dark; series differ in dash and
//! marker too. A tooltip is the `<title>` of an element, which the page's script shows at once and a browser without it after a while.

use std::fmt::Write as _;

use super::html::{escape, number, percent};

const WIDTH: f64 = 440.0;
const LEFT: f64 = 46.0;
const RIGHT: f64 = 10.0;
const TOP: f64 = 10.0;
const BOTTOM: f64 = 38.0;

/// What the numbers of an axis are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unit {
    /// Fractions, shown as percent from 0 to 100.
    Fraction,
    /// Anything else.
    Number,
}

impl Unit {
    pub(super) fn text(self, value: f64) -> String {
        match self {
            Self::Fraction => percent(value),
            Self::Number => number(value),
        }
    }
}

/// A point of a series.
#[derive(Debug, Clone)]
pub(super) struct Point {
    pub x: f64,
    pub y: f64,
    /// Lowest and highest, for a band or an interval.
    pub band: Option<(f64, f64)>,
}

/// Points that belong together.
#[derive(Debug, Clone)]
pub(super) struct Series {
    pub name: String,
    /// The class of its colour, such as `function` or `0`.
    pub colour: String,
    pub points: Vec<Point>,
    pub style: Style,
}

/// How a series is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Style {
    /// A line, with a band where its points have one.
    Line,
    /// Marks, with an interval where its points have one.
    Marks,
}

/// A chart of series over one horizontal axis.
#[derive(Debug)]
pub(super) struct Chart<'a> {
    pub title: &'a str,
    pub x_label: &'a str,
    pub x_unit: Unit,
    pub y_unit: Unit,
    pub series: Vec<Series>,
}

/// A linear axis.
#[derive(Debug, Clone, Copy)]
struct Scale {
    low: f64,
    high: f64,
    from: f64,
    to: f64,
}

impl Scale {
    fn at(&self, value: f64) -> f64 {
        self.from + (value - self.low) / (self.high - self.low) * (self.to - self.from)
    }
}

/// Round numbers that cover a range, about `wanted` of them.
fn ticks(low: f64, high: f64, wanted: f64) -> Vec<f64> {
    let rough = (high - low).max(1e-12) / wanted;
    let magnitude = 10_f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0].map(|s| s * magnitude).into_iter().find(|s| *s >= rough * 0.999);
    let step = step.unwrap_or(rough);
    let first = (low / step + 1e-9).floor() as i64;
    let last = (high / step - 1e-9).ceil() as i64;
    (first..=last).map(|n| n as f64 * step).collect()
}

impl Chart<'_> {
    /// A figure with title, legend and drawing; nothing where there are no points.
    pub(super) fn render(&self) -> String {
        let height = 230.0;
        let Some((x, y, y_ticks)) = self.scales(height) else { return String::new() };
        let mut svg = axes(self, &x, &y, &y_ticks, height);
        for (index, series) in self.series.iter().enumerate() {
            // Marks of several series over one place stand side by side.
            let shift = 7.0 * (index as f64 - (self.series.len() - 1) as f64 / 2.0);
            match series.style {
                Style::Line => line(&mut svg, series, &x, &y),
                Style::Marks => marks(&mut svg, series, &x, &y, shift),
            }
        }
        self.columns(&mut svg, &x, height);
        figure(self.title, &self.legend(), &svg, height)
    }

    fn scales(&self, height: f64) -> Option<(Scale, Scale, Vec<f64>)> {
        let points = || self.series.iter().flat_map(|series| &series.points).filter(|p| p.y.is_finite());
        let xs = points().map(|point| point.x);
        let (x_low, x_high) = range(xs)?;
        let (y_low, y_high) =
            range(points().flat_map(|p| [p.y, p.band.map_or(p.y, |b| b.0), p.band.map_or(p.y, |b| b.1)]))?;
        let y_ticks = match self.y_unit {
            Unit::Fraction => vec![0.0, 0.25, 0.5, 0.75, 1.0],
            Unit::Number => ticks(y_low.min(0.0), if y_high > y_low.min(0.0) { y_high } else { 1.0 }, 4.0),
        };
        let x = match self.x_unit {
            Unit::Fraction => Scale { low: 0.0, high: 1.0, from: LEFT + 8.0, to: WIDTH - RIGHT },
            Unit::Number => {
                let high = if x_high > x_low { x_high } else { x_low + 1.0 };
                Scale { low: x_low, high, from: LEFT + 14.0, to: WIDTH - RIGHT - 10.0 }
            }
        };
        let y = Scale { low: *y_ticks.first()?, high: *y_ticks.last()?, from: height - BOTTOM, to: TOP };
        Some((x, y, y_ticks))
    }

    fn legend(&self) -> String {
        if self.series.len() < 2 {
            return String::new();
        }
        let entries = self.series.iter().map(|series| {
            format!(
                "<span class=\"c-{}\">{}{}</span>",
                series.colour,
                swatch(series.style),
                escape(&series.name)
            )
        });
        format!("<div class=\"legend\">{}</div>", entries.collect::<String>())
    }

    /// For every place of the horizontal axis: a strip to point at, which tells all values there.
    fn columns(&self, svg: &mut String, x: &Scale, height: f64) {
        let mut places: Vec<f64> =
            self.series.iter().flat_map(|series| series.points.iter().map(|p| p.x)).collect();
        places.sort_by(f64::total_cmp);
        places.dedup();
        let places = thinned(&places, 120);
        for (index, place) in places.iter().enumerate() {
            let before = if index == 0 { LEFT } else { x.at(f64::midpoint(places[index - 1], *place)) };
            let after =
                places.get(index + 1).map_or(WIDTH - RIGHT, |next| x.at(f64::midpoint(*place, *next)));
            let mut tip = format!("{} {}", self.x_label, self.x_unit.text(*place));
            for series in &self.series {
                for point in series.points.iter().filter(|p| (p.x - place).abs() < 1e-12) {
                    let _ = write!(tip, "\n{}: {}", series.name, self.y_unit.text(point.y));
                    if let Some((low, high)) = point.band {
                        let _ = write!(tip, " ({}–{})", self.y_unit.text(low), self.y_unit.text(high));
                    }
                }
            }
            let _ = write!(
                svg,
                "<rect class=\"hit\" x=\"{before:.1}\" y=\"{TOP}\" width=\"{:.1}\" height=\"{:.1}\"><title>{}</title></rect>",
                (after - before).max(1.0),
                height - BOTTOM - TOP,
                escape(&tip)
            );
        }
    }
}

/// At most so many of the values, evenly spread, with the last.
fn thinned(values: &[f64], most: usize) -> Vec<f64> {
    let every = values.len().div_ceil(most).max(1);
    let last = values.len().saturating_sub(1);
    values.iter().enumerate().filter(|(i, _)| i % every == 0 || *i == last).map(|(_, v)| *v).collect()
}

fn range(values: impl Iterator<Item = f64>) -> Option<(f64, f64)> {
    values.filter(|v| v.is_finite()).fold(None, |range, v| {
        Some(range.map_or((v, v), |(low, high): (f64, f64)| (low.min(v), high.max(v))))
    })
}

fn swatch(style: Style) -> &'static str {
    match style {
        Style::Line => {
            "<svg viewBox=\"0 0 22 10\" aria-hidden=\"true\"><path class=\"line\" d=\"M1 5H21\"/></svg>"
        }
        Style::Marks => {
            "<svg viewBox=\"0 0 12 10\" aria-hidden=\"true\"><circle class=\"mark\" cx=\"6\" cy=\"5\" r=\"3.6\"/></svg>"
        }
    }
}

/// The legend of colours with their names.
fn keys(parts: &[(&str, &str)], swatch: &str) -> String {
    let mut html = "<div class=\"legend\">".to_owned();
    for (colour, name) in parts {
        let _ = write!(html, "<span class=\"c-{}\">{swatch}{}</span>", escape(colour), escape(name));
    }
    html + "</div>"
}

/// A figure around a drawing.
fn figure(title: &str, legend: &str, svg: &str, height: f64) -> String {
    format!(
        "<figure><figcaption>{title}</figcaption>{legend}<svg class=\"chart\" viewBox=\"0 0 {WIDTH} {height}\" \
         role=\"img\" aria-label=\"{}\">{svg}</svg></figure>",
        escape(title)
    )
}

fn axes(chart: &Chart<'_>, x: &Scale, y: &Scale, y_ticks: &[f64], height: f64) -> String {
    let mut svg = String::new();
    for tick in y_ticks {
        let at = y.at(*tick);
        let _ = write!(
            svg,
            "<path class=\"grid\" d=\"M{LEFT} {at:.1}H{:.1}\"/><text class=\"tick\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
            WIDTH - RIGHT,
            LEFT - 6.0,
            at + 4.0,
            chart.y_unit.text(*tick)
        );
    }
    let x_ticks = match chart.x_unit {
        Unit::Fraction => vec![0.0, 0.25, 0.5, 0.75, 1.0],
        Unit::Number => ticks(x.low, x.high, 6.0),
    };
    let base = height - BOTTOM;
    let inside = |tick: &&f64| **tick >= x.low - 1e-9 && **tick <= x.high + 1e-9;
    for tick in x_ticks.iter().filter(inside) {
        let at = x.at(*tick);
        let _ = write!(
            svg,
            "<path class=\"axis\" d=\"M{at:.1} {base}v4\"/><text class=\"tick\" x=\"{at:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
            base + 17.0,
            chart.x_unit.text(*tick)
        );
    }
    let _ = write!(
        svg,
        "<path class=\"axis\" d=\"M{LEFT} {base}H{:.1}\"/><text class=\"label\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
        WIDTH - RIGHT,
        WIDTH - RIGHT,
        height - 4.0,
        escape(chart.x_label)
    );
    svg
}

fn line(svg: &mut String, series: &Series, x: &Scale, y: &Scale) {
    let points: Vec<&Point> = series.points.iter().filter(|p| p.y.is_finite()).collect();
    let place = |px: f64, py: f64| format!("{:.1} {:.1}", x.at(px), y.at(py));
    if points.iter().any(|p| p.band.is_some()) {
        let upper = points.iter().map(|p| place(p.x, p.band.map_or(p.y, |b| b.1)));
        let lower = points.iter().rev().map(|p| place(p.x, p.band.map_or(p.y, |b| b.0)));
        let outline: Vec<String> = upper.chain(lower).collect();
        let _ = write!(svg, "<path class=\"band c-{}\" d=\"M{}Z\"/>", series.colour, outline.join("L"));
    }
    let path: Vec<String> = points.iter().map(|p| place(p.x, p.y)).collect();
    let _ = write!(svg, "<path class=\"line c-{}\" d=\"M{}\"/>", series.colour, path.join("L"));
    if let [only] = points.as_slice() {
        let _ = write!(
            svg,
            "<circle class=\"mark c-{}\" cx=\"{:.1}\" cy=\"{:.1}\" r=\"3.5\"/>",
            series.colour,
            x.at(only.x),
            y.at(only.y)
        );
    }
}

fn marks(svg: &mut String, series: &Series, x: &Scale, y: &Scale, shift: f64) {
    let points: Vec<&Point> = series.points.iter().filter(|p| p.y.is_finite()).collect();
    let path: Vec<String> =
        points.iter().map(|p| format!("{:.1} {:.1}", x.at(p.x) + shift, y.at(p.y))).collect();
    let _ = write!(svg, "<path class=\"thread c-{}\" d=\"M{}\"/>", series.colour, path.join("L"));
    for point in points {
        let (cx, cy) = (x.at(point.x) + shift, y.at(point.y));
        if let Some((low, high)) = point.band {
            let _ = write!(
                svg,
                "<path class=\"whisker c-{}\" d=\"M{cx:.1} {:.1}V{:.1}\"/>",
                series.colour,
                y.at(low),
                y.at(high)
            );
        }
        let _ = write!(
            svg,
            "<circle class=\"mark c-{}\" cx=\"{cx:.1}\" cy=\"{cy:.1}\" r=\"4.5\"/>",
            series.colour
        );
    }
}

/// A point of a scatter plot, both coordinates fractions.
#[derive(Debug, Clone)]
pub(super) struct Dot {
    pub x: f64,
    pub y: f64,
    /// Radius.
    pub size: f64,
    pub colour: String,
    pub tip: String,
    /// Written beside it.
    pub label: String,
}

/// A scatter plot of fractions. Without a legend the dots are a path, joined in their order.
pub(super) fn scatter(
    title: &str,
    x_label: &str,
    y_label: &str,
    legend: &[(&str, &str)],
    dots: &[Dot],
) -> String {
    if dots.is_empty() {
        return String::new();
    }
    let height = 320.0;
    let chart = Chart { title, x_label, x_unit: Unit::Fraction, y_unit: Unit::Fraction, series: Vec::new() };
    let x = Scale { low: 0.0, high: 1.0, from: LEFT + 8.0, to: WIDTH - RIGHT - 6.0 };
    let y = Scale { low: 0.0, high: 1.0, from: height - BOTTOM, to: TOP + 14.0 };
    let mut svg = axes(&chart, &x, &y, &[0.0, 0.25, 0.5, 0.75, 1.0], height);
    let _ = write!(svg, "<text class=\"label\" x=\"{LEFT}\" y=\"10\">{}</text>", escape(y_label));
    if legend.is_empty() {
        let points: Vec<String> = dots.iter().map(|d| format!("{:.1} {:.1}", x.at(d.x), y.at(d.y))).collect();
        let _ = write!(svg, "<path class=\"trail\" d=\"M{}\"/>", points.join("L"));
    }
    for dot in dots {
        let (cx, cy) = (x.at(dot.x), y.at(dot.y));
        let _ = write!(
            svg,
            "<circle class=\"dot c-{}\" cx=\"{cx:.1}\" cy=\"{cy:.1}\" r=\"{:.1}\"><title>{}</title></circle>",
            escape(&dot.colour),
            dot.size,
            escape(&dot.tip)
        );
        if !dot.label.is_empty() {
            let (anchor, shift) =
                if dot.x > 0.7 { ("end", -dot.size - 4.0) } else { ("start", dot.size + 4.0) };
            let _ = write!(
                svg,
                "<text class=\"tick\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"{anchor}\">{}</text>",
                cx + shift,
                cy + 4.0,
                escape(&dot.label)
            );
        }
    }
    let legend = if legend.is_empty() { String::new() } else { keys(legend, swatch(Style::Marks)) };
    figure(title, &legend, &svg, height)
}

/// A value with its interval, in a row of a dot plot.
#[derive(Debug, Clone)]
pub(super) struct Mean {
    pub colour: String,
    pub value: f64,
    pub low: f64,
    pub high: f64,
    /// The single runs behind it.
    pub runs: Vec<f64>,
    pub tip: String,
}

/// A dot plot of fractions: a row for each name, a line in it for each mean.
pub(super) fn dot_plot(title: &str, legend: &[(&str, &str)], rows: &[(String, Vec<Mean>)]) -> String {
    if rows.is_empty() {
        return String::new();
    }
    let left = 8.0;
    let name_height = 17.0;
    let lines: f64 = rows.iter().map(|(_, means)| name_height + 15.0 * means.len() as f64 + 7.0).sum();
    let height = TOP + lines + BOTTOM - 8.0;
    let x = Scale { low: 0.0, high: 1.0, from: left + 4.0, to: WIDTH - RIGHT - 16.0 };
    let base = height - BOTTOM + 8.0;
    let mut svg = String::new();
    for tick in [0.0, 0.25, 0.5, 0.75, 1.0] {
        let at = x.at(tick);
        let _ = write!(
            svg,
            "<path class=\"grid\" d=\"M{at:.1} {TOP}V{base:.1}\"/><text class=\"tick\" x=\"{at:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
            base + 17.0,
            percent(tick)
        );
    }
    let mut top = TOP;
    for (name, means) in rows {
        let _ =
            write!(svg, "<text class=\"name\" x=\"{left}\" y=\"{:.1}\">{}</text>", top + 12.0, escape(name));
        top += name_height;
        for mean in means {
            mean_row(&mut svg, mean, &x, top + 7.0);
            top += 15.0;
        }
        top += 7.0;
    }
    figure(title, &keys(legend, swatch(Style::Marks)), &svg, height)
}

fn mean_row(svg: &mut String, mean: &Mean, x: &Scale, at: f64) {
    let Mean { colour, value, low, high, runs, tip } = mean;
    let colour = escape(colour);
    let _ = write!(
        svg,
        "<path class=\"whisker c-{colour}\" d=\"M{:.1} {at:.1}H{:.1}\"/>",
        x.at(low.clamp(0.0, 1.0)),
        x.at(high.clamp(0.0, 1.0))
    );
    for run in runs {
        let _ = write!(
            svg,
            "<circle class=\"run c-{colour}\" cx=\"{:.1}\" cy=\"{at:.1}\" r=\"2.4\"/>",
            x.at(*run)
        );
    }
    let _ = write!(
        svg,
        "<circle class=\"mark c-{colour}\" cx=\"{:.1}\" cy=\"{at:.1}\" r=\"4.8\"/>\
         <rect class=\"hit\" x=\"0\" y=\"{:.1}\" width=\"{WIDTH}\" height=\"15\"><title>{}</title></rect>",
        x.at(*value),
        at - 7.5,
        escape(tip)
    );
}

/// Stacked bars over steps: each bar has one value of each part.
pub(super) fn stacked(
    title: &str,
    x_label: &str,
    parts: &[(&str, &str)],
    bars: &[(f64, Vec<f64>)],
) -> String {
    let height = 230.0;
    let highest = bars.iter().map(|(_, values)| values.iter().sum::<f64>()).fold(0.0, f64::max);
    let (Some(first), Some(last)) = (bars.first(), bars.last()) else { return String::new() };
    if highest <= 0.0 {
        return String::new();
    }
    let y_ticks = ticks(0.0, highest, 4.0);
    let y =
        Scale { low: 0.0, high: y_ticks.last().copied().unwrap_or(highest), from: height - BOTTOM, to: TOP };
    let half = (last.0 - first.0) / (bars.len().max(2) - 1) as f64 / 2.0;
    let half = if half > 0.0 { half } else { 0.5 };
    let x = Scale { low: first.0 - half, high: last.0 + half, from: LEFT, to: WIDTH - RIGHT };
    let chart = Chart { title, x_label, x_unit: Unit::Number, y_unit: Unit::Number, series: Vec::new() };
    let mut svg = axes(&chart, &x, &y, &y_ticks, height);
    let width = (x.at(first.0 + half) - x.at(first.0 - half)).max(0.5);
    for (place, values) in bars {
        let mut below = 0.0;
        let mut tip = format!("{x_label} {}", number(*place));
        let left = x.at(*place) - width / 2.0;
        for ((colour, name), value) in parts.iter().zip(values) {
            let (bottom, top) = (y.at(below), y.at(below + value));
            let _ = write!(
                svg,
                "<rect class=\"column c-{colour}\" x=\"{:.1}\" y=\"{top:.1}\" width=\"{:.1}\" height=\"{:.1}\"/>",
                left + width * 0.1,
                width * 0.8,
                (bottom - top).max(0.0)
            );
            let _ = write!(tip, "\n{name}: {}\u{202f}s", number(*value));
            below += value;
        }
        let _ = write!(
            svg,
            "<rect class=\"hit\" x=\"{left:.1}\" y=\"{TOP}\" width=\"{width:.1}\" height=\"{:.1}\"><title>{}</title></rect>",
            height - BOTTOM - TOP,
            escape(&tip)
        );
    }
    figure(title, &keys(parts, "<i class=\"box\"></i>"), &svg, height)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(low: f64, high: f64, expected: &[f64]) {
        let found = ticks(low, high, 4.0);
        let close =
            found.len() == expected.len() && found.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-9);
        assert!(close, "{low} to {high}: {found:?} instead of {expected:?}");
    }

    #[test]
    fn ticks_are_round_and_cover_the_range() {
        check(0.0, 1.0, &[0.0, 0.5, 1.0]);
        check(0.0, 0.9, &[0.0, 0.5, 1.0]);
        check(-0.2, 0.7, &[-0.5, 0.0, 0.5, 1.0]);
        check(0.0, 63.0, &[0.0, 20.0, 40.0, 60.0, 80.0]);
    }

    #[test]
    fn a_chart_shows_every_point_and_escapes_names() {
        let points =
            (0..3).map(|n| Point { x: f64::from(n), y: 0.25 * f64::from(n), band: Some((0.0, 1.0)) });
        let series = Series {
            name: "a < b".to_owned(),
            colour: "function".to_owned(),
            points: points.collect(),
            style: Style::Marks,
        };
        let chart = Chart {
            title: "t",
            x_label: "step",
            x_unit: Unit::Number,
            y_unit: Unit::Fraction,
            series: vec![series],
        };
        let html = chart.render();
        assert_eq!(html.matches("class=\"mark").count(), 3);
        assert_eq!(html.matches("class=\"hit\"").count(), 3);
        assert!(html.contains("a &lt; b: 50\u{202f}%") && !html.contains("a < b"));
        assert!(Chart { series: Vec::new(), ..chart }.render().is_empty());
    }
}
