//! A hint that a line of the cache is about to be used.
#![allow(unsafe_code, reason = "an instruction of the processor that touches nothing")]

/// Has the processor fetch what `value` lies in, while it does something else. A load would be waited for by what orders
/// instructions, as the read of a clock does. Nothing on processors for which std has no stable intrinsic.
#[inline(always)]
pub fn prefetch<T>(value: &T) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};

        let address = std::ptr::from_ref(value).cast();
        // SAFETY: the instruction changes nothing but what is in the caches, and takes any address; this one is of a reference.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(address) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = value;
}
