//! The end of a program beside tokio-graceful-shutdown, async-shutdown, and tokio-util's token with its
//! tracker.
//!
//! Components that run until they are told to end, all on one thread: from the trigger until every one
//! of them has ended and whoever waits for that knows it. Making and starting them is not measured. Ours
//! tells of each component how it ended, and so does tokio-graceful-shutdown; the others count.

use std::sync::Arc;
use std::time::Duration;

use async_shutdown::ShutdownManager;
use selvedge_cancel::{Canceller, Component, Context, Straggler, Wait};
use selvedge_shutdown::Shutdown;
use selvedge_sync::Latch;
use tokio::runtime::Runtime;
use tokio_graceful_shutdown::{SubsystemBuilder, SubsystemHandle, Toplevel};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::Scale;
use crate::harness::{Count, Shape, Work};

/// Every shape of the crate.
pub fn shapes(scale: Scale) -> Vec<Shape> {
    vec![end(10, scale.of(200, 20, 2)), end(1_000, scale.of(5, 2, 1))]
}

/// Long enough for everything that is measured here.
const GRACE: Duration = Duration::from_secs(60);

/// So many components end, so many times; an operation is the end of a component.
fn end(components: u64, times: u64) -> Shape {
    let each = move |once: fn(&Runtime, u64) -> Count| {
        move |n: u64| {
            let runtime = runtime();
            let mut count = Count::default();
            (0..n / components).for_each(|_| count.add(once(&runtime, components)));
            count
        }
    };
    let work = Work::Exactly(components * times);
    Shape::new("shutdown", "components end", format!("{components}"), work)
        .ours(each(ours))
        .peer("tokio-graceful-shutdown", each(graceful))
        .peer("async-shutdown", each(manager))
        .peer("tokio-util tracker", each(tracker))
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime")
}

/// Lets the tasks come to where they wait.
async fn settle() {
    for _ in 0..3 {
        tokio::task::yield_now().await;
    }
}

/// A task that runs until it is stopped.
struct Server {
    canceller: Canceller,
    ended: Latch,
}

impl Server {
    fn start() -> Arc<Self> {
        let (ctx, canceller) = Context::background().child();
        let server = Arc::new(Self { canceller, ended: Latch::new(1) });
        let inside = Arc::clone(&server);
        tokio::spawn(async move {
            ctx.stopping().await;
            inside.ended.count_down(1);
        });
        server
    }
}

impl Component for Server {
    fn name(&self) -> String {
        "server".to_owned()
    }

    fn stop(&self) {
        self.canceller.stop(Duration::MAX);
    }

    fn wait(&self) -> Wait<'_> {
        Box::pin(self.ended.wait())
    }

    fn abort(&self) {
        self.canceller.cancel();
    }

    fn stragglers(&self) -> Vec<Straggler> {
        Vec::new()
    }
}

fn ours(runtime: &Runtime, components: u64) -> Count {
    let shutdown = runtime.block_on(async {
        let shutdown = Shutdown::builder().grace(GRACE).build().expect("the runtime has a timer");
        for _ in 0..components {
            shutdown.register(Server::start()).expect("nothing has ended yet");
        }
        settle().await;
        shutdown
    });
    let (count, report) = Count::of(|| {
        shutdown.trigger("the bench is over");
        runtime.block_on(shutdown.wait())
    });
    assert!(report.is_clean() && report.components().len() as u64 == components);
    count
}

fn graceful(runtime: &Runtime, components: u64) -> Count {
    async fn server(subsystem: &mut SubsystemHandle) -> std::io::Result<()> {
        subsystem.on_shutdown_requested().await;
        Ok(())
    }

    let token = CancellationToken::new();
    let trigger = token.clone();
    let toplevel = runtime.block_on(async {
        let start = async move |top: &mut SubsystemHandle| {
            for _ in 0..components {
                top.start(SubsystemBuilder::new("server", server));
            }
        };
        let toplevel: Toplevel = Toplevel::new_with_shutdown_token(start, token);
        settle().await;
        toplevel
    });
    let (count, ended) = Count::of(|| {
        trigger.cancel();
        runtime.block_on(toplevel.handle_shutdown_requests(GRACE))
    });
    ended.expect("no subsystem fails");
    count
}

fn manager(runtime: &Runtime, components: u64) -> Count {
    let manager = runtime.block_on(async {
        let manager = ShutdownManager::new();
        for _ in 0..components {
            let (triggered, token) = (
                manager.wait_shutdown_triggered(),
                manager.delay_shutdown_token().expect("it is not over yet"),
            );
            tokio::spawn(async move {
                triggered.await;
                drop(token);
            });
        }
        settle().await;
        manager
    });
    let (count, code) = Count::of(|| {
        manager.trigger_shutdown(7).expect("once");
        runtime.block_on(manager.wait_shutdown_complete())
    });
    assert_eq!(code, 7);
    count
}

fn tracker(runtime: &Runtime, components: u64) -> Count {
    let (token, tracker) = (CancellationToken::new(), TaskTracker::new());
    runtime.block_on(async {
        for _ in 0..components {
            let token = token.clone();
            tracker.spawn(async move { token.cancelled().await });
        }
        settle().await;
    });
    let count = Count::time(|| {
        tracker.close();
        token.cancel();
        runtime.block_on(tracker.wait());
    });
    assert!(tracker.is_empty());
    count
}
