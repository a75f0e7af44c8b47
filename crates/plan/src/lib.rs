//! Money and planning models: return on investment, present value, storage and latency budgets.

#![forbid(unsafe_code)]
