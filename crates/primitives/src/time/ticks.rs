//! The counter of the processor, without a call.

/// What the time-stamp counter of this core says, where processors have one that every program may read. How fast it goes, whether it does so evenly and
/// whether those of other cores say the same is not known.
#[cfg(all(target_arch = "x86_64", not(miri)))]
#[expect(unsafe_code, reason = "an instruction that std counts as unsafe")]
#[inline(always)]
pub fn ticks() -> Option<u64> {
    // SAFETY: every processor of this kind has the instruction, and it touches no memory.
    Some(unsafe { std::arch::x86_64::_rdtsc() })
}

/// What the time-stamp counter of this core says: there is none that is known.
#[cfg(not(all(target_arch = "x86_64", not(miri))))]
#[inline(always)]
pub fn ticks() -> Option<u64> {
    None
}
