// Beyond the runtime's API: see crt_task.h. Nothing here allocates, and nothing but `crt_strand` is called by the reaper.
#include "crt_task.h"
#include "CLightProc.h"
#include "internal.h"

// The runtime's own accessors: the current task, the executor it prefers, and how a task is marked as suspended.
extern void *swift_task_getCurrent(void) __attribute__((swiftcall));
extern bool swift_task_isCancelled(void *task) __attribute__((swiftcall));
extern void *swift_task_suspend(void) __attribute__((swiftcall));
extern uint32_t swift_task_getJobFlags(void *job) __attribute__((swiftcall));
typedef struct { uintptr_t identity, witness; } TaskExecutorRef;
extern TaskExecutorRef swift_task_getPreferredTaskExecutor(void) __attribute__((swiftcall));
// What the runtime tells debuggers: the functions that a new task starts with.
extern void *const _swift_concurrency_debug_future_adapter __attribute__((weak));
extern void *const _swift_concurrency_debug_non_future_adapter __attribute__((weak));

// ---------------------------------------------------------------------------------------------------- the layout

// The calling convention of async functions: the context in a register of its own, and a return by tail call. A thrown
// error comes in the register of `self`.
#define ASYNC __attribute__((swiftasynccall))
#define CONTEXT __attribute__((swift_async_context))
#define ERROR __attribute__((swift_context))

struct context;
typedef ASYNC void Resume(CONTEXT struct context *context);
typedef ASYNC void Completion(CONTEXT struct context *context, ERROR void *error);

// Compiled Swift code reads and writes these at fixed offsets (IRGen's "swift.task" and "swift.context"), so they
// cannot change under programs that exist.
struct context {
    struct context *parent;                     // NULL in the context that a task begins with
    Completion *resumeParent;                   // whom its function returns to
};
typedef struct task {
    void *object[2];                            // type and reference count
    void *schedulerPrivate[2];                  // the executor's, while the job is in its queue
    uint32_t flags;                             // the lowest byte is the kind of the job; 0: a task
    uint32_t identity;
    void *voucher;                              // NULL on Linux
    _Atomic(uintptr_t) reserved;                // "for future use", NULL: ours for children that we count
    Resume *resume;                             // what the task goes on with, ...
    struct context *resumeContext;              // ... and its argument
} task;

_Static_assert(offsetof(task, flags) == 32, "swift.task");
_Static_assert(offsetof(task, identity) == 9 * sizeof(uint32_t), "crt_taskNumber");
_Static_assert(offsetof(task, reserved) == 48, "swift.task");
_Static_assert(offsetof(task, resume) == 56, "swift.task");
_Static_assert(offsetof(task, resumeContext) == 64, "swift.task");

static _Atomic(uintptr_t) witness;              // written before the first process's task runs, perhaps while others ask
static crt_childHooks children;                 // likewise, and read by tasks of processes only

// ordering: relaxed: who runs in the name of a process came after the write; to others it does not matter whether they see
// it, as no executor of ours is preferred by their task.
uintptr_t crt_executorWitness(void) { return atomic_load_explicit(&witness, memory_order_relaxed); }

void crt_setTaskHooks(uintptr_t executorWitness, crt_childHooks hooks) {
    children = hooks;
    // ordering: relaxed: as above.
    atomic_store_explicit(&witness, executorWitness, memory_order_relaxed);
}

bool crt_isTask(const void *job) {
    return (((const task *)job)->flags & 0xff) == 0;
}

// Made by `Task.yield()` alone where a task prefers an executor. The number is in the ABI of the runtime (JobKind).
bool crt_isYield(const void *job) {
    enum { nullaryContinuation = 195 };
    return (((const task *)job)->flags & 0xff) == nullaryContinuation;
}

bool crt_isOfTask(const void *job) { return crt_isTask(job) || crt_isYield(job); }

void *crt_currentTask(void) { return swift_task_getCurrent(); }

bool crt_isCancelled(void *task) { return swift_task_isCancelled(task); }

// The runtime releases on the task when its continuation is resumed, and acquires when a job of it runs.
#if CRT_THREAD_SANITIZED
extern void __tsan_acquire(void *address);
void crt_resumed(void) { __tsan_acquire(swift_task_getCurrent()); }
#else
void crt_resumed(void) {}
#endif

// A new task starts with one of two functions of the runtime; what is queued later goes on elsewhere.
static bool isNew(const task *self) {
    return (void *)self->resume == _swift_concurrency_debug_future_adapter
        || (void *)self->resume == _swift_concurrency_debug_non_future_adapter;
}

bool crt_isFirstJob(const void *job) {
    const task *self = job;
    // Kind and flags as the runtime reads them, and where we take words for unused they are empty: then the layout is as
    // we think.
    if (!crt_isTask(job) || (uint32_t)swift_task_getJobFlags((void *)job) != self->flags) return false;
    if (!&_swift_concurrency_debug_future_adapter || !&_swift_concurrency_debug_non_future_adapter) return false;
    if (!isNew(self) || self->voucher || atomic_load_explicit(&self->reserved, memory_order_relaxed)) return false;
    return self->resumeContext && !self->resumeContext->parent && self->resumeContext->resumeParent;
}

