//! The shapes of `pool` under criterion; `cargo bench -p selvedge-bench --bench pool`.

#![forbid(unsafe_code)]

mod criterion_of;

fn main() {
    criterion_of::run("pool", selvedge_bench::shapes::pool::shapes);
}
