//! Every listing of the chapter runs, holds its claims, and prints what is committed under `expected/`.

#[test]
fn listings_do_what_they_say() {
    eas_report::testing::check_chapter(env!("CARGO_MANIFEST_DIR"));
}
