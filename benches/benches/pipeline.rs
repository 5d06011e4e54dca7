//! The shapes of `pipeline` under criterion; `cargo bench -p selvedge-bench --bench pipeline`.

#![forbid(unsafe_code)]

mod criterion_of;

fn main() {
    criterion_of::run("pipeline", selvedge_bench::shapes::pipeline::shapes);
}
