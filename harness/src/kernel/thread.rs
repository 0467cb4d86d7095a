//! The thread that has the laboratory. It sees the mount, and nobody else does.

use std::thread::{Builder, Scope, ScopedJoinHandle};

use super::CannotFuzz;

/// Starts it.
pub(super) fn start<'scope, T: Send + 'scope>(
    scope: &'scope Scope<'scope, '_>,
    work: impl FnOnce() -> T + Send + 'scope,
) -> Result<ScopedJoinHandle<'scope, T>, CannotFuzz> {
    let builder = Builder::new().name("kernel-laboratory".into());
    builder
        .spawn_scoped(scope, work)
        .map_err(CannotFuzz::Thread)
}

/// What it has come to. Its panic goes on here.
pub(super) fn joined<T>(thread: ScopedJoinHandle<'_, T>) -> T {
    let joined = thread.join();
    joined.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}
