//! The layout of each kind of chart.
//!
//! All share one order from top to bottom: title, legend (outside the plot, so that it hides no data), the label of the
//! value axis, the plot, the ticks, the label of the other axis.

use plotters::style::{Color as _, RGBColor, WHITE};

use super::axis::{Axis, short};
use super::scene::{Align, GREY, INK, PALE, PALETTE, Scene, fitted, text_width, widest_word, wrapped};
use super::{BarChart, HeatMap, Histogram, ImageGrid, Mark, Tornado, Waterfall, XyChart};

const WIDTH: f64 = 800.0;
const HEIGHT: f64 = 480.0;
const MARGIN: f64 = 18.0;
const TITLE: f64 = 16.0;
const LABEL: f64 = 12.0;
const TICK: f64 = 11.0;
const LINE: f64 = 1.3;

/// Points of a line beyond which marks would merge into a band.
const MARKED_POINTS: usize = 40;
/// Bars beyond which their values would not be legible.
const LABELLED_BARS: usize = 24;

fn color(series: usize) -> RGBColor {
    PALETTE[series % PALETTE.len()]
}

#[derive(Clone, Copy)]
enum Key {
    Line(usize),
    Mark(usize),
    Box(RGBColor),
    Dash,
}

/// Draws title, legend and value-axis label; returns where the plot may begin.
fn head(scene: &mut Scene, title: &str, keys: &[(Key, String)], y_label: &str) -> f64 {
    let mut y = MARGIN;
    for line in wrapped(title, TITLE, scene.width - 2.0 * MARGIN) {
        y += TITLE;
        scene.text((MARGIN, y), line, TITLE, INK, Align::Left);
        y += TITLE * (LINE - 1.0);
    }
    if !keys.is_empty() {
        let mut x = MARGIN;
        y += 1.6 * LABEL;
        for (key, name) in keys {
            let name = fitted(name, LABEL, scene.width - 2.0 * MARGIN - 32.0);
            let width = 26.0 + text_width(&name, LABEL);
            if x > MARGIN && x + width > scene.width - MARGIN {
                x = MARGIN;
                y += LABEL * 1.5;
            }
            let middle = y - 0.36 * LABEL;
            match *key {
                Key::Line(series) => {
                    scene.line(vec![(x, middle), (x + 20.0, middle)], color(series), 2.0);
                    scene.mark((x + 10.0, middle), series, 3.5, color(series));
                }
                Key::Mark(series) => scene.mark((x + 10.0, middle), series, 4.0, color(series)),
                Key::Box(fill) => scene.rect((x + 4.0, middle - 5.0), (x + 18.0, middle + 5.0), fill),
                Key::Dash => scene.dashes((x, middle), (x + 20.0, middle), INK),
            }
            scene.text((x + 26.0, y), name, LABEL, INK, Align::Left);
            x += width + 20.0;
        }
    }
    if !y_label.is_empty() {
        y += 1.9 * LABEL;
        scene.text((MARGIN, y), fitted(y_label, LABEL, scene.width - 2.0 * MARGIN), LABEL, GREY, Align::Left);
    }
    y + 16.0
}

/// The plot's rectangle.
#[derive(Clone, Copy, Debug)]
struct Plane {
    left: f64,
    right: f64,
    top: f64,
    bottom: f64,
}

impl Plane {
    fn x(&self, axis: &Axis, value: f64) -> f64 {
        self.left + axis.at(value) * (self.right - self.left)
    }

    fn y(&self, axis: &Axis, value: f64) -> f64 {
        self.bottom - axis.at(value) * (self.bottom - self.top)
    }
}

/// Width that the labels of a value axis take at the left.
fn label_room<'a>(labels: impl IntoIterator<Item = &'a str>) -> f64 {
    labels.into_iter().map(|label| text_width(label, TICK)).fold(0.0, f64::max) + 8.0
}

fn horizontal_grid(scene: &mut Scene, plane: Plane, y: &Axis) {
    for (value, label) in &y.ticks {
        let at = plane.y(y, *value);
        scene.line(vec![(plane.left, at), (plane.right, at)], PALE, 1.0);
        scene.text((plane.left - 8.0, at + 0.36 * TICK), label, TICK, GREY, Align::Right);
    }
}

fn vertical_grid(scene: &mut Scene, plane: Plane, x: &Axis, x_label: &str) {
    let mut free = f64::NEG_INFINITY;
    for (value, label) in &x.ticks {
        let at = plane.x(x, *value);
        scene.line(vec![(at, plane.top), (at, plane.bottom + 4.0)], PALE, 1.0);
        let half = text_width(label, TICK) / 2.0;
        if at - half >= free {
            scene.text((at, plane.bottom + 18.0), label, TICK, GREY, Align::Center);
            free = at + half + 6.0;
        }
    }
    let middle = f64::midpoint(plane.left, plane.right);
    scene.text((middle, plane.bottom + 38.0), x_label, LABEL, GREY, Align::Center);
}

fn finite(name: &str, values: impl IntoIterator<Item = f64>) -> Result<(), String> {
    match values.into_iter().enumerate().find(|(_, value)| !value.is_finite()) {
        Some((i, value)) => Err(format!("series \"{name}\": value {i} is {value}")),
        None => Ok(()),
    }
}

