//! What may cross threads and what may move, pinned for every public type.
#![cfg(all(not(selvedge_loom), feature = "channel", feature = "tokio"))]

use std::cell::Cell;
use std::error::Error;
use std::marker::PhantomPinned;
use std::panic::panic_any;

use futures_core::Stream;
use selvedge_cancel::{Component, Context};
use selvedge_pipeline::{
    Batch, Blocking, Boxed, Branched, ChannelClosed, Collect, Ended, Filter, Fold, ForEach,
    FromIter, FromStream, Fused, Generator, Give, IntoChannel, Items, Join, Lane, Map, Merged,
    Order, Panic, Pipeline, PipelineError, Ready, Report, Reserve, Room, Run, Stage, StageReport,
    StartError, Throttled, Ticks, TryForEach, TryMap, Workers, Yielder, from_iter,
};
use selvedge_testkit::block_on;
use static_assertions::{assert_impl_all, assert_not_impl_any};

/// Crosses threads, but is not shared between them.
type Item = Cell<u32>;
type Source = FromIter<std::vec::IntoIter<Item>>;

assert_impl_all!(PipelineError: Error, Send, Sync, Unpin);
assert_impl_all!(StartError: Error, Send, Sync, Unpin, Clone);
assert_impl_all!(Panic: Send, Sync, Unpin);
assert_impl_all!(Report: Send, Sync, Unpin, Clone);
assert_impl_all!(StageReport: Send, Sync, Unpin, Clone);
assert_impl_all!(Ended<Vec<Item>>: Send, Unpin);
assert_impl_all!(Ended<Vec<u32>>: Send, Sync, Unpin);
assert_impl_all!(Order: Send, Sync, Unpin, Copy);

assert_impl_all!(Stage<Source>: Send, Unpin);
assert_impl_all!(Ready<Source, Collect<Item>>: Send, Unpin);
assert_impl_all!(Fused<Source, Map<fn(Item)>>: Send, Unpin);
assert_impl_all!(Fused<Source, TryMap<fn(Item)>>: Send, Unpin);
assert_impl_all!(Fused<Source, Filter<fn(&Item) -> bool>>: Send, Unpin);
assert_impl_all!(Batch<Source>: Send, Unpin);
assert_impl_all!(Throttled<Source>: Send, Unpin);
assert_impl_all!(Boxed<Item>: Send, Unpin);
assert_impl_all!(Merged<Item>: Send, Unpin);
assert_impl_all!(Branched<Source, fn()>: Send, Unpin);
assert_impl_all!(Lane<Item>: Send, Unpin);
assert_impl_all!(Ticks: Send, Sync, Unpin);
assert_impl_all!(FromStream<async_channel::Receiver<Item>>: Send);
assert_impl_all!(FromStream<std::future::Ready<Item>>: Send, Unpin);
assert_impl_all!(IntoChannel<Item>: Send, Unpin);
assert_impl_all!(ChannelClosed: Error, Send, Sync, Unpin, Copy);
assert_impl_all!(Generator<Item, fn()>: Send, Sync, Unpin);
assert_impl_all!(Workers<Source, fn()>: Send, Unpin);
assert_impl_all!(Blocking<Source, fn()>: Send, Unpin);
assert_impl_all!(Collect<Item>: Send, Unpin);
assert_impl_all!(Fold<Item, fn()>: Send, Unpin);
assert_impl_all!(ForEach<fn()>: Send, Sync, Unpin);
assert_impl_all!(TryForEach<fn()>: Send, Sync, Unpin);

// A run is in a box of its own, so it may move while it is polled.
assert_impl_all!(Run<Item>: Send, Unpin, Future);
assert_not_impl_any!(Run<Item>: Sync);
assert_impl_all!(Items<Item>: Send, Unpin, Stream);
assert_not_impl_any!(Items<Item>: Sync);
assert_impl_all!(Join<Item>: Send, Sync, Future);
assert_impl_all!(Pipeline<Item>: Send, Sync, Unpin, Component);

// A generator's body may be on any thread, and any thread may give.
assert_impl_all!(Yielder<Item>: Send, Sync, Unpin, Clone);
assert_impl_all!(Room<Item>: Send, Sync, Unpin);
assert_impl_all!(Give<Item>: Send, Future);
assert_impl_all!(Reserve<Item>: Send, Sync, Future);

// The line points at futures that wait, so they stay where they are.
assert_not_impl_any!(Give<Item>: Unpin);
assert_not_impl_any!(Reserve<Item>: Unpin);
assert_not_impl_any!(Join<Item>: Unpin);

// What is given away may not be pinned inside: it moves.
assert_impl_all!(Room<PhantomPinned>: Unpin);

/// Would not compile if the error, with its payload of a panic, were not `Send + Sync`.
fn run_and_ask() -> Result<Vec<()>, Box<dyn Error + Send + Sync>> {
    let stage = from_iter([1]).map(|_| panic_any(Cell::new(7_u32)));
    let ended = block_on(stage.collect().run(&Context::background()));
    Ok(ended.ok()?)
}

#[test]
fn the_error_of_a_run_goes_through_the_question_mark() {
    let error = run_and_ask().unwrap_err();
    assert_eq!(error.to_string(), "stage map panicked at item 0: (a payload that is no text)");
    let Ok(error) = error.downcast::<PipelineError>() else { panic!("it is a pipeline's error") };
    let PipelineError::Panicked { panic, .. } = *error else { panic!("it panicked") };
    assert_eq!(panic.into_payload().downcast::<Cell<u32>>().unwrap().get(), 7);
}
