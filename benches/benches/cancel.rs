//! The shapes of `cancel` under criterion; `cargo bench -p selvedge-bench --bench cancel`.

#![forbid(unsafe_code)]

mod criterion_of;

fn main() {
    criterion_of::run("cancel", selvedge_bench::shapes::cancel::shapes);
}