// The executor that the current task prefers, if it is one of ours.
static void *currentExecutor(void) {
    TaskExecutorRef executor = swift_task_getPreferredTaskExecutor();
    return executor.witness == crt_executorWitness() ? (void *)executor.identity : NULL;
}

void *crt_currentTaskExecutor(void) {
    return crt_executorWitness() && swift_task_getCurrent() ? currentExecutor() : NULL;
}

// ---------------------------------------------------------------------------------------------------- visits

// From `crt_intercept` to `enter` on the same thread, with only the runtime's own code in between.
static __thread crt_visit *nextVisit __attribute__((tls_model("initial-exec")));

// Runs in the task, in place of what it was to go on with.
static ASYNC void enter(CONTEXT struct context *context) {
    crt_visit *visit = nextVisit;
    nextVisit = NULL;                           // what the task runs may intercept jobs of its own
    task *self = swift_task_getCurrent();       // the task whose job this is: the runtime made it current
    Resume *resume = (Resume *)visit->resume;
    self->resume = resume;                      // as it was
    if (!visit->mayEnter(visit, currentExecutor(), self)) {
        swift_task_suspend();                   // no longer current; nobody has a way to resume it
        return;                                 // to whoever ran the job, as from any suspension
    }
    __attribute__((musttail)) return resume(context);
}

bool crt_intercept(void *job, crt_visit *visit) {
    task *self = job;
    if (!crt_isTask(job)) return false;
    visit->resume = (uintptr_t)self->resume;
    nextVisit = visit;
    self->resume = enter;                       // the job is out of every queue: only this thread knows it
    return true;
}

// ---------------------------------------------------------------------------------------------------- children

// A task ends by returning from its first function: to a function of the runtime, one of a few, by the way the task was
// made. For each of them we have one that stands in its place.
enum { completionLimit = 4 };
static Completion *completions[completionLimit];
static _Atomic(int) completionCount;
static _Atomic(bool) isCounting;

enum { counted = 1, stranded = 2, tagMask = 3 };   // in `reserved`, beside the parent

static inline ASYNC void complete(CONTEXT struct context *context, ERROR void *error, int number) {
    task *self = swift_task_getCurrent();
    void *executor = currentExecutor();
    // ordering: relaxed: stranded is a task that never gets here; a look for the impossible.
    bool isMine = executor && (atomic_load_explicit(&self->reserved, memory_order_relaxed) & tagMask) == counted;
    if (isMine) children.before(executor);
    completions[number](context, error);        // frees the task: it is not touched any more
    if (isMine) children.after(executor);
}

#define STAND_IN(number) \
    static ASYNC void complete##number(CONTEXT struct context *context, ERROR void *error) { \
        complete(context, error, number); \
    }
STAND_IN(0)
STAND_IN(1)
STAND_IN(2)
STAND_IN(3)
static Completion *const standIns[completionLimit] = {complete0, complete1, complete2, complete3};

static int numberOf(Completion *function) {
    // ordering: acquire: pairs with the release below; publishes the table up to there.
    int count = atomic_load_explicit(&completionCount, memory_order_acquire);
    for (int i = 0; i < count; i++)
        if (completions[i] == function) return i;
    return -1;
}

bool crt_learnCompletion(const void *job) {
    Completion *function = ((const task *)job)->resumeContext->resumeParent;
    for (int i = 0; i < completionLimit; i++)
        if (function == standIns[i]) return true;
    if (numberOf(function) >= 0) return true;
    int count = atomic_load_explicit(&completionCount, memory_order_relaxed);
    if (count == completionLimit) return false;
    completions[count] = function;
    atomic_store_explicit(&completionCount, count + 1, memory_order_release);
    return true;
}

void crt_enableCounting(bool on) {
    // ordering: relaxed: a switch; what it stands for was published with the count.
    atomic_store_explicit(&isCounting, on, memory_order_relaxed);
}

bool crt_isCountable(const void *job) {
    const task *self = job;
    if (!atomic_load_explicit(&isCounting, memory_order_relaxed) || !crt_isTask(job) || !isNew(self)) return false;
    return numberOf(self->resumeContext->resumeParent) >= 0;
}

void crt_countChild(void *job) {
    task *self = job;
    struct context *context = self->resumeContext;
    context->resumeParent = standIns[numberOf(context->resumeParent)];
    // The parent cannot end before its child: as long as this task is there, so is the one that the word names.
    // ordering: relaxed: published with the job, by the queue that it goes into.
    atomic_store_explicit(&self->reserved, (uintptr_t)swift_task_getCurrent() | counted, memory_order_relaxed);
}

bool crt_isCounted(const void *job) {
    // ordering: relaxed: written before the task first ran.
    return atomic_load_explicit(&((task *)job)->reserved, memory_order_relaxed) & counted;
}

uint32_t crt_strand(void *lost) {
    uint32_t news = 0;
    for (task *self = lost; self;) {
        // ordering: relaxed: written before the task first ran, and then only here, one bit of it.
        uintptr_t word = atomic_load_explicit(&self->reserved, memory_order_relaxed);
        if (!(word & counted)) break;           // the process's first task, or one whose end we would not see
        word = atomic_fetch_or_explicit(&self->reserved, stranded, memory_order_relaxed);
        if (word & stranded) break;             // and with it all that await it
        news++;
        self = (task *)(word & ~(uintptr_t)tagMask);
    }
    return news;
}
