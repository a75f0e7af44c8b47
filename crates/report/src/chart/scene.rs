//! What a chart is made of (lines, areas, text, pictures) in one coordinate system, and its drawing as SVG or PNG.

use std::path::Path;
use std::sync::LazyLock;

use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use plotters::style::{RGBAColor, register_font};

use crate::ReportError;

/// Registered under this name so that an SVG viewer without DejaVu Sans takes one of like widths.
const FAMILY: &str = "DejaVu Sans, Verdana, sans-serif";
/// Plotters divides a font size by this to get the em.
const PLOTTERS_EM: f64 = 1.24;
/// Pixels of a PNG, and subdivisions of an SVG, for one unit of the scene.
const SCALE: f64 = 2.0;

static FONT: LazyLock<bool> =
    LazyLock::new(|| register_font(FAMILY, FontStyle::Normal, include_bytes!("../../assets/DejaVuSans.ttf")).is_ok());

/// Ink of text.
pub(super) const INK: RGBColor = RGBColor(34, 34, 34);
/// Ink of axis labels.
pub(super) const GREY: RGBColor = RGBColor(90, 90, 90);
/// Grid lines.
pub(super) const PALE: RGBColor = RGBColor(225, 225, 225);
/// The palette of Okabe and Ito without its yellow (too faint on white), told apart by colour-blind eyes as well.
pub(super) const PALETTE: [RGBColor; 7] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(230, 159, 0),
    RGBColor(86, 180, 233),
    RGBColor(60, 60, 60),
];

/// Where a text's anchor lies along its line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Align {
    Left,
    Center,
    Right,
}

#[derive(Clone, Debug)]
enum Item {
    Line { points: Vec<(f64, f64)>, color: RGBAColor, width: f64 },
    Area { points: Vec<(f64, f64)>, color: RGBAColor },
    Rect { from: (f64, f64), to: (f64, f64), color: RGBAColor },
    Circle { center: (f64, f64), radius: f64, color: RGBAColor },
    Text { at: (f64, f64), text: String, size: f64, color: RGBColor, align: Align, upright: bool },
    Picture { from: (f64, f64), to: (f64, f64), width: usize, height: usize, rgb: Vec<u8> },
}

/// A picture to be drawn: items in drawing order, in units of about one pixel of a screen.
#[derive(Clone, Debug)]
pub(super) struct Scene {
    pub(super) width: f64,
    pub(super) height: f64,
    items: Vec<Item>,
}

impl Scene {
    pub(super) fn new(width: f64, height: f64) -> Self {
        Self { width, height, items: Vec::new() }
    }

    pub(super) fn line(&mut self, points: Vec<(f64, f64)>, color: impl Into<RGBAColor>, width: f64) {
        self.items.push(Item::Line { points, color: color.into(), width });
    }

    pub(super) fn dashes(&mut self, from: (f64, f64), to: (f64, f64), color: RGBColor) {
        let length = (to.0 - from.0).hypot(to.1 - from.1);
        let at = |along: f64| {
            let share = (along / length).min(1.0);
            (from.0 + share * (to.0 - from.0), from.1 + share * (to.1 - from.1))
        };
        for i in 0..(length / 9.0).ceil() as usize {
            let start = i as f64 * 9.0;
            self.line(vec![at(start), at(start + 5.0)], color, 1.5);
        }
    }

    pub(super) fn area(&mut self, points: Vec<(f64, f64)>, color: impl Into<RGBAColor>) {
        self.items.push(Item::Area { points, color: color.into() });
    }

    pub(super) fn rect(&mut self, from: (f64, f64), to: (f64, f64), color: impl Into<RGBAColor>) {
        let (left, right) = (from.0.min(to.0), from.0.max(to.0));
        let (top, bottom) = (from.1.min(to.1), from.1.max(to.1));
        self.items.push(Item::Rect { from: (left, top), to: (right, bottom), color: color.into() });
    }

