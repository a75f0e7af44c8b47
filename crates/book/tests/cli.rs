//! The command as a person runs it, on the workspace itself.

use std::process::{Command, Output};

fn book(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_eas-book")).args(arguments).output().expect("starts")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn list_prints_a_line_a_listing_and_a_count() {
    let output = book(&["list"]);
    assert!(output.status.success());
    let lines = text(&output.stdout);
    let last = lines.lines().last().expect("a count");
    assert_eq!(last, format!("{} listings here of 253 in the book", lines.lines().count() - 1));
}

#[test]
fn what_is_unknown_or_not_here_yet_is_refused_with_help() {
    for (arguments, part) in [
        (&["run", "no_such_listing_zz"][..], "cargo book list"),
        (&["run", "quantumbackend.py"], "26."),
        (&["check", "ch99"], "chapter 99 is not here yet"),
        (&["show", "zzzz"], "cargo book list"),
        (&["bless", "zzzz"], "cargo book list"),
    ] {
        let output = book(arguments);
        assert!(!output.status.success(), "{arguments:?}");
        assert!(text(&output.stderr).contains(part), "{arguments:?}: {}", text(&output.stderr));
        assert!(output.stdout.is_empty(), "{arguments:?}");
    }
    assert_eq!(book(&["frobnicate"]).status.code(), Some(2));
    assert_eq!(book(&[]).status.code(), Some(2));
}

#[test]
fn every_listing_has_a_card() {
    let lines = text(&book(&["list"]).stdout);
    let names: Vec<&str> =
        lines.lines().filter_map(|line| line.split_whitespace().nth(1)).filter(|n| *n != "listings").collect();
    for name in names {
        let output = book(&["show", name]);
        let card = text(&output.stdout);
        assert!(output.status.success(), "{name}: {}", text(&output.stderr));
        for part in ["Listing ", "Section ", "Python ", "Source ", "Run it with"] {
            assert!(card.contains(part), "{name}: {part} in {card}");
        }
    }
}

#[test]
fn doctor_looks_at_each_part() {
    let output = book(&["doctor"]);
    let findings = text(&output.stdout);
    for part in ["toolchain", "linker", "processor", "GPU", "data", "MiniLM", "listings", "servers", "faiss"] {
        assert!(findings.contains(part), "{part} in {findings}");
    }
    assert_eq!(output.status.success(), !findings.contains("BAD"), "{findings}");
}

#[test]
fn completions_are_made_for_every_shell() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let output = book(&["completions", shell]);
        assert!(output.status.success() && text(&output.stdout).contains("doctor"), "{shell}");
    }

    let bash = text(&book(&["completions", "bash"]).stdout);
    assert!(
        bash.contains("_cargo__book() {") && bash.contains("        _cargo__book cargo-book"),
        "the bridge calls what is there"
    );
}