fn positive(name: &str, axis: &str, values: impl IntoIterator<Item = f64>) -> Result<(), String> {
    match values.into_iter().enumerate().find(|(_, value)| *value <= 0.0) {
        Some((i, value)) => Err(format!("series \"{name}\": value {i} is {value}, and the {axis} axis is logarithmic")),
        None => Ok(()),
    }
}

fn range(values: impl IntoIterator<Item = f64>) -> (f64, f64) {
    values.into_iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), v| (low.min(v), high.max(v)))
}

impl XyChart {
    pub(super) fn scene(&self) -> Result<Scene, String> {
        if self.series.is_empty() {
            return Err("no series".to_string());
        }
        for (name, points) in &self.series {
            if points.is_empty() {
                return Err(format!("series \"{name}\" has no points"));
            }
            let (xs, ys) = (points.iter().map(|p| p.0), points.iter().map(|p| p.1));
            finite(name, xs.clone())?;
            finite(name, ys.clone())?;
            if self.log_x {
                positive(name, "x", xs)?;
            }
            if self.log_y {
                positive(name, "y", ys)?;
            }
        }
        for (name, level) in &self.levels {
            finite(name, [*level])?;
            if self.log_y {
                positive(name, "y", [*level])?;
            }
        }
        let points = || self.series.iter().flat_map(|(_, points)| points.iter().copied());
        let axis = |(low, high): (f64, f64), log: bool| {
            if log { Axis::log(low, high) } else { Axis::linear(low, high) }
        };
        let x = axis(range(points().map(|p| p.0)), self.log_x);
        let y = axis(range(points().map(|p| p.1).chain(self.levels.iter().map(|level| level.1))), self.log_y);
        let mut keys: Vec<(Key, String)> = Vec::new();
        if self.series.len() > 1 || !self.levels.is_empty() {
            let key = |i| {
                if self.mark == Mark::Line { Key::Line(i) } else { Key::Mark(i) }
            };
            keys.extend(self.series.iter().enumerate().map(|(i, (name, _))| (key(i), name.clone())));
        }
        keys.extend(self.levels.iter().map(|(name, level)| (Key::Dash, format!("{name} ({})", short(*level)))));
        let mut scene = Scene::new(WIDTH, HEIGHT);
        let top = head(&mut scene, &self.title, &keys, &self.y_label);
        let left = MARGIN + label_room(y.ticks.iter().map(|tick| tick.1.as_str()));
        let last = x.ticks.last().map_or(0.0, |tick| text_width(&tick.1, TICK) / 2.0);
        let plane = Plane { left, right: WIDTH - MARGIN - last.max(8.0), top, bottom: HEIGHT - 58.0 };
        vertical_grid(&mut scene, plane, &x, &self.x_label);
        horizontal_grid(&mut scene, plane, &y);
        for (name, level) in &self.levels {
            let at = plane.y(&y, *level);
            debug_assert!(at.is_finite(), "{name}");
            scene.dashes((plane.left, at), (plane.right, at), INK);
        }
        for (i, (_, points)) in self.series.iter().enumerate() {
            let at: Vec<(f64, f64)> = points.iter().map(|p| (plane.x(&x, p.0), plane.y(&y, p.1))).collect();
            match self.mark {
                Mark::Line => {
                    if points.len() <= MARKED_POINTS {
                        for p in &at {
                            scene.mark(*p, i, 3.5, color(i));
                        }
                    }
                    if points.len() > 1 {
                        scene.line(at, color(i), 2.0);
                    } else {
                        scene.mark(at[0], i, 3.5, color(i));
                    }
                }
                Mark::Point => {
                    let (radius, alpha) = if points.len() > 500 { (2.5, 0.5) } else { (4.0, 0.8) };
                    for p in &at {
                        scene.mark(*p, i, radius, color(i).mix(alpha));
                    }
                }
            }
        }
        Ok(scene)
    }
}

/// The slots of a category axis: a scene wide enough that no word of a label is cut, unless there are very many.
fn category_width(names: &[&str], least: f64) -> f64 {
    let slot = names.iter().map(|name| widest_word(name, TICK)).fold(0.0, f64::max).max(least) + 10.0;
    (slot * names.len() as f64 + 110.0).clamp(WIDTH, 2.0 * WIDTH)
}

/// Room under the lowest tick for the values of bars that hang below zero.
fn hanging_room(low: f64) -> f64 {
    if low < 0.0 { TICK * 1.5 } else { 0.0 }
}

/// Writes category labels under their slots, wrapped to three lines.
fn category_labels(scene: &mut Scene, plane: Plane, names: &[&str], x_label: &str) {
    let slot = (plane.right - plane.left) / names.len() as f64;
    for (i, name) in names.iter().enumerate() {
        let middle = plane.left + (i as f64 + 0.5) * slot;
        for (row, line) in wrapped(name, TICK, slot - 6.0).iter().take(3).enumerate() {
            let at = (middle, plane.bottom + 16.0 + row as f64 * TICK * LINE);
            scene.text(at, fitted(line, TICK, slot - 4.0), TICK, GREY, Align::Center);
        }
    }
    let middle = f64::midpoint(plane.left, plane.right);
    scene.text((middle, scene.height - 12.0), x_label, LABEL, GREY, Align::Center);
}

/// Height that wrapped category labels and the axis label take below the plot.
fn category_room(names: &[&str], slot: f64, x_label: &str) -> f64 {
    let rows = names.iter().map(|name| wrapped(name, TICK, slot - 6.0).len().min(3)).max().unwrap_or(1);
    16.0 + rows as f64 * TICK * LINE + if x_label.is_empty() { 6.0 } else { 24.0 }
}

