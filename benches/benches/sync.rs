//! The shapes of `sync` under criterion; `cargo bench -p selvedge-bench --bench sync`.

#![forbid(unsafe_code)]

mod criterion_of;

fn main() {
    criterion_of::run("sync", selvedge_bench::shapes::sync::shapes);
}
