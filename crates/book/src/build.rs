//! Building listings through cargo and finding the executables.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};

use crate::find::Found;

/// Builds the listings in one go and returns each one's executable.
pub(crate) fn build(root: &Path, listings: &[Found<'_>], release: bool) -> Result<BTreeMap<String, PathBuf>> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.current_dir(root).args(["build", "--message-format=json-render-diagnostics"]).stdout(Stdio::piped());
    if release {
        command.arg("--release");
    }
    // Not by package: the features of what chapters share would be those that one chapter asks for, and every chapter, and `cargo run
    // --example`, would compile it anew.
    for found in listings {
        command.args(["--example", &found.entry.name]);
    }
    let mut child = command.spawn().context("cannot start cargo")?;
    let mut executables = BTreeMap::new();
    if let Some(stdout) = child.stdout.take() {
        for line in BufReader::new(stdout).lines() {
            if let Some((name, path)) = executable(&line?) {
                executables.insert(name, path);
            }
        }
    }
    ensure!(child.wait()?.success(), "the build failed");
    for found in listings {
        let name = &found.entry.name;
        ensure!(executables.contains_key(name), "cargo built no executable for `{name}`");
    }
    Ok(executables)
}

/// Name and executable of an example, from a line of cargo's JSON messages.
fn executable(line: &str) -> Option<(String, PathBuf)> {
    let message: serde_json::Value = serde_json::from_str(line).ok()?;
    let target = message.get("target")?;
    let is_example = target.get("kind")?.as_array()?.iter().any(|kind| kind == "example");
    let path = message.get("executable")?.as_str()?;
    is_example.then(|| Some((target.get("name")?.as_str()?.to_string(), PathBuf::from(path))))?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_examples_are_taken_from_cargo_messages() {
        let line = |kind: &str| {
            format!(
                r#"{{"reason":"compiler-artifact","target":{{"kind":["{kind}"],"name":"a"}},"executable":"/t/examples/a"}}"#
            )
        };
        assert_eq!(executable(&line("example")), Some(("a".to_string(), PathBuf::from("/t/examples/a"))));
        assert_eq!(executable(&line("bin")), None);
        assert_eq!(executable(r#"{"reason":"build-finished","success":true}"#), None);
        assert_eq!(executable("no JSON"), None);
    }
}