impl BarChart {
    pub(super) fn scene(&self) -> Result<Scene, String> {
        if self.series.is_empty() || self.categories.is_empty() {
            return Err("no series or no categories".to_string());
        }
        for (name, values) in &self.series {
            if values.len() != self.categories.len() {
                let (values, categories) = (values.len(), self.categories.len());
                return Err(format!("series \"{name}\" has {values} values for {categories} categories"));
            }
            finite(name, values.iter().copied())?;
            if self.log_y {
                positive(name, "value", values.iter().copied())?;
            }
        }
        let values = || self.series.iter().flat_map(|(_, values)| values.iter().copied());
        let (low, high) = range(values());
        let y = if self.log_y { Axis::log(low, high) } else { Axis::linear(low.min(0.0), high.max(0.0)) };
        let mut keys = Vec::new();
        if self.series.len() > 1 {
            keys.extend(self.series.iter().enumerate().map(|(i, (name, _))| (Key::Box(color(i)), name.clone())));
        }
        let names: Vec<&str> = self.categories.iter().map(String::as_str).collect();
        let mut scene = Scene::new(category_width(&names, 14.0 * self.series.len() as f64), HEIGHT);
        let top = head(&mut scene, &self.title, &keys, &self.y_label) + 6.0;
        let left = MARGIN + label_room(y.ticks.iter().map(|tick| tick.1.as_str()));
        let right = scene.width - MARGIN;
        let slot = (right - left) / names.len() as f64;
        let plane = Plane { left, right, top, bottom: HEIGHT - category_room(&names, slot, &self.x_label) };
        category_labels(&mut scene, plane, &names, &self.x_label);
        let plane = Plane { bottom: plane.bottom - hanging_room(low), ..plane };
        horizontal_grid(&mut scene, plane, &y);
        let base = plane.y(&y, y.base());
        let bar = (0.8 * slot / self.series.len() as f64).min(70.0);
        let group = bar * self.series.len() as f64;
        let labelled = names.len() * self.series.len() <= LABELLED_BARS;
        for (i, (_, values)) in self.series.iter().enumerate() {
            for (category, value) in values.iter().enumerate() {
                let x = plane.left + (category as f64 + 0.5) * slot - group / 2.0 + i as f64 * bar;
                let end = plane.y(&y, *value);
                scene.rect((x + 1.0, base), (x + bar - 1.0, end), color(i));
                let text = short(*value);
                if labelled && text_width(&text, TICK) <= bar.max(slot / self.series.len() as f64) + 2.0 {
                    let at = if end <= base { end - 4.0 } else { end + 0.76 * TICK + 4.0 };
                    scene.text((x + bar / 2.0, at), text, TICK, INK, Align::Center);
                }
            }
        }
        scene.line(vec![(plane.left, base), (plane.right, base)], GREY, 1.0);
        Ok(scene)
    }
}

impl Histogram {
    pub(super) fn scene(&self) -> Result<Scene, String> {
        if self.bins == 0 {
            return Err("0 bins".to_string());
        }
        if self.series.is_empty() {
            return Err("no series".to_string());
        }
        for (name, values) in &self.series {
            if values.is_empty() {
                return Err(format!("series \"{name}\" has no values"));
            }
            finite(name, values.iter().copied())?;
        }
        for (name, x) in &self.markers {
            finite(name, [*x])?;
        }
        let (low, high) = range(self.series.iter().flat_map(|(_, values)| values.iter().copied()));
        let (low, high) = if high - low > 1e-12 * high.abs() { (low, high) } else { (low - 0.5, high + 0.5) };
        let width = (high - low) / self.bins as f64;
        let counts: Vec<Vec<usize>> = self
            .series
            .iter()
            .map(|(_, values)| {
                let mut counts = vec![0; self.bins];
                for value in values {
                    counts[(((value - low) / width) as usize).min(self.bins - 1)] += 1;
                }
                counts
            })
            .collect();
        let most = counts.iter().flatten().max().copied().unwrap_or(1);
        let y = Axis::linear(0.0, most as f64);
        let (from, to) = range(self.markers.iter().map(|marker| marker.1).chain([low, high]));
        // A little air, so that the outermost bars do not touch the frame.
        let air = 0.02 * (to - from);
        let x = Axis::exact(from - air, to + air);
        let mut keys: Vec<(Key, String)> = Vec::new();
        if self.series.len() > 1 {
            keys.extend(self.series.iter().enumerate().map(|(i, (name, _))| (Key::Box(color(i)), name.clone())));
        }
        keys.extend(self.markers.iter().map(|(name, at)| (Key::Dash, format!("{name} ({})", short(*at)))));
        let mut scene = Scene::new(WIDTH, HEIGHT);
        let top = head(&mut scene, &self.title, &keys, "count");
        let left = MARGIN + label_room(y.ticks.iter().map(|tick| tick.1.as_str()));
        let plane = Plane { left, right: WIDTH - MARGIN - 8.0, top, bottom: HEIGHT - 58.0 };
        vertical_grid(&mut scene, plane, &x, &self.x_label);
        horizontal_grid(&mut scene, plane, &y);
        let alpha = if self.series.len() > 1 { 0.45 } else { 0.85 };
        for (i, counts) in counts.iter().enumerate() {
            let mut outline = vec![(plane.x(&x, low), plane.bottom)];
            for (bin, count) in counts.iter().enumerate() {
                let (from, to) = (low + bin as f64 * width, low + (bin + 1) as f64 * width);
                let (left, right, end) = (plane.x(&x, from), plane.x(&x, to), plane.y(&y, *count as f64));
                if *count > 0 {
                    scene.rect((left + 0.5, plane.bottom), (right - 0.5, end), color(i).mix(alpha));
                }
                outline.extend([(left, end), (right, end)]);
            }
            if self.series.len() > 1 {
                outline.push((plane.x(&x, high), plane.bottom));
                scene.line(outline, color(i), 1.5);
            }
        }
        for (_, marker) in &self.markers {
            let at = plane.x(&x, *marker);
            scene.dashes((at, plane.top), (at, plane.bottom), INK);
        }
        scene.line(vec![(plane.left, plane.bottom), (plane.right, plane.bottom)], GREY, 1.0);
        Ok(scene)
    }
}