    /// A point's mark: the series decides its shape, so that colour is not the only difference.
    pub(super) fn mark(&mut self, (x, y): (f64, f64), series: usize, radius: f64, color: impl Into<RGBAColor>) {
        let color = color.into();
        let r = radius;
        match series % 4 {
            0 => self.items.push(Item::Circle { center: (x, y), radius, color }),
            1 => self.rect((x - 0.9 * r, y - 0.9 * r), (x + 0.9 * r, y + 0.9 * r), color),
            2 => self.area(vec![(x, y - 1.2 * r), (x + 1.1 * r, y + 0.8 * r), (x - 1.1 * r, y + 0.8 * r)], color),
            _ => self.area(vec![(x, y - 1.3 * r), (x + 1.3 * r, y), (x, y + 1.3 * r), (x - 1.3 * r, y)], color),
        }
    }

    /// Text whose baseline passes through `at`.
    pub(super) fn text(&mut self, at: (f64, f64), text: impl Into<String>, size: f64, color: RGBColor, align: Align) {
        self.items.push(Item::Text { at, text: text.into(), size, color, align, upright: false });
    }

    /// Text read from bottom to top; it starts at `at`, which lies on its baseline.
    pub(super) fn upright(&mut self, at: (f64, f64), text: impl Into<String>, size: f64, color: RGBColor) {
        self.items.push(Item::Text { at, text: text.into(), size, color, align: Align::Left, upright: true });
    }

    pub(super) fn picture(&mut self, from: (f64, f64), to: (f64, f64), size: (usize, usize), rgb: &[u8]) {
        self.items.push(Item::Picture { from, to, width: size.0, height: size.1, rgb: rgb.to_vec() });
    }

    /// The texts and the boxes they fill, for tests of what is legible.
    #[cfg(test)]
    pub(super) fn text_boxes(&self) -> Vec<(String, [f64; 4])> {
        self.items
            .iter()
            .filter_map(|item| match item {
                Item::Text { at, text, size, align, upright, .. } => {
                    let width = text_width(text, *size);
                    let start = match align {
                        Align::Left => 0.0,
                        Align::Center => -width / 2.0,
                        Align::Right => -width,
                    };
                    let (x, y) = *at;
                    Some((
                        text.clone(),
                        if *upright {
                            [x - 0.75 * size, y - width, x + 0.2 * size, y]
                        } else {
                            [x + start, y - 0.75 * size, x + start + width, y + 0.2 * size]
                        },
                    ))
                }
                _ => None,
            })
            .collect()
    }

    /// Draws into the file; `title` names the chart in errors.
    pub(super) fn save(&self, path: &Path, title: &str) -> Result<(), ReportError> {
        let failed = |reason: String| ReportError::Chart { title: title.to_string(), reason };
        let file = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let size = ((self.width * SCALE).round() as u32, (self.height * SCALE).round() as u32);
        match path.extension().and_then(|ending| ending.to_str()) {
            Some("svg") => {
                if self.items.iter().any(|item| matches!(item, Item::Picture { .. })) {
                    return Err(failed("pictures are drawn as .png".to_string()));
                }
                let mut text = String::new();
                {
                    let area = SVGBackend::with_string(&mut text, size).into_drawing_area();
                    // SVG text at the top of its box has its baseline 0.76 em lower.
                    self.draw(&area, 0.76).map_err(failed)?;
                }
                // Subdivided coordinates, shown at the scene's own size.
                let shown = |pixels: u32| format!("{}", f64::from(pixels) / SCALE);
                let head = format!("width=\"{}\" height=\"{}\"", size.0, size.1);
                let text =
                    text.replacen(&head, &format!("width=\"{}\" height=\"{}\"", shown(size.0), shown(size.1)), 1);
                std::fs::write(path, text).map_err(ReportError::file(path))
            }
            Some("png") => {
                let area = BitMapBackend::new(path, size).into_drawing_area();
                // The bitmap's own text has it half a font size lower.
                self.draw(&area, 0.5 * PLOTTERS_EM).map_err(|reason| failed(format!("{}: {reason}", path.display())))
            }
            _ => Err(ReportError::ChartFile { file }),
        }
    }

