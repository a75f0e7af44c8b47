//! Public time series. Days are counted from 1970-01-01, negative before it.

use crate::DataError;
use crate::table::Table;

/// Sunspots of one year.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Yearly {
    /// Calendar year.
    pub year: i32,
    /// Yearly mean sunspot number.
    pub sunspots: f64,
}

/// Carbon dioxide of one week.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Weekly {
    /// The Saturday that the week ends on, in days from 1970-01-01.
    pub day: i64,
    /// Parts per million by volume; `None` when nothing was measured.
    pub ppm: Option<f64>,
}

/// Prices of one trading day, in US dollars and adjusted for splits and dividends.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Daily {
    /// Days from 1970-01-01.
    pub day: i64,
    /// First price.
    pub open: f64,
    /// Highest price.
    pub high: f64,
    /// Lowest price.
    pub low: f64,
    /// Last price.
    pub close: f64,
    /// Shares traded.
    pub volume: f64,
}

/// Yearly mean sunspot numbers, 1700 to 2008.
pub fn sunspots() -> Result<Vec<Yearly>, DataError> {
    let table = Table::open("series/sunspots.csv.gz")?;
    let read = |row: &Vec<String>| Ok(Yearly { year: table.number(&row[0])?, sunspots: table.number(&row[1])? });
    table.rows.iter().map(read).collect()
}

/// Weekly CO2 at Mauna Loa, 1958 to 2001, with gaps. Keeling and Whorf (2004).
pub fn co2() -> Result<Vec<Weekly>, DataError> {
    let table = Table::open("series/co2.csv.gz")?;
    let read = |row: &Vec<String>| {
        Ok(Weekly {
            day: table.number(&row[0])?,
            ppm: match row[1].as_str() {
                "" => None,
                cell => Some(table.number(cell)?),
            },
        })
    };
    table.rows.iter().map(read).collect()
}

/// Daily prices of the share MSFT, 1986-03-13 to 2017-11-10.
pub fn stock() -> Result<Vec<Daily>, DataError> {
    let table = Table::open("series/stock.csv.gz")?;
    let read = |row: &Vec<String>| {
        Ok(Daily {
            day: table.number(&row[0])?,
            open: table.number(&row[1])?,
            high: table.number(&row[2])?,
            low: table.number(&row[3])?,
            close: table.number(&row[4])?,
            volume: table.number(&row[5])?,
        })
    };
    table.rows.iter().map(read).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sunspots_are_complete() {
        let series = sunspots().unwrap();
        assert_eq!(series.len(), 309);
        assert_eq!((series[0].year, series[0].sunspots), (1700, 5.0));
        assert_eq!((series[308].year, series[308].sunspots), (2008, 2.9));
        assert!(series.windows(2).all(|pair| pair[1].year == pair[0].year + 1));
    }

    #[test]
    fn co2_is_weekly_with_59_gaps() {
        let series = co2().unwrap();
        assert_eq!(series.len(), 2284);
        assert_eq!(series[0], Weekly { day: -4296, ppm: Some(316.1) }); // 1958-03-29
        assert!(series.windows(2).all(|pair| pair[1].day == pair[0].day + 7));
        assert_eq!(series.iter().filter(|week| week.ppm.is_none()).count(), 59);
    }

    #[test]
    fn stock_prices_are_ordered_and_low_to_high() {
        let series = stock().unwrap();
        assert_eq!(series.len(), 7983);
        assert_eq!((series[0].day, series[7982].day), (5915, 17_480)); // 1986-03-13, 2017-11-10
        assert_eq!(series[7982].close, 83.87);
        assert!(series.windows(2).all(|pair| pair[0].day < pair[1].day));
        assert!(series.iter().all(|day| day.low <= day.high && day.low > 0.0));
    }
}
