// What Bastion knows of a Swift task beyond the runtime's API: at which offsets compiled code finds the function that a
// task goes on with, and whom it tells when it is done. With that, a piece of our own code runs inside a task right
// before one of its jobs (to ask whose it is, and whether it may run), and right after its last.
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/// A job that an actor's process is about to run for the process that the job's task belongs to.
typedef struct crt_visit {
    /// Asked inside the task, before its code goes on. `executor` is the `ProcTaskExecutor` that the task prefers, or
    /// NULL. False: the job is dropped; its task is suspended for ever.
    bool (*mayEnter)(struct crt_visit *visit, void *executor, void *task);
    void *host;                                 // for `mayEnter`
    void *guest;                                // likewise
    uintptr_t resume;                           // what the task was to go on with
} crt_visit;

/// What is called when a counted child task has completed.
typedef struct crt_childHooks {
    /// Before: retains what `after` needs. `executor` is the task's `ProcTaskExecutor`.
    void (*before)(void *executor);
    /// After: whoever waited for the task has been woken.
    void (*after)(void *executor);
} crt_childHooks;

/// Says by which witness table a `ProcTaskExecutor` is recognised, and whom to tell of children. Before the first
/// process runs.
void crt_setTaskHooks(uintptr_t executorWitness, crt_childHooks hooks);

/// The `ProcTaskExecutor` that the calling thread's task prefers, or NULL. The task holds it.
void *crt_currentTaskExecutor(void);

/// Whether a job is a task, in a layout that we know.
bool crt_isTask(const void *job);

/// Whether a job lets its task go on after a yield: others are to have their turn first.
bool crt_isYield(const void *job);

/// Whether a job is one of a task. What else prefers an executor of ours is an actor's: it runs what waits in that actor,
/// whoever queued that.
bool crt_isOfTask(const void *job);

/// The calling thread's current task, or NULL.
void *crt_currentTask(void);

/// Whether a task was cancelled.
bool crt_isCancelled(void *task);

/// Says to ThreadSanitizer that what came before the calling task's continuation was resumed happened before what
/// follows. Nothing without it.
void crt_resumed(void);

/// Has `visit` asked when the calling thread runs this job next, which it does at once. False: not a task; run it as
/// it is.
bool crt_intercept(void *job, crt_visit *visit);

/// Whether a job is the first of a task, of which nothing has run yet. Every kind of task; for learning.
bool crt_isFirstJob(const void *job);

/// Learns the function to which the task of a first job will return. False when there are more than we can tell apart.
bool crt_learnCompletion(const void *job);

/// Switches counting on, once the functions are learned; or off.
void crt_enableCounting(bool on);

/// Whether this is the first job of a task whose end we can see.
bool crt_isCountable(const void *job);

/// Has the hooks called when the task of this job, for which `crt_isCountable` holds, completes. It is a child of the
/// calling thread's current task.
void crt_countChild(void *job);

/// Whether a task is one of those that `crt_countChild` was called for.
bool crt_isCounted(const void *task);

/// A task will never go on, and so no task that awaits it will. Returns how many counted tasks this is news about.
uint32_t crt_strand(void *task);
