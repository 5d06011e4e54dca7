//! The shapes of `shutdown` under criterion; `cargo bench -p selvedge-bench --bench shutdown`.

#![forbid(unsafe_code)]

mod criterion_of;

fn main() {
    criterion_of::run("shutdown", selvedge_bench::shapes::shutdown::shapes);
}
