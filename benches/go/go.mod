module selvedge.invalid/bench

go 1.19