/// Viridis, by nine of its colours.
const SEQUENTIAL: [RGBColor; 9] = [
    RGBColor(0x44, 0x01, 0x54),
    RGBColor(0x47, 0x2d, 0x7b),
    RGBColor(0x3b, 0x52, 0x8b),
    RGBColor(0x2c, 0x72, 0x8e),
    RGBColor(0x21, 0x91, 0x8c),
    RGBColor(0x28, 0xae, 0x80),
    RGBColor(0x5e, 0xc9, 0x62),
    RGBColor(0xad, 0xdc, 0x30),
    RGBColor(0xfd, 0xe7, 0x25),
];

/// ColorBrewer's blue to red, for values on both sides of zero.
const DIVERGING: [RGBColor; 7] = [
    RGBColor(0x21, 0x66, 0xac),
    RGBColor(0x67, 0xa9, 0xcf),
    RGBColor(0xd1, 0xe5, 0xf0),
    RGBColor(0xf7, 0xf7, 0xf7),
    RGBColor(0xfd, 0xdb, 0xc7),
    RGBColor(0xef, 0x8a, 0x62),
    RGBColor(0xb2, 0x18, 0x2b),
];

fn blend(colors: &[RGBColor], share: f64) -> RGBColor {
    let place = share.clamp(0.0, 1.0) * (colors.len() - 1) as f64;
    let below = (place.floor() as usize).min(colors.len() - 2);
    let rest = place - below as f64;
    let (a, b) = (colors[below], colors[below + 1]);
    let mix = |a: u8, b: u8| (f64::from(a) + rest * (f64::from(b) - f64::from(a))).round() as u8;
    RGBColor(mix(a.0, b.0), mix(a.1, b.1), mix(a.2, b.2))
}

/// Black or white, whichever reads better on the fill.
fn ink_on(fill: RGBColor) -> RGBColor {
    let light = 0.299 * f64::from(fill.0) + 0.587 * f64::from(fill.1) + 0.114 * f64::from(fill.2);
    if light > 140.0 { INK } else { WHITE }
}

