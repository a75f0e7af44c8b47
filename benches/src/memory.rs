//! How much memory a program takes beyond its inputs.

/// How far the peak of the resident memory rises above what was resident at the start. Printed as `, 12.3 MiB over the inputs`, or as
/// nothing where the system doesn't tell.
pub struct PeakMemory {
    before: Option<f64>,
}

impl PeakMemory {
    /// Forgets the peak so far (Linux).
    pub fn start() -> Self {
        let reset = std::fs::write("/proc/self/clear_refs", "5").is_ok();
        Self { before: resident("VmRSS:").filter(|_| reset) }
    }

    /// The growth in MiB.
    pub fn growth(&self) -> Option<f64> {
        Some(resident("VmHWM:")? - self.before?)
    }
}

impl std::fmt::Display for PeakMemory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.growth() {
            Some(growth) => write!(f, ", {growth:.1} MiB over the inputs"),
            None => Ok(()),
        }
    }
}

/// A field of Linux's `/proc/self/status` in MiB.
fn resident(field: &str) -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with(field))?;
    let kibibytes: f64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kibibytes / 1024.0)
}
