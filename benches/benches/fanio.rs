//! The shapes of `fanio` under criterion; `cargo bench -p selvedge-bench --bench fanio`.

#![forbid(unsafe_code)]

mod criterion_of;

fn main() {
    criterion_of::run("fanio", selvedge_bench::shapes::fanio::shapes);
}