impl HeatMap {
    pub(super) fn scene(&self) -> Result<Scene, String> {
        if self.rows.is_empty() || self.columns.is_empty() {
            return Err("no rows or no columns".to_string());
        }
        if self.values.len() != self.rows.len() {
            return Err(format!("{} rows of values for {} row labels", self.values.len(), self.rows.len()));
        }
        for (name, values) in self.rows.iter().zip(&self.values) {
            if values.len() != self.columns.len() {
                return Err(format!("row \"{name}\" has {} values for {} columns", values.len(), self.columns.len()));
            }
            finite(name, values.iter().copied())?;
        }
        let (low, high) = range(self.values.iter().flatten().copied());
        let both_signs = low < 0.0 && high > 0.0 && -low > 0.2 * high;
        let (colors, low, high) = if both_signs {
            let reach = high.max(-low);
            (&DIVERGING[..], -reach, reach)
        } else if high > low {
            (&SEQUENTIAL[..], low, high)
        } else {
            (&SEQUENTIAL[..], low - 0.5, high + 0.5)
        };
        let fill = |value: f64| blend(colors, (value - low) / (high - low));

        let labels: Vec<Vec<String>> = self
            .values
            .iter()
            .map(|row| row.iter().map(|value| format!("{value:.*}", self.decimals)).collect())
            .collect();
        let text_room = labels.iter().flatten().map(|label| text_width(label, TICK)).fold(0.0, f64::max) + 10.0;
        let row_room = self.rows.iter().map(|name| text_width(name, TICK)).fold(0.0, f64::max).min(260.0) + 8.0;
        let legend_room = 70.0;
        let (rows, columns) = (self.rows.len() as f64, self.columns.len() as f64);
        let free = WIDTH - 2.0 * MARGIN - row_room - legend_room;
        let cell_width = (free / columns).clamp(4.0, 90.0);
        let written = text_room <= cell_width;
        let cell_height = (if written { 30.0_f64 } else { 22.0 }).min(cell_width.max(TICK * 1.3)).max(if rows > 40.0 {
            6.0
        } else {
            14.0
        });
        let upright = self.columns.iter().any(|name| text_width(name, TICK) > cell_width - 6.0);
        let column_room = if upright {
            self.columns.iter().map(|name| text_width(name, TICK)).fold(0.0, f64::max).min(180.0) + 8.0
        } else {
            TICK + 10.0
        };
        let width = (2.0 * MARGIN + row_room + legend_room + cell_width * columns).max(420.0);
        let mut scene = Scene::new(width, 2000.0);
        let top = head(&mut scene, &self.title, &[], "") + column_room;
        scene.height = top + cell_height * rows + MARGIN;
        let left = MARGIN + row_room;
        // With more labels than fit, every second, third … is written.
        let every = |count: f64, size: f64| ((count * TICK * 1.25 / (count * size)).ceil() as usize).max(1);
        for (i, name) in self.columns.iter().enumerate().step_by(if upright { every(columns, cell_width) } else { 1 }) {
            let middle = left + (i as f64 + 0.5) * cell_width;
            if upright {
                scene.upright((middle + 0.36 * TICK, top - 6.0), fitted(name, TICK, 180.0), TICK, GREY);
            } else {
                scene.text((middle, top - 6.0), name, TICK, GREY, Align::Center);
            }
        }
        for (i, name) in self.rows.iter().enumerate() {
            let middle = top + (i as f64 + 0.5) * cell_height;
            if i % every(rows, cell_height) == 0 {
                let at = (left - 8.0, middle + 0.36 * TICK);
                scene.text(at, fitted(name, TICK, row_room - 8.0), TICK, GREY, Align::Right);
            }
            for (j, value) in self.values[i].iter().enumerate() {
                let (x, y) = (left + j as f64 * cell_width, top + i as f64 * cell_height);
                // Small cells overlap by a hair, lest rounding leave lines between them.
                let gap = if cell_width > 12.0 { 1.0 } else { -0.5 };
                scene.rect((x, y), (x + cell_width - gap, y + cell_height - gap), fill(*value));
                if written && cell_height >= TICK * 1.2 {
                    let at = (x + cell_width / 2.0, middle + 0.36 * TICK);
                    scene.text(at, &labels[i][j], TICK, ink_on(fill(*value)), Align::Center);
                }
            }
        }
        // The colour bar at the right.
        let bottom = top + cell_height * rows;
        let x = left + columns * cell_width + 14.0;
        let axis = Axis::exact(low, high);
        let steps = 64;
        for step in 0..steps {
            let (from, to) = (f64::from(step) / f64::from(steps), f64::from(step + 1) / f64::from(steps));
            let y = |share: f64| bottom - share * (bottom - top);
            scene.rect((x, y(from)), (x + 12.0, y(to)), blend(colors, f64::midpoint(from, to)));
        }
        let mut free = f64::INFINITY;
        for (value, label) in &axis.ticks {
            let y = bottom - axis.at(*value) * (bottom - top);
            if y <= free {
                scene.text((x + 17.0, y + 0.36 * TICK), label, TICK, GREY, Align::Left);
                free = y - 1.4 * TICK;
            }
        }
        Ok(scene)
    }
}

impl Tornado {
    pub(super) fn scene(&self) -> Result<Scene, String> {
        if self.bars.is_empty() {
            return Err("no bars".to_string());
        }
        finite("base", [self.base])?;
        for (name, low, high) in &self.bars {
            finite(name, [*low, *high])?;
        }
        let mut bars: Vec<&(String, f64, f64)> = self.bars.iter().collect();
        let reach = |bar: &(String, f64, f64)| {
            let (low, high) = range([bar.1, bar.2, self.base]);
            high - low
        };
        bars.sort_by(|a, b| reach(b).total_cmp(&reach(a)));
        let (low, high) = range(bars.iter().flat_map(|bar| [bar.1, bar.2]).chain([self.base]));
        // The ends are labelled, so leave room for their text.
        let room = 0.12 * (high - low);
        let x = Axis::exact(low - room, if high > low { high + room } else { high + 1.0 });
        let row = 34.0;
        let keys = [
            (Key::Box(PALETTE[4]), "assumption at its low value".to_string()),
            (Key::Box(PALETTE[0]), "at its high value".to_string()),
            (Key::Dash, format!("base ({})", short(self.base))),
        ];
        let mut scene = Scene::new(WIDTH, 2000.0);
        let top = head(&mut scene, &self.title, &keys, "");
        let names = bars.iter().map(|bar| text_width(&bar.0, TICK)).fold(0.0, f64::max).min(280.0) + 10.0;
        let bottom = top + row * bars.len() as f64 + 6.0;
        scene.height = bottom + 58.0;
        let plane = Plane { left: MARGIN + names, right: WIDTH - MARGIN - 8.0, top, bottom };
        vertical_grid(&mut scene, plane, &x, &self.x_label);
        let base = plane.x(&x, self.base);
        for (i, (name, at_low, at_high)) in bars.into_iter().enumerate() {
            let middle = top + (i as f64 + 0.5) * row + 3.0;
            let baseline = middle + 0.36 * TICK;
            scene.text((plane.left - 10.0, baseline), fitted(name, TICK, names - 10.0), TICK, INK, Align::Right);
            // The longer one first, so that two outcomes on one side are both seen.
            let mut ends = [(*at_low, PALETTE[4]), (*at_high, PALETTE[0])];
            ends.sort_by(|a, b| (b.0 - self.base).abs().total_cmp(&(a.0 - self.base).abs()));
            for (value, fill) in ends {
                scene.rect((base, middle - 10.0), (plane.x(&x, value), middle + 10.0), fill);
            }
            let (left, right) = range([*at_low, *at_high, self.base]);
            for (value, align, gap) in [(left, Align::Right, -5.0), (right, Align::Left, 5.0)] {
                if value != self.base {
                    scene.text((plane.x(&x, value) + gap, baseline), short(value), TICK, INK, align);
                }
            }
        }
        scene.dashes((base, plane.top), (base, plane.bottom), INK);
        Ok(scene)
    }
}

