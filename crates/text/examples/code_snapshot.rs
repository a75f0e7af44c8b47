//! Freezes the documented functions of this workspace into `data/code/workspace.jsonl`, and prints the rows of the table of origins.
//!
//! cargo run --release -p eas-text --example code_snapshot

use eas_data::{bundle::sha256_hex, root};
use eas_text::code::{CodeItem, extract_functions, write_items};
use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};

fn main() -> Result<(), Box<dyn Error>> {
    let data = root();
    let workspace = data.parent().ok_or("the data folder has no parent")?;
    let mut files = Vec::new();
    sources(&workspace.join("crates"), &mut files)?;
    files.sort();
    let mut items: Vec<CodeItem> = Vec::new();
    for file in &files {
        let path = file.strip_prefix(workspace)?.to_string_lossy().replace('\\', "/");
        items.extend(extract_functions(&path, &fs::read_to_string(file)?));
    }
    let all = items.len();
    // A function without a sentence of documentation gives no query, and one of a single line is hardly more than its name.
    items.retain(|item| item.summary().split_whitespace().count() >= 3 && item.body.lines().count() >= 3);
    println!("{} of {all} functions of {} files", items.len(), files.len());
    fs::create_dir_all(data.join("code"))?;
    fs::write(data.join("code/workspace.jsonl"), write_items(&items)?)?;
    for name in ["code/planted.rs", "code/workspace.jsonl"] {
        let bytes = fs::read(data.join(name))?;
        println!("| `{name}` | {} | {} |", bytes.len(), sha256_hex(&bytes));
    }
    Ok(())
}

fn sources(folder: &Path, files: &mut Vec<PathBuf>) -> std::io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            sources(&path, files)?;
        } else if path.extension().is_some_and(|e| e == "rs") && path.components().any(|c| c.as_os_str() == "src") {
            files.push(path);
        }
    }
    Ok(())
}
