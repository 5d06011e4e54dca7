//! A worker: the life of a thread of the pool.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context as TaskContext, Waker};

use selvedge_primitives::block_on;

use super::{Engine, Reactor};

/// What the thread of worker `number` runs.
///
/// One `block_on` serves its whole life: parking is one store of a waker, and the thread sleeps in
/// `block_on` when there is no work.
pub(super) fn work(engine: Arc<Engine>, number: usize) -> impl FnOnce() + Send {
    move || {
        block_on(async {
            match number {
                0 => work_and_watch(&engine).await,
                _ => work_off(&engine, number).await,
            }
        });
        engine.leave();
    }
}

/// Runs jobs until the pool is over.
async fn work_off(engine: &Engine, number: usize) {
    while let Some(task) = poll_fn(|cx| engine.poll_work(number, cx)).await {
        task.run(engine.context(), &mut |fate| engine.end(number, fate));
    }
}

/// As [`work_off`], and keeps the engine's waker with the context while there is work.
///
/// The two waits are polled once: what counts is the waker that they leave, which calls
/// [`Engine::react`] wherever the context is ended. They live on a thread of the pool because a
/// plain thread has no cooperative budget that could put the first poll off. When the pool is over
/// there is nothing left to react to, and they are dropped.
async fn work_and_watch(engine: &Arc<Engine>) {
    let mut stopping = pin!(engine.context().stopping());
    let mut cancelled = pin!(engine.context().cancelled());
    let reactor = Waker::from(Arc::new(Reactor { engine: Arc::downgrade(engine) }));
    let mut cx = TaskContext::from_waker(&reactor);
    let stopped = stopping.as_mut().poll(&mut cx).is_ready();
    if cancelled.as_mut().poll(&mut cx).is_ready() || stopped {
        engine.react();
    }
    work_off(engine, 0).await;
}
