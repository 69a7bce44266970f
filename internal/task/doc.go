// Package task runs work in the background: a task starts when every lock that it names is free, in the order
// in which tasks were dispatched.
//
// A task is a row. It names its function, its arguments, and resources (strings, mostly PRNs) that it needs
// exclusively or shared. Two tasks conflict when one holds a resource exclusively that the other holds at all.
// Start with [Queue.Dispatch], [Kind] and [Job].
//
// # Invariants
//
// These hold in every committed state of the database, on both engines, with any number of processes. "Unfinished"
// is waiting, running or canceling; "earlier" is of smaller sequence number.
//
//  1. Exclusion: no two conflicting tasks are running or canceling at once.
//  2. Order: a task is unblocked only when no earlier unfinished task conflicts with it, and so conflicting
//     tasks start in the order of their dispatch. Once unblocked it stays so.
//  3. Nothing is lost: a dispatched task is a row, its arguments and its locks before [Queue.Dispatch] returns, and
//     ends in a final state: finished by its owner, or, when the owner's lease is gone, by whoever finds it.
//  4. Nothing waits for nothing: a waiting task that is not unblocked has an earlier unfinished task that
//     conflicts with it. The transaction that removes the last of these unblocks it.
//  5. One effect: a task is started at most once. Each later move is made by the process that owns it and guarded by state and
//     owner, and what a task writes through [Job.Created] or after [Job.Fence] is refused once it is not its owner's any more.
//
// # How they are kept
//
// The hot table core_tasklock has the locks of unfinished tasks alone, keyed (resource, exclusive, seq). Whether a
// task is free is asked of its neighbours there: for a shared lock, is there an earlier exclusive one; for an
// exclusive lock, is there any earlier one. Each is one step in the index, however long the queue is.
//
// On SQLite transactions are serial. On PostgreSQL they are not, and three rules stand in for that:
//
//   - Who adds or removes locks first takes advisory locks with the resources' names, in sorted order, in the locks' modes.
//     So the sequence numbers of conflicting tasks are in the order of their commits, and of two transactions that change
//     the same resource only those that both hold it shared overlap.
//   - Who removes locks deletes them first, then locks the rows of the tasks that may have become free, in the order of their sequence
//     numbers, and only then, in a statement of its own, looks whether they are. So of two transactions that remove
//     a task's last two obstacles the second sees the first's work.
//   - Shared locks that go at the same time can free only the first exclusive task behind them; it can neither
//     come nor go meanwhile, since that needs the advisory lock exclusively.
package task