impl Waterfall {
    pub(super) fn scene(&self) -> Result<Scene, String> {
        if self.steps.is_empty() {
            return Err("no steps".to_string());
        }
        let mut running = 0.0;
        // Name, where the bar starts and ends, and its fill.
        let mut bars: Vec<(&str, f64, f64, RGBColor)> = Vec::new();
        for (name, change) in &self.steps {
            match change {
                Some(change) => {
                    finite(name, [*change])?;
                    let fill = if *change < 0.0 { PALETTE[1] } else { PALETTE[0] };
                    bars.push((name, running, running + change, fill));
                    running += change;
                }
                None => bars.push((name, 0.0, running, PALETTE[6])),
            }
        }
        let (low, high) = range(bars.iter().flat_map(|bar| [bar.1, bar.2]).chain([0.0]));
        let y = Axis::linear(low, high);
        let names: Vec<&str> = bars.iter().map(|bar| bar.0).collect();
        let keys: Vec<(Key, String)> = [(PALETTE[0], "increase"), (PALETTE[1], "decrease"), (PALETTE[6], "total")]
            .into_iter()
            .filter(|(fill, _)| bars.iter().any(|bar| bar.3 == *fill))
            .map(|(fill, name)| (Key::Box(fill), name.to_string()))
            .collect();
        let mut scene = Scene::new(category_width(&names, 40.0), HEIGHT);
        let top = head(&mut scene, &self.title, &keys, &self.y_label) + 6.0;
        let left = MARGIN + label_room(y.ticks.iter().map(|tick| tick.1.as_str()));
        let right = scene.width - MARGIN;
        let slot = (right - left) / bars.len() as f64;
        let plane = Plane { left, right, top, bottom: HEIGHT - category_room(&names, slot, "") };
        category_labels(&mut scene, plane, &names, "");
        let plane = Plane { bottom: plane.bottom - hanging_room(low), ..plane };
        horizontal_grid(&mut scene, plane, &y);
        let width = (0.7 * slot).min(90.0);
        for (i, (_, from, to, fill)) in bars.iter().enumerate() {
            let middle = plane.left + (i as f64 + 0.5) * slot;
            let (start, end) = (plane.y(&y, *from), plane.y(&y, *to));
            scene.rect((middle - width / 2.0, start), (middle + width / 2.0, end), *fill);
            if i + 1 < bars.len() {
                scene.line(vec![(middle + width / 2.0, end), (middle + slot - width / 2.0, end)], GREY, 1.0);
            }
            let at = if end <= start { end - 5.0 } else { end + 0.76 * TICK + 5.0 };
            let change = if *from == 0.0 { *to } else { to - from };
            scene.text((middle, at), short(change), TICK, INK, Align::Center);
        }
        let zero = plane.y(&y, 0.0);
        scene.line(vec![(plane.left, zero), (plane.right, zero)], GREY, 1.0);
        Ok(scene)
    }
}

impl ImageGrid {
    pub(super) fn scene(&self) -> Result<Scene, String> {
        if self.columns == 0 || self.tiles.is_empty() {
            return Err("no columns or no pictures".to_string());
        }
        for tile in &self.tiles {
            if tile.width == 0 || tile.height == 0 || tile.rgb.len() != 3 * tile.width * tile.height {
                let (width, height, bytes) = (tile.width, tile.height, tile.rgb.len());
                return Err(format!("picture \"{}\": {bytes} bytes for {width} x {height} RGB pixels", tile.caption));
            }
        }
        let columns = self.columns.min(self.tiles.len());
        let side = ((1.5 * WIDTH - 2.0 * MARGIN) / columns as f64 - 10.0).clamp(24.0, 128.0);
        let caption_rows =
            self.tiles.iter().map(|tile| wrapped(&tile.caption, TICK, side).len().min(2)).max().unwrap_or(0) as f64;
        let row = side + caption_rows * TICK * LINE + 14.0;
        let rows = self.tiles.len().div_ceil(columns) as f64;
        let width = (2.0 * MARGIN + columns as f64 * (side + 10.0) - 10.0).max(360.0);
        let mut scene = Scene::new(width, 20_000.0);
        let top = head(&mut scene, &self.title, &[], "");
        scene.height = top + rows * row + MARGIN - 10.0;
        for (i, tile) in self.tiles.iter().enumerate() {
            let (x, y) = (MARGIN + (i % columns) as f64 * (side + 10.0), top + (i / columns) as f64 * row);
            // The longer edge fills the square.
            let shrink = side / tile.width.max(tile.height) as f64;
            let (w, h) = ((tile.width as f64 * shrink).max(1.0), (tile.height as f64 * shrink).max(1.0));
            let from = (x + (side - w) / 2.0, y + (side - h) / 2.0);
            scene.picture(from, (from.0 + w, from.1 + h), (tile.width, tile.height), &tile.rgb);
            for (line, text) in wrapped(&tile.caption, TICK, side).iter().take(2).enumerate() {
                let at = (x + side / 2.0, y + side + TICK + 3.0 + line as f64 * TICK * LINE);
                scene.text(at, fitted(text, TICK, side + 8.0), TICK, INK, Align::Center);
            }
        }
        Ok(scene)
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Chart, Plot};
    use super::*;
    use crate::ReportError;

