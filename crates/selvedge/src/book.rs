//! The pages of the book, compiled and run with the doc tests. `cargo xtask tidy` fails when a page
//! below `docs/` shows Rust and is not here.

#[doc = include_str!("../../../docs/patterns/context.md")]
struct ContextPage;

#[doc = include_str!("../../../docs/patterns/shield.md")]
struct ShieldPage;

#[doc = include_str!("../../../docs/patterns/after-func.md")]
struct AfterFuncPage;

#[doc = include_str!("../../../docs/patterns/merge-contexts.md")]
struct MergeContextsPage;

#[doc = include_str!("../../../docs/patterns/cancel-and-wait.md")]
struct CancelAndWaitPage;

// Its conversions need the feature, which `cargo xtask test` turns on with all others.
#[cfg(feature = "tokio-util")]
#[doc = include_str!("../../../docs/patterns/from-tokio-util.md")]
struct FromTokioUtilPage;

#[doc = include_str!("../../../docs/patterns/semaphore.md")]
struct SemaphorePage;

#[doc = include_str!("../../../docs/patterns/single-flight.md")]
struct SingleFlightPage;

#[doc = include_str!("../../../docs/patterns/keyed-lock.md")]
struct KeyedLockPage;

#[doc = include_str!("../../../docs/patterns/keyed-lanes.md")]
struct KeyedLanesPage;

#[doc = include_str!("../../../docs/patterns/barrier.md")]
struct BarrierPage;

#[doc = include_str!("../../../docs/patterns/retry-backoff.md")]
struct RetryBackoffPage;

// Its middleware needs the feature, as above.
#[cfg(feature = "tower")]
#[doc = include_str!("../../../docs/patterns/rate-limit.md")]
struct RateLimitPage;

#[doc = include_str!("../../../docs/patterns/worker-pool.md")]
struct WorkerPoolPage;

#[doc = include_str!("../../../docs/patterns/fan-out.md")]
struct FanOutPage;

#[doc = include_str!("../../../docs/patterns/fan-in.md")]
struct FanInPage;

#[doc = include_str!("../../../docs/patterns/pipeline.md")]
struct PipelinePage;

#[doc = include_str!("../../../docs/patterns/generator.md")]
struct GeneratorPage;

#[doc = include_str!("../../../docs/patterns/graceful-shutdown.md")]
struct GracefulShutdownPage;

#[doc = include_str!("../../../docs/patterns/task-group.md")]
struct TaskGroupPage;

#[doc = include_str!("../../../docs/patterns/wait-group.md")]
struct WaitGroupPage;

#[doc = include_str!("../../../docs/pitfalls/leaks.md")]
struct LeaksPage;

#[doc = include_str!("../../../docs/pitfalls/lost-errors.md")]
struct LostErrorsPage;

#[doc = include_str!("../../../docs/pitfalls/deadlocks.md")]
struct DeadlocksPage;

#[doc = include_str!("../../../docs/pitfalls/unbounded.md")]
struct UnboundedPage;

#[doc = include_str!("../../../docs/pitfalls/closing.md")]
struct ClosingPage;

#[doc = include_str!("../../../docs/patterns/select-default.md")]
struct SelectDefaultPage;

#[doc = include_str!("../../../docs/patterns/buffered-channels.md")]
struct BufferedChannelsPage;

#[doc = include_str!("../../../docs/pitfalls/races.md")]
struct RacesPage;

#[doc = include_str!("../../../docs/pitfalls/exhaustion.md")]
struct ExhaustionPage;

#[doc = include_str!("../../../docs/pitfalls/cleanup.md")]
struct CleanupPage;

#[doc = include_str!("../../../docs/pitfalls/guards.md")]
struct GuardsPage;
