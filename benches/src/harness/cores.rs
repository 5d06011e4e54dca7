//! Threads on cores of their own. Where a system puts two threads that were just started is its own
//! business; for some milliseconds it may be the same core, and then nothing is handed over.

/// Keeps the calling thread on a core: the first for number 0, and so on in turn. Does nothing where the
/// system has no such call.
pub(super) fn stay_on(number: usize) {
    let cores = core_affinity::get_core_ids().unwrap_or_default();
    if let Some(core) = cores.into_iter().cycle().nth(number) {
        core_affinity::set_for_current(core);
    }
}