    fn boxes_are_apart_and_inside(scene: &Scene) {
        let boxes = scene.text_boxes();
        for (text, [x0, y0, x1, y1]) in &boxes {
            assert!(
                *x0 >= 0.0 && *y0 >= 0.0 && *x1 <= scene.width && *y1 <= scene.height,
                "\"{text}\" lies outside: {x0} {y0} {x1} {y1} of {} x {}",
                scene.width,
                scene.height
            );
        }
        for (i, (a, p)) in boxes.iter().enumerate() {
            for (b, q) in &boxes[i + 1..] {
                let apart = p[2] <= q[0] || q[2] <= p[0] || p[3] <= q[1] || q[3] <= p[1];
                assert!(apart, "\"{a}\" and \"{b}\" overlap");
            }
        }
    }

    fn lines() -> XyChart {
        Chart::lines("Recall by beam width on twenty thousand vectors", "ef_search", "recall@10")
            .series("HNSW, M = 16", [8, 16, 32, 64, 128, 256].map(|ef| (ef, 1.0 - 1.2 / f64::from(ef))))
            .series("HNSW, M = 48", [8, 16, 32, 64, 128, 256].map(|ef| (ef, 1.0 - 0.7 / f64::from(ef))))
            .series("IVF, nlist = 141", [8, 16, 32, 64, 128, 256].map(|ef| (ef, 1.0 - 1.9 / f64::from(ef))))
            .level("bar", 0.95)
            .log_x()
    }

    fn scatter() -> XyChart {
        let cloud = |cx: f64, cy: f64, seed: u32| {
            (0..200).map(move |i| {
                let t = f64::from(i + seed) * 2.399;
                (cx + (f64::from(i) / 200.0).sqrt() * t.cos(), cy + (f64::from(i) / 200.0).sqrt() * t.sin())
            })
        };
        Chart::scatter("Glosses by two principal components", "component 1", "component 2")
            .series("animal", cloud(0.0, 0.0, 0))
            .series("plant", cloud(1.5, 0.7, 3))
            .series("artifact", cloud(-0.5, 1.8, 5))
    }

    fn bars() -> BarChart {
        Chart::bars("Mean reciprocal rank", "query kind", "MRR", ["keyword", "natural language", "misspelt", "negated"])
            .series("BM25", [0.81, 0.42, 0.13, 0.5])
            .series("static encoder", [0.72, 0.66, 0.31, 0.48])
            .series("fused", [0.86, 0.7, 0.33, 0.52])
    }

    fn histogram() -> Histogram {
        let bell = |middle: f64, width: f64| {
            (0..2000).map(move |i| {
                let u = (f64::from(i) + 0.5) / 2000.0;
                middle + width * (u / (1.0 - u)).ln()
            })
        };
        Chart::histogram("Cosine of related and unrelated pairs", "cosine", 40)
            .series("related", bell(0.62, 0.05))
            .series("unrelated", bell(0.12, 0.06))
            .marker("threshold at 1 % false positives", 0.39)
    }

    fn heat_map(sentences: usize, scale: f64) -> HeatMap {
        let names: Vec<String> =
            (0..sentences).map(|i| format!("{} {i}", if i < sentences / 2 { "money" } else { "water" })).collect();
        let values = (0..sentences)
            .map(|i| {
                (0..sentences).map(|j| scale * (1.0 - 0.9 * (i as f64 - j as f64).abs() / sentences as f64)).collect()
            })
            .collect();
        Chart::heat_map("Cosine between uses of \"bank\"", names.clone(), names, values)
    }

    fn tornado() -> Tornado {
        Chart::tornado(
            "Annual storage cost, each assumption at half and one and a half times its value",
            "dollars a year",
            47_185_920,
        )
        .bar("price a gigabyte-month", 23_592_960, 70_778_880)
        .bar("compression", 94_371_840, 31_457_280)
        .bar("index factor", 39_321_600, 55_050_240)
        .bar("rows", 23_592_960, 70_778_880)
    }

    fn waterfall() -> Waterfall {
        Chart::waterfall("First-year value by benefit", "million dollars")
            .step("better search", 24.0)
            .step("efficiency", 13.5)
            .step("fraud avoided", 9.2)
            .total("benefits")
            .step("platform", -12.0)
            .step("people and running cost", -3.0)
            .total("net value")
    }

    fn images() -> ImageGrid {
        let tile = |hue: usize| {
            (0..24 * 16)
                .flat_map(|p| [(hue * 40 % 256) as u8, (p % 24 * 10) as u8, (p / 24 * 15) as u8])
                .collect::<Vec<u8>>()
        };
        (0..14).fold(Chart::images("Nearest by style to the first picture", 6), |grid, i| {
            grid.tile(format!("stripes {i}, 0.9{i}"), 24, 16, tile(i))
        })
    }

