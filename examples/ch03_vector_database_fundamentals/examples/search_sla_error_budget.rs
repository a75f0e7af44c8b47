//! Listing 3.18: from a month of requests to error budgets, alerts, breaches and credits.
//!
//! cargo run --release --example search_sla_error_budget

use ch03_vector_database_fundamentals::incidents::{self, INCIDENTS, MAINTENANCE, MONTH, OUTAGE, SAMPLE, SLOWNESS};
use eas_eval::latency::nearest_rank;
use eas_ops::clock::{HOUR, MINUTE, Micros};
use eas_ops::digest::Digest;
use eas_ops::slo::{self, BurnAlert, DAY, MaintenancePolicy, QUARTER, Recorder, Remedy, Sla, Sli, Window};
use eas_ops::slo::{error_budget, total_credit};
use eas_report::{Chart, Table, num, pct};

fn main() -> anyhow::Result<()> {
    let mut page = eas_report::listing!();
    let minutes = |time: Micros| time as f64 / MINUTE as f64;
    let mut table = Table::new(["availability", "minutes down a year", "in 30 days"]);
    let mut yearly = Vec::new();
    for target in [0.9, 0.99, 0.999, 0.9995, 0.9999, 0.99999] {
        let (year, month) = (error_budget(target, 365 * DAY)?, error_budget(target, MONTH)?);
        table.row([pct(target, 3), num(minutes(year), 3), num(minutes(month), 3)]);
        yearly.push(minutes(year));
    }
    page.table("Error budgets: what may go wrong without breaking the promise", &table);

    let mut table = Table::new(["incident", "from day", "hours"]);
    for incident in INCIDENTS {
        let (day, hours) = (incident.start as f64 / DAY as f64, incident.length as f64 / HOUR as f64);
        table.row([incident.name.into(), num(day, 2), num(hours, 2)]);
    }
    page.table("What is planted in a month of 100,000 requests a second", &table);
    let policy = MaintenancePolicy::default();
    let mut recorder = Recorder::new(MONTH, 5 * MINUTE, SAMPLE, policy.excluded(&[MAINTENANCE]))?;
    let answered = incidents::replay(page.seed(), &mut recorder)?;

    let settled = Sla::vector_search().settle(&recorder)?;
    let mut table = Table::new(["term", "target", "windows", "no data", "bad", "worst", "breaches", "remedy"]);
    for s in &settled {
        let remedy = match s.term.remedy {
            _ if s.breaches.is_empty() => "-".to_string(),
            Remedy::Credit(share) => format!("{:.0}% credit", share * 100.0),
            Remedy::Report => "report".to_string(),
            Remedy::Informational => "none".to_string(),
        };
        let worst = s.worst.map_or("-".into(), |worst| num(worst, 4));
        let (target, breaches) = (num(s.term.slo.target, 4), s.breaches.len());
        let counts = [s.judged, s.unmeasured, s.bad].map(Into::into);
        let row = [s.term.name.into(), target].into_iter().chain(counts);
        table.row(row.chain([worst, breaches.into(), remedy.into()]));
    }
    page.table("The month's report", &table);
    page.text(format!(
        "Credit: {:.0}% of the month's bill. A window without requests is not judged: it has no latency, which is not the \
         same as one of 0 ms. The month's fifth week isn't complete, and neither judged.",
        100.0 * total_credit(&settled)
    ));

    // Budget and alerts, by the minute.
    let traffic = recorder.minutes();
    let left = slo::budget_left(traffic, 0.9999)?;
    let hourly = left.iter().enumerate().step_by(60);
    let chart = Chart::lines("Error budget of 99.99% in 30 days", "day", "share of the budget left")
        .series("left", hourly.map(|(minute, left)| (minute as f64 / 1_440.0, *left)))
        .level("nothing left", 0.0);
    page.chart("budget.svg", &chart)?;
    let mut table = Table::new(["alert on 99.9%", "burn rate", "hours", "fired", "after min"]);
    let mut delays = Vec::new();
    for (name, alert) in
        [("page", BurnAlert::PAGE), ("page, slow", BurnAlert::PAGE_SLOW), ("ticket", BurnAlert::TICKET)]
    {
        let firings = alert.firings(traffic, 0.999)?;
        let delay = firings.first().map(|(from, _)| minutes(from - OUTAGE.start));
        let (long, fired) = (num(alert.long as f64 / HOUR as f64, 0), firings.len());
        let shown = delay.map_or("-".into(), |delay| num(delay, 0));
        table.row([name.into(), num(alert.factor, 1), long, fired.into(), shown]);
        delays.push((fired, delay));
    }
    page.table("Burn-rate alerts: two windows must agree", &table);

    // The day of the 20 slow minutes: percentiles of its parts, and of the whole.
    let today = SLOWNESS.start / DAY;
    let day = answered.iter().filter(|(at, _)| at / DAY == today);
    let mut latencies: Vec<f64> = day.map(|(_, ms)| *ms).collect();
    let whole = Digest::of(&latencies, 0.005)?;
    let mut merged = Digest::new(0.005)?;
    for part in latencies.chunks(latencies.len().div_ceil(10)) {
        merged.merge(&Digest::of(part, 0.005)?)?;
    }
    latencies.sort_by(f64::total_cmp);
    let exact = nearest_rank(&latencies, 0.99)?;
    let p99 = |window: &Window| window.value(Sli::LatencyQuantile(0.99));
    let windows = recorder.windows(5 * MINUTE)?;
    let p99s: Vec<f64> = windows.iter().filter(|w| w.start / DAY == today).filter_map(p99).collect();
    let averaged = p99s.iter().sum::<f64>() / p99s.len() as f64;
    let recorded = p99(&recorder.windows(DAY)?[today as usize]).unwrap_or(f64::NAN);
    let mut table = Table::new(["p99 of the day of the 20 slow minutes", "ms"]);
    for (how, ms) in [
        ("all latencies, sorted", exact),
        ("one digest", whole.quantile(0.99).unwrap_or(f64::NAN)),
        ("the recorder's 288 windows, merged", recorded),
        ("mean of the windows' p99: no percentile of anything", averaged),
    ] {
        table.row([how.into(), num(ms, 3)]);
    }
    page.table("Digests merge, percentiles don't", &table);

    let [latency, median, recall, uptime, qps, ..] = &settled[..] else {
        anyhow::bail!("the agreement has too few terms")
    };
    let failed = traffic.iter().zip(0..).filter(|(minute, _)| minute.failed > 0);
    let failed: Vec<Micros> = failed.map(|(_, minute)| minute * MINUTE).collect();
    let (excluded, counted) = (recorder.excluded_requests(), traffic.iter().map(|m| m.requests).sum::<u64>());
    let maintenance = 1.0 - excluded as f64 / (counted + excluded) as f64;
    let nines = [52_560.0, 5_256.0, 525.6, 262.8, 52.56, 5.256];
    page.claim("minutes of error budget a year").equals(yearly, nines);
    page.claim("minutes in 30 days at 99.99%").equals(minutes(error_budget(0.9999, MONTH)?), 4.32);
    page.claim("an hour at 14.4x uses 2% of 30 days").close(slo::budget_used(14.4, HOUR, MONTH), 0.02, 1e-12);
    page.claim("slow windows, of which 3 in a row are tolerated").at_least(latency.bad, 7);
    let breaches = latency.breaches.iter().map(|breach| (breach.start, breach.windows));
    page.claim("4 in a row are the one breach of latency").equals(breaches.collect::<Vec<_>>(), [(SLOWNESS.start, 4)]);
    page.claim("and cost").equals(latency.credit(), 0.10);
    page.claim("3 and 4 windows of a bad median are tolerated").equals((median.bad, median.breaches.len()), (7, 0));
    page.claim("two weeks of low recall, a breach").equals((recall.bad, recall.breaches.len()), (2, 1));
    page.claim("that costs a report and no credit")
        .equals((recall.term.remedy, recall.credit()), (Remedy::Report, 0.0));
    page.claim("the outage breaks the promise of uptime").less(uptime.worst.unwrap_or(1.0), 0.9999);
    page.claim("and costs").equals(uptime.credit(), 0.25);
    page.claim("failures that count lie in the outage, none in maintenance")
        .all(failed, |at| (OUTAGE.start..OUTAGE.start + OUTAGE.length).contains(&at));
    page.claim("counted, maintenance alone would break it").less(maintenance, 0.9999);
    let allowed = 1.0 - policy.a_quarter as f64 / QUARTER as f64;
    page.claim("4 hours a quarter are 99.817%, so must be excluded").close(allowed, 0.99817, 5e-6);
    page.claim("capacity was there whenever it was asked for").equals(qps.breaches.len(), 0);
    page.claim("credit in all").equals(total_credit(&settled), 0.35);
    page.claim("windows without a latency: 24 of maintenance, 6 silent, 1 of the outage")
        .equals(latency.unmeasured, 31);
    page.claim("the page fires once").equals(delays[0].0, 1);
    page.claim("minutes from the outage to the page").between(delays[0].1.unwrap_or(-1.0), 0.0, 2.0);
    page.claim("the merged windows' p99 over the exact one").close(recorded / exact, 1.0, 0.01);
    let quantiles = (1..1_000).map(|q| f64::from(q) / 1e3);
    page.claim("ten digests merged are the digest of the whole, at 999 quantiles")
        .all(quantiles, |q| whole.quantile(q) == merged.quantile(q));
    page.claim("the mean of percentiles over it").less(averaged / exact, 0.75);
    page.finish()
}
