//! Charts, drawn as SVG or PNG by the ending of the file's name.
//!
//! Each constructor of [`Chart`] gives a builder; [`crate::Listing::chart`] draws it. Values that are not finite, and a
//! chart without values, are errors that name the series.

mod axis;
mod draw;
mod scene;

use std::path::Path;

use crate::{Number, ReportError};

/// The kinds of chart.
#[derive(Debug)]
pub enum Chart {}

impl Chart {
    /// Lines through points, one a series.
    pub fn lines(title: impl Into<String>, x_label: impl Into<String>, y_label: impl Into<String>) -> XyChart {
        XyChart::new(title.into(), x_label.into(), y_label.into(), Mark::Line)
    }

    /// Points without lines, one colour a series.
    pub fn scatter(title: impl Into<String>, x_label: impl Into<String>, y_label: impl Into<String>) -> XyChart {
        XyChart::new(title.into(), x_label.into(), y_label.into(), Mark::Point)
    }

    /// Bars over categories; several series stand side by side.
    pub fn bars<S: Into<String>>(
        title: impl Into<String>,
        x_label: impl Into<String>,
        y_label: impl Into<String>,
        categories: impl IntoIterator<Item = S>,
    ) -> BarChart {
        BarChart {
            title: title.into(),
            x_label: x_label.into(),
            y_label: y_label.into(),
            categories: categories.into_iter().map(Into::into).collect(),
            series: Vec::new(),
            log_y: false,
        }
    }

    /// Counts of values in `bins` equal intervals; several series share the intervals.
    pub fn histogram(title: impl Into<String>, x_label: impl Into<String>, bins: usize) -> Histogram {
        Histogram { title: title.into(), x_label: x_label.into(), bins, series: Vec::new(), markers: Vec::new() }
    }

    /// A matrix of colours with row and column labels; `values[row][column]`.
    pub fn heat_map<R: Into<String>, C: Into<String>>(
        title: impl Into<String>,
        rows: impl IntoIterator<Item = R>,
        columns: impl IntoIterator<Item = C>,
        values: Vec<Vec<f64>>,
    ) -> HeatMap {
        HeatMap {
            title: title.into(),
            rows: rows.into_iter().map(Into::into).collect(),
            columns: columns.into_iter().map(Into::into).collect(),
            values,
            decimals: 2,
        }
    }

    /// Low and high outcome of one assumption at a time around the `base` outcome, the widest on top.
    pub fn tornado(title: impl Into<String>, x_label: impl Into<String>, base: impl Number) -> Tornado {
        Tornado { title: title.into(), x_label: x_label.into(), base: base.to_f64(), bars: Vec::new() }
    }

    /// A running total: each step floats on the one before, totals stand on zero.
    pub fn waterfall(title: impl Into<String>, y_label: impl Into<String>) -> Waterfall {
        Waterfall { title: title.into(), y_label: y_label.into(), steps: Vec::new() }
    }

    /// A contact sheet of captioned pictures, `columns` a row.
    pub fn images(title: impl Into<String>, columns: usize) -> ImageGrid {
        ImageGrid { title: title.into(), columns, tiles: Vec::new() }
    }
}

/// A chart that can be drawn.
pub trait Plot {
    /// The chart's title.
    fn title(&self) -> &str;

    /// Draws into the file; its name ends in `.svg` or `.png`.
    fn save(&self, path: &Path) -> Result<(), ReportError>;
}

macro_rules! plots {
    ($($kind:ty),*) => {
        $(impl Plot for $kind {
            fn title(&self) -> &str {
                &self.title
            }

            fn save(&self, path: &Path) -> Result<(), ReportError> {
                let scene = self.scene().map_err(|reason| ReportError::Chart { title: self.title.clone(), reason })?;
                scene.save(path, &self.title)
            }
        })*
    };
}
plots!(XyChart, BarChart, Histogram, HeatMap, Tornado, Waterfall, ImageGrid);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mark {
    Line,
    Point,
}

/// Lines or points over two number axes; made by [`Chart::lines`] and [`Chart::scatter`].
#[derive(Clone, Debug)]
#[must_use]
pub struct XyChart {
    title: String,
    x_label: String,
    y_label: String,
    mark: Mark,
    series: Vec<(String, Vec<(f64, f64)>)>,
    levels: Vec<(String, f64)>,
    log_x: bool,
    log_y: bool,
}

impl XyChart {
    fn new(title: String, x_label: String, y_label: String, mark: Mark) -> Self {
        Self { title, x_label, y_label, mark, series: Vec::new(), levels: Vec::new(), log_x: false, log_y: false }
    }

