//! The run of one listing: flags, tables, charts, progress, claims and JSON.
//!
//! A listing opens a [`Listing`] with the [`listing!`] macro, prints prose, tables and charts through it, states what it
//! proves with [`Listing::claim`], and ends with [`Listing::finish`], which fails when a claim does not hold.
//!
//! ```no_run
//! use eas_report::{Table, num};
//!
//! # fn demo(mut page: eas_report::Listing) -> anyhow::Result<()> {
//! let recall = 0.5;
//! let mut table = Table::new(["query", "hits", "recall@2"]);
//! table.row(["laptop".into(), 1.into(), num(recall, 3)]);
//! page.table("Hits by query", &table);
//! page.claim("mean recall@2 is exactly one half").equals(recall, 0.5);
//! page.finish()
//! # }
//! ```
//!
//! The committed output of each listing (`expected/<name>.json`) is written by `--bless` and compared by
//! [`testing::check_chapter`].

#![forbid(unsafe_code)]

pub mod catalogue;
mod cell;
pub mod chart;
mod claim;
mod error;
mod listing;
mod progress;
mod record;
mod table;
pub mod testing;

pub use cell::{Cell, Number, duration, money, num, pct, sci};
pub use chart::Chart;
pub use claim::Claim;
pub use error::ReportError;
pub use listing::{BackendChoice, DeviceChoice, EncoderChoice, Listing};
pub use progress::Progress;
pub use record::{ClaimRecord, ClaimValue, Difference, Machine, Record, TableRecord};
pub use table::Table;

/// Opens the [`Listing`] of the example it is written in: the name is the example's, the number and title come from the
/// chapter's `listings.toml`. Prints what is wrong and exits with code 2 when the command line or the entry is at fault.
#[macro_export]
macro_rules! listing {
    () => {
        $crate::Listing::start(
            env!("CARGO_CRATE_NAME"),
            env!("CARGO_MANIFEST_DIR"),
            include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/listings.toml")),
        )
    };
}