    #[test]
    fn text_is_inside_and_never_overlaps() {
        let many =
            ["a category with several long words", "incomprehensibilities", "x"].iter().cycle().take(11).copied();
        let scenes = [
            lines().scene(),
            scatter().scene(),
            bars().scene(),
            Chart::bars("t", "x", "y", many)
                .series("s", [-3.0, 2.0, 1e6, 0.0, 5.0, 6.0, 7.0, 8.0, 9.0, -1e6, 4.0])
                .scene(),
            histogram().scene(),
            heat_map(8, 1.0).scene(),
            heat_map(60, -1.0).scene(),
            heat_map(1, 0.0).scene(),
            tornado().scene(),
            waterfall().scene(),
            images().scene(),
            Chart::lines("one point", "x", "y").series("s", [(3, 4)]).scene(),
            Chart::lines("wide", "x", "y").series("s", [(1e-9, 1e-9), (1e9, 1e12)]).log_x().log_y().scene(),
            Chart::histogram("one value", "x", 3).series("s", [5, 5, 5]).scene(),
        ];
        for scene in scenes {
            boxes_are_apart_and_inside(&scene.expect("drawn"));
        }
    }

    #[test]
    fn every_kind_is_written_as_svg_and_png() {
        let home = tempfile::tempdir().expect("temporary folder");
        // Set EAS_FIGURES to a folder to look at what is drawn.
        let folder = std::env::var_os("EAS_FIGURES").map_or(home.path().to_path_buf(), Into::into);
        let svg_too: [(&str, &dyn Plot); 7] = [
            ("lines", &lines()),
            ("scatter", &scatter()),
            ("bars", &bars()),
            ("histogram", &histogram()),
            ("heat_map", &heat_map(8, 1.0)),
            ("tornado", &tornado()),
            ("waterfall", &waterfall()),
        ];
        for (name, chart) in svg_too {
            for ending in ["svg", "png"] {
                let path = folder.join(format!("{name}.{ending}"));
                chart.save(&path).expect("drawn");
                let bytes = std::fs::read(&path).expect("written");
                let start: &[u8] = if ending == "svg" { b"<svg" } else { b"\x89PNG" };
                assert!(bytes.starts_with(start), "{name}.{ending}");
            }
        }
        images().save(&folder.join("images.png")).expect("drawn");
        heat_map(60, -1.0).save(&folder.join("heat_map_large.png")).expect("drawn");
        assert!(matches!(images().save(&folder.join("images.svg")), Err(ReportError::Chart { .. })));
        assert!(matches!(lines().save(&folder.join("lines.gif")), Err(ReportError::ChartFile { .. })));
        assert!(lines().save(&folder.join("no/such/folder/lines.svg")).is_err());
        assert!(lines().save(&folder.join("no/such/folder/lines.png")).is_err());
    }

    #[test]
    fn the_same_chart_is_the_same_file() {
        let home = tempfile::tempdir().expect("temporary folder");
        let bytes = |name: &str| {
            let path = home.path().join(name);
            histogram().save(&path).expect("drawn");
            std::fs::read(path).expect("written")
        };
        assert_eq!(bytes("a.svg"), bytes("b.svg"));
        assert_eq!(bytes("a.png"), bytes("b.png"));
    }

    #[test]
    fn what_cannot_be_drawn_is_said() {
        let nan = f64::NAN;
        let none: [(f64, f64); 0] = [];
        let cases: Vec<(Result<Scene, String>, &str)> = vec![
            (Chart::lines("t", "x", "y").scene(), "no series"),
            (Chart::lines("t", "x", "y").series("empty", none).scene(), "\"empty\" has no points"),
            (Chart::lines("t", "x", "y").series("loss", [(0.0, 1.0), (1.0, nan)]).scene(), "\"loss\": value 1 is NaN"),
            (Chart::scatter("t", "x", "y").series("s", [(f64::INFINITY, 1.0)]).scene(), "value 0 is inf"),
            (Chart::lines("t", "x", "y").series("s", [(0.0, 1.0)]).log_x().scene(), "logarithmic"),
            (Chart::lines("t", "x", "y").series("s", [(1.0, 1.0)]).level("bar", nan).scene(), "\"bar\""),
            (Chart::bars("t", "x", "y", ["a", "b"]).series("s", [1.0]).scene(), "1 values for 2 categories"),
            (Chart::bars("t", "x", "y", ["a"]).series("s", [nan]).scene(), "NaN"),
            (Chart::bars("t", "x", "y", ["a"]).series("s", [-1.0]).log_y().scene(), "logarithmic"),
            (Chart::bars::<&str>("t", "x", "y", []).scene(), "no series"),
            (Chart::histogram("t", "x", 0).series("s", [1.0]).scene(), "0 bins"),
            (Chart::histogram("t", "x", 3).series("s", [nan]).scene(), "NaN"),
            (Chart::histogram("t", "x", 3).series("s", [0.0; 0]).scene(), "no values"),
            (Chart::heat_map("t", ["a"], ["b"], vec![]).scene(), "0 rows of values"),
            (Chart::heat_map("t", ["a"], ["b"], vec![vec![1.0, 2.0]]).scene(), "2 values for 1 columns"),
            (Chart::heat_map("t", ["a"], ["b"], vec![vec![nan]]).scene(), "NaN"),
            (Chart::tornado("t", "x", 1).scene(), "no bars"),
            (Chart::tornado("t", "x", nan).bar("a", 1, 2).scene(), "base"),
            (Chart::waterfall("t", "y").scene(), "no steps"),
            (Chart::waterfall("t", "y").step("a", nan).scene(), "NaN"),
            (Chart::images("t", 2).scene(), "no pictures"),
            (Chart::images("t", 2).tile("a", 2, 2, vec![0; 11]).scene(), "11 bytes for 2 x 2"),
        ];
        for (scene, part) in cases {
            let error = scene.expect_err(part);
            assert!(error.contains(part), "{part}: {error}");
        }
    }
}