    /// Adds a series of `(x, y)` points.
    pub fn series<X: Number, Y: Number>(
        mut self,
        name: impl Into<String>,
        points: impl IntoIterator<Item = (X, Y)>,
    ) -> Self {
        self.series.push((name.into(), points.into_iter().map(|(x, y)| (x.to_f64(), y.to_f64())).collect()));
        self
    }

    /// Adds a labelled horizontal line, such as a bound or a baseline.
    pub fn level(mut self, name: impl Into<String>, y: impl Number) -> Self {
        self.levels.push((name.into(), y.to_f64()));
        self
    }

    /// Makes the x axis logarithmic; its values must be positive.
    pub fn log_x(mut self) -> Self {
        self.log_x = true;
        self
    }

    /// Makes the y axis logarithmic; its values must be positive.
    pub fn log_y(mut self) -> Self {
        self.log_y = true;
        self
    }
}

/// Grouped bars; made by [`Chart::bars`].
#[derive(Clone, Debug)]
#[must_use]
pub struct BarChart {
    title: String,
    x_label: String,
    y_label: String,
    categories: Vec<String>,
    series: Vec<(String, Vec<f64>)>,
    log_y: bool,
}

impl BarChart {
    /// Adds a series with one value a category.
    pub fn series<V: Number>(mut self, name: impl Into<String>, values: impl IntoIterator<Item = V>) -> Self {
        self.series.push((name.into(), values.into_iter().map(Number::to_f64).collect()));
        self
    }

    /// Makes the value axis logarithmic; its values must be positive.
    pub fn log_y(mut self) -> Self {
        self.log_y = true;
        self
    }
}

/// Counts by interval; made by [`Chart::histogram`].
#[derive(Clone, Debug)]
#[must_use]
pub struct Histogram {
    title: String,
    x_label: String,
    bins: usize,
    series: Vec<(String, Vec<f64>)>,
    markers: Vec<(String, f64)>,
}

impl Histogram {
    /// Adds a series of values to count.
    pub fn series<V: Number>(mut self, name: impl Into<String>, values: impl IntoIterator<Item = V>) -> Self {
        self.series.push((name.into(), values.into_iter().map(Number::to_f64).collect()));
        self
    }

    /// Adds a labelled vertical line, such as a mean or a threshold.
    pub fn marker(mut self, name: impl Into<String>, x: impl Number) -> Self {
        self.markers.push((name.into(), x.to_f64()));
        self
    }
}

/// A matrix of colours; made by [`Chart::heat_map`].
#[derive(Clone, Debug)]
#[must_use]
pub struct HeatMap {
    title: String,
    rows: Vec<String>,
    columns: Vec<String>,
    values: Vec<Vec<f64>>,
    decimals: usize,
}

impl HeatMap {
    /// Digits after the point of the values written into the cells (default 2).
    pub fn decimals(mut self, decimals: usize) -> Self {
        self.decimals = decimals;
        self
    }
}

/// One-at-a-time sensitivities; made by [`Chart::tornado`].
#[derive(Clone, Debug)]
#[must_use]
pub struct Tornado {
    title: String,
    x_label: String,
    base: f64,
    bars: Vec<(String, f64, f64)>,
}

impl Tornado {
    /// Adds an assumption with the outcome at its low and at its high value.
    pub fn bar(mut self, name: impl Into<String>, at_low: impl Number, at_high: impl Number) -> Self {
        self.bars.push((name.into(), at_low.to_f64(), at_high.to_f64()));
        self
    }
}

/// A running total; made by [`Chart::waterfall`].
#[derive(Clone, Debug)]
#[must_use]
pub struct Waterfall {
    title: String,
    y_label: String,
    /// Name, and the change or `None` for a total.
    steps: Vec<(String, Option<f64>)>,
}

impl Waterfall {
    /// Adds a change to the running total.
    pub fn step(mut self, name: impl Into<String>, change: impl Number) -> Self {
        self.steps.push((name.into(), Some(change.to_f64())));
        self
    }

    /// Shows the running total.
    pub fn total(mut self, name: impl Into<String>) -> Self {
        self.steps.push((name.into(), None));
        self
    }
}

/// A contact sheet; made by [`Chart::images`].
#[derive(Clone, Debug)]
#[must_use]
pub struct ImageGrid {
    title: String,
    columns: usize,
    tiles: Vec<Tile>,
}

#[derive(Clone, Debug)]
struct Tile {
    caption: String,
    width: usize,
    height: usize,
    rgb: Vec<u8>,
}

impl ImageGrid {
    /// Adds a picture: `rgb` holds `3 * width * height` bytes, row by row from the top.
    pub fn tile(mut self, caption: impl Into<String>, width: usize, height: usize, rgb: impl Into<Vec<u8>>) -> Self {
        self.tiles.push(Tile { caption: caption.into(), width, height, rgb: rgb.into() });
        self
    }
}
