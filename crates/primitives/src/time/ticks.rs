//! The counter of the processor, without a call.
#![expect(unsafe_code, reason = "an instruction that std counts as unsafe")]

/// What the time-stamp counter of this core says, where processors have one that every program may read. How fast it goes, whether it does so evenly and
/// whether those of other cores say the same is not known.
#[inline(always)]
pub fn ticks() -> Option<u64> {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    {
        // SAFETY: every processor of this kind has the instruction, and it touches no memory.
        return Some(unsafe { std::arch::x86_64::_rdtsc() });
    }
    #[cfg(not(all(target_arch = "x86_64", not(miri))))]
    None
}
