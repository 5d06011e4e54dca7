//! The shapes of `ratelimit` under criterion; `cargo bench -p selvedge-bench --bench ratelimit`.

#![forbid(unsafe_code)]

mod criterion_of;

fn main() {
    criterion_of::run("ratelimit", selvedge_bench::shapes::ratelimit::shapes);
}
