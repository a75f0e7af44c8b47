//! The chapter's four worked benefits: each has its own listing (1.11 to 1.14), and listing 1.16 adds them up.

use eas_plan::roi::efficiency::EfficiencyInput;
use eas_plan::roi::fraud::FraudInput;
use eas_plan::roi::ltv::LtvInput;
use eas_plan::roi::search::{SearchMetrics, SearchRoiInput};

/// A shop's search: one million users, $50 a sale, conversion from 8% to 12%, a find in 1.5 rather than 3.5 minutes,
/// 3% rather than 15% of searches without a result.
pub fn shop_search() -> SearchRoiInput {
    let today = SearchMetrics { conversion_rate: 0.08, minutes_to_find: 3.5, zero_result_rate: 0.15 };
    let planned = SearchMetrics { conversion_rate: 0.12, minutes_to_find: 1.5, zero_result_rate: 0.03 };
    SearchRoiInput::new(today, planned, 1e6, 50.0)
}

/// A law firm's document review: 10,000 documents a year at $500 an hour, one hour each rather than four.
pub fn document_review() -> EfficiencyInput {
    EfficiencyInput::new("document review", 4.0, 1.0, 10_000.0, 500.0)
}

/// A payment processor's fraud detection: $50 billion a year, losses from 0.06% to 0.025% of the value, wrongly blocked
/// payments from 2.3% to 0.4% of the count at $5 each.
pub fn payment_fraud() -> FraudInput {
    FraudInput::new(50e9, (0.0006, 0.00025), (0.023, 0.004), 5.0)
}

/// A subscription's retention: two million customers worth $850 each, 5% less churn.
pub fn subscriber_retention() -> LtvInput {
    LtvInput::new(850.0, 0.05, 2e6)
}