    fn draw<B: DrawingBackend>(&self, area: &DrawingArea<B, Shift>, baseline: f64) -> Result<(), String> {
        if !*FONT {
            return Err("the bundled font cannot be read".to_string());
        }
        area.fill(&WHITE).map_err(|error| error.to_string())?;
        for item in &self.items {
            draw_item(area, item, baseline).map_err(|error| error.to_string())?;
        }
        area.present().map_err(|error| error.to_string())
    }
}

fn scaled((x, y): (f64, f64)) -> (i32, i32) {
    ((x * SCALE).round() as i32, (y * SCALE).round() as i32)
}

fn draw_item<B: DrawingBackend>(
    area: &DrawingArea<B, Shift>,
    item: &Item,
    baseline: f64,
) -> Result<(), DrawingAreaErrorKind<B::ErrorType>> {
    match item {
        Item::Line { points, color, width } => {
            let stroke = color.stroke_width((width * SCALE).round().max(1.0) as u32);
            area.draw(&PathElement::new(points.iter().copied().map(scaled).collect::<Vec<_>>(), stroke))
        }
        Item::Area { points, color } => {
            area.draw(&Polygon::new(points.iter().copied().map(scaled).collect::<Vec<_>>(), color.filled()))
        }
        Item::Rect { from, to, color } => area.draw(&Rectangle::new([scaled(*from), scaled(*to)], color.filled())),
        Item::Circle { center, radius, color } => {
            area.draw(&Circle::new(scaled(*center), (radius * SCALE).round() as i32, color.filled()))
        }
        Item::Text { at, text, size, color, align, upright } => {
            let along = match align {
                Align::Left => HPos::Left,
                Align::Center => HPos::Center,
                Align::Right => HPos::Right,
            };
            let mut font = FontDesc::new(FontFamily::Name(FAMILY), size * PLOTTERS_EM * SCALE, FontStyle::Normal);
            let down = size * baseline;
            let at = if *upright { (at.0 - down, at.1) } else { (at.0, at.1 - down) };
            if *upright {
                font = font.transform(FontTransform::Rotate270);
            }
            let style = TextStyle::from(font).color(color).pos(Pos::new(along, VPos::Top));
            area.draw(&Text::new(text.as_str(), scaled(at), style))
        }
        Item::Picture { from, to, width, height, rgb } => {
            let ((left, top), (right, bottom)) = (scaled(*from), scaled(*to));
            for y in top..bottom {
                for x in left..right {
                    let column = (x - left) as usize * width / (right - left) as usize;
                    let row = (y - top) as usize * height / (bottom - top) as usize;
                    let at = 3 * (row * width + column);
                    area.draw_pixel((x, y), &RGBColor(rgb[at], rgb[at + 1], rgb[at + 2]))?;
                }
            }
            Ok(())
        }
    }
}

/// Width of a text in the scene's units.
pub(super) fn text_width(text: &str, size: f64) -> f64 {
    // Measured large, since plotters measures in whole pixels.
    const FINE: f64 = 16.0;
    let font = FontDesc::new(FontFamily::Name(FAMILY), size * PLOTTERS_EM * FINE, FontStyle::Normal);
    let measured = FONT.then(|| font.box_size(text).ok()).flatten();
    measured.map_or(0.65 * size * text.chars().count() as f64, |(width, _)| f64::from(width) / FINE)
}

/// Breaks a text at spaces into lines no wider than `width` where its words allow it.
pub(super) fn wrapped(text: &str, size: f64, width: f64) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if text_width(&format!("{line} {word}"), size) <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_string()),
        }
    }
    lines
}

/// The text, cut with an ellipsis where it is wider than `width`.
pub(super) fn fitted(text: &str, size: f64, width: f64) -> String {
    if text_width(text, size) <= width {
        return text.to_string();
    }
    let mut kept: Vec<char> = text.chars().collect();
    while !kept.is_empty() {
        kept.pop();
        let shorter: String = kept.iter().copied().chain("…".chars()).collect();
        if text_width(&shorter, size) <= width {
            return shorter;
        }
    }
    String::new()
}

/// Width of the longest word of a text.
pub(super) fn widest_word(text: &str, size: f64) -> f64 {
    text.split_whitespace().map(|word| text_width(word, size)).fold(0.0, f64::max)
}
