// The part of trap containment that Swift cannot express soundly: the signal handler, the thread-locals it reads,
// and the jump to the base of a worker's stack. No policy is decided here and nothing is allocated.
#pragma once

#include <setjmp.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/// Registers by their DWARF number; on x86-64 the last used one (16) is the return address column, here the pc.
/// On arm64 x0-x30, sp (31), and pc (32).
enum { crt_registerCount = 33 };

/// The registers of a thread, out of the `ucontext_t` that the handler of a signal gets. Async-signal-safe.
void crt_copyRegisters(uintptr_t to[crt_registerCount], const void *ucontext);

/// What the handler found out about one trap. Written by the faulting thread, read by the reaper once `stage` says so.
typedef struct crt_trap {
    int32_t signal;
    int32_t code;                               // si_code
    uintptr_t address;                          // si_addr
    uintptr_t registers[crt_registerCount];
    uintptr_t taskExecutor;                     // identity of the current task's preferred executor, or 0
    uintptr_t taskExecutorWitness;              // its witness table, or 0
    void *task;                                 // which, or NULL; not to be touched once its thread goes on
    char *message;                              // what the Swift runtime said last, or NULL; malloc'ed, ours now
    _Atomic(uint32_t) stage;                    // 0: nothing, 1: signal and registers, 2: everything; a futex
} crt_trap;

/// What a faulting thread does after the reaper has looked at it.
enum {
    crt_verdictPending = 0,
    crt_verdictContain = 1,                     // end the thread at the base of its stack
    crt_verdictEscalate = 2,                    // give the signal to the handler that was installed before ours
    crt_verdictHeld = 3,                        // it will be "contain"; wait for that as long as it takes
};

/// What a thread that waits is called for.
enum {
    crt_callNone = 0,
    crt_callWork = 1,                           // to do what it was given
    crt_callInherit = 2,                        // to decide about `predecessor`, and to take its place
};

/// What a worker needs at hand when it sends or spawns; used by one thread at a time.
typedef struct crt_nodePool {
    void *free;                                 // message nodes of one size, a list
    uint64_t meter;                             // their number * 2^32 + the (signed) reductions left in the current run
    uint64_t nextID, endID;                     // numbers for processes that are made here
    uintptr_t scheduler;                        // whose worker it is
    uintptr_t next;                             // the item that runs next here, or 0
    uintptr_t kept;                             // the process that ran last, retained, until the next turn is over; or 0
    void (*displaced)(struct crt_nodePool *, uintptr_t item);   // finds another place for the item that was next
    int64_t held;                               // processes made here less those that ended here, of that scheduler
    uintptr_t home, homeMask;                   // by which a process is known to belong on this worker: see `ProcTag`
    int32_t cut;                                // reductions that a run has less than usual: 0 but under the seeded executor
    uint32_t flooded;                           // 1 + the worker of a receiver that is behind with what this turn sent; or 0
    uintptr_t region;                           // 1 + the region that new nodes come from, or 0: see `NodeRegions`
} crt_nodePool;

/// Puts an item into `next` and returns what was there. By the worker.
///
/// In a section of its own, so that who interrupts the thread knows whether it is in the middle of this.
uintptr_t crt_exchangeNext(crt_nodePool *nodes, uintptr_t item);
/// As above, for a process that is `kept`: that hold goes with it. Returns 1, and does nothing, if it is not.
uintptr_t crt_exchangeNextForKept(crt_nodePool *nodes, uintptr_t process);
/// Whether an instruction at this address may be about to do that.
bool crt_isExchanging(uintptr_t address);

/// Puts a process, retained, or 0 in the place of the one that is kept, and returns that: the caller is to let go of it. By the
/// worker, while it runs no process, as below.
static inline uintptr_t crt_keep(crt_nodePool *nodes, uintptr_t process) {
    __asm__ volatile("" ::: "memory");
    uintptr_t before = nodes->kept;
    nodes->kept = process;
    __asm__ volatile("" ::: "memory");
    return before;
}

/// Takes the item out of `next`; 0 if there is none. By the worker, while it runs no process: then nobody interrupts.
static inline uintptr_t crt_takeNext(crt_nodePool *nodes) {
    __asm__ volatile("" ::: "memory");             // not before the thread is known to run none
    uintptr_t item = nodes->next;
    if (item) nodes->next = 0;
    __asm__ volatile("" ::: "memory");             // done before the thread is known to run a process
    return item;
}

/// A look at a thread that runs on: taken on that thread, in the handler of a signal. See `crt_requestSample`.
typedef struct crt_sample {
    _Atomic(uint32_t) stage;                    // a futex
    uintptr_t registers[crt_registerCount];
    void *process;                              // what it was running; valid while the stage is "held"
    uintptr_t rescued;                          // the item that was next, taken out of there, or 0
    uintptr_t unkept;                           // the process that was kept, taken out of there, or 0
} crt_sample;

/// How far a look at a thread has come.
enum {
    crt_sampleNone = 0,
    crt_sampleRequested = 1,                    // by who wants to look; the signal is on its way
    crt_sampleBegun = 2,                        // by the thread, which writes down what there is to see
    crt_sampleTaken = 3,                        // by the thread, which waits for a while
    crt_sampleHeld = 4,                         // by who looks: the thread waits as long as it takes
};

/// One thread that may run processes. Owned by who created the thread; outlives it.
typedef struct crt_thread {
    void *process;                              // what is running now, opaque here; NULL: nothing, or a job of no process
    uint32_t criticalDepth;                     // > 0: a lock of the runtime is held; traps are not contained
    uint32_t hasEnded;                          // set once the thread left crt_runThread; read after a join
    const void *job;                            // the job of a process that is running, or NULL: see `crt_beginJob`
    void *jobExecutor;
    uint32_t jobNumber;
    uintptr_t guardLow, stackLow, stackHigh;    // [guardLow, stackLow) is the guard, [stackLow, stackHigh) the stack
    void *alternateStack;
    size_t alternateStackSize;
    void *owner;                                // for the executor: whose thread this is
    void *seat;                                 // for the executor: the worker this thread is, or NULL
    void *guest;                                // whose job an actor's process is running, retained: a `ProcTaskExecutor`
    // The thread that waits to take this one's place when it traps, or NULL: then the reaper is called. Whoever takes
    // it out of here, by an exchange, decides about it.
    _Atomic(struct crt_thread *) heir;
    _Atomic(uint32_t) call;                     // what a waiting thread is called for; a futex
    struct crt_thread *predecessor;             // whom an heir was called by
    sigjmp_buf base;
    crt_trap trap;
    _Atomic(uint32_t) verdict;                  // a futex
    struct crt_thread *nextTrapped;
    crt_sample sample;
    uint32_t runsPlainJob;                      // it runs a job of no process; the current task may be one of a process
    int32_t number;                             // the kernel's, once it has started
    // The number of the process of messages of any type that handled one here last, and of which type that was.
    uintptr_t receiver, received;
} crt_thread;

/// The calling thread's record, or NULL on a thread that is not ours.
extern __thread crt_thread *crt_currentThread __attribute__((tls_model("initial-exec")));

static inline crt_thread *crt_self(void) { return crt_currentThread; }

/// What a look at a thread found; in C, as for Swift the address would be an access to the whole record.
static inline const uintptr_t *crt_sampledRegisters(const crt_thread *thread) { return thread->sample.registers; }

/// Makes a record the calling thread's, or takes it away (NULL). For a thread that runs processes without containing
/// their traps: such a record has no stack bounds.
static inline void crt_setSelf(crt_thread *thread) { crt_currentThread = thread; }

extern __thread crt_nodePool *crt_currentNodes __attribute__((tls_model("initial-exec")));

/// The node pool of the calling worker's seat, or NULL on a thread that is not a worker.
static inline crt_nodePool *crt_nodes(void) { return crt_currentNodes; }

/// Makes a node pool the calling thread's, until it ends.
static inline void crt_setNodes(crt_nodePool *nodes) { crt_currentNodes = nodes; }

/// What the calling thread is running, or NULL. A task that is current there may belong to another process.
static inline void *crt_currentProcess(void) {
    crt_thread *self = crt_currentThread;
    return self ? self->process : NULL;
}

/// The number of the task that a job is of. It stands in every job, at the same place in all versions of the runtime.
static inline uint32_t crt_taskNumber(const void *job) { return ((const uint32_t *)job)[9]; }

/// Remembers a job of a process, and its executor, before a thread runs it. By the thread.
///
/// If the current task is that job's when the thread traps, it is known whose it is without asking the runtime, which takes the
/// lock of the task's status. The address alone does not tell: the task may have ended elsewhere, another have its memory,
/// and the thread be giving an actor's turn to that.
static inline void crt_beginJob(crt_thread *self, const void *job, void *executor) {
    self->jobExecutor = executor;
    self->jobNumber = crt_taskNumber(job);
    self->job = job;
}
/// The job has returned.
static inline void crt_endJob(crt_thread *self) { self->job = NULL; }

/// Marks a stretch in which a lock of the runtime is held. Nests.
static inline void crt_enterCritical(void) {
    crt_thread *self = crt_currentThread;
    if (self) self->criticalDepth++;
}
static inline void crt_leaveCritical(void) {
    crt_thread *self = crt_currentThread;
    if (self) self->criticalDepth--;
}

// Looks at the stack so many pages of 4 KiB below: if it does not reach that far, it is used up here and now. One load.
//
// For the moment before somebody else is promised something (that he will be run, or woken) that takes some calls to keep: a
// stack that is used up on the way is contained, and whoever was promised it would wait for ever. Who keeps a promise by
// way of another looks further than that one does. In debug builds a send takes 3.5 KiB, a job's way into its queue 2.5.
#if defined(__x86_64__)
#define CRT_TOUCH_STACK(pages) __asm__ volatile("testb $0, -4096*" #pages "(%%rsp)" ::: "cc", "memory")
#elif defined(__aarch64__)
#define CRT_TOUCH_STACK(pages) \
    __asm__ volatile("sub x16, sp, #" #pages ", lsl #12\n\tldrb wzr, [x16]" ::: "x16", "memory")
#endif

/// Before a message is made, by a worker.
static inline void crt_touchStack(void) { CRT_TOUCH_STACK(2); }

/// Before something is queued. Any thread: those that are not ours have stacks of any size.
static inline void crt_probeStack(void) {
    crt_thread *self = crt_currentThread;
    if (self && self->stackHigh) CRT_TOUCH_STACK(1);
}

/// Before a message is made. Any thread, as above.
static inline void crt_probeStackForMessage(void) {
    crt_thread *self = crt_currentThread;
    if (self && self->stackHigh) CRT_TOUCH_STACK(2);
}

/// Before what is kept by sending a message. Any thread, as above.
static inline void crt_probeStackForMore(void) {
    crt_thread *self = crt_currentThread;
    if (self && self->stackHigh) CRT_TOUCH_STACK(3);
}

/// Installs the handler for the signals that traps raise, once per process.
/// Returns 0, or the errno of the first signal that failed.
int crt_installTrapHandlers(void);

/// Runs `body` on the calling thread with `self` as its record and its alternate signal stack in place.
/// Returns false when the thread got here by the verdict "contain", in which case nothing but ending it is allowed.
bool crt_runThread(crt_thread *self, void (*body)(void *context), void *context);

/// How often the reaper was called so far: by a thread that trapped, or by `crt_wakeReaper`.
///
/// To be read before it looks for what there is to do, so that no call is slept through.
uint32_t crt_reaperCalls(void);
/// Waits until the reaper is called, unless it was since `seen`.
void crt_awaitReaperCall(uint32_t seen);
/// Returns the threads without an heir that trapped since the last call as a list, or NULL.
crt_thread *crt_takeTraps(void);
/// What a handler took of the runtime's words can be found with its report from now on.
void crt_trapReported(void);
/// Whether handlers were entered whose trap is not reported yet: they may have taken the words of others.
bool crt_hasTrapsUnderWay(void);
/// Calls the reaper.
void crt_wakeReaper(void);

/// Waits until the handler has told everything. False when it did not within the time.
bool crt_awaitTrapDetails(crt_thread *thread, uint32_t milliseconds);
/// Ends the program by the trap of a thread whose handler does not come to it: that waits for a lock. By who decides.
_Noreturn void crt_endProgram(crt_thread *thread);

/// Sleeps until the calling thread, whose record it is, is called; returns what for.
uint32_t crt_awaitCall(crt_thread *self);
/// Wakes a thread that waits, for work.
void crt_callForWork(crt_thread *thread);
/// Makes a waiting thread the heir of a running one.
void crt_setHeir(crt_thread *thread, crt_thread *heir);
bool crt_hasHeir(const crt_thread *thread);
/// As above, of an heir that was called in vain, by the heir, which waits for the next call then. False if there is another one.
bool crt_returnHeir(crt_thread *thread, crt_thread *heir);

/// Takes the heir away from a thread; NULL if it has none, or has called it.
crt_thread *crt_takeHeir(crt_thread *thread);

/// Tells a parked thread what to do. It ends or goes on at once, except if told to hold. False: it has stopped waiting, the
/// program ends.
bool crt_deliverVerdict(crt_thread *thread, uint32_t verdict);

/// Takes the locks of `stdout` and `stderr` from a parked thread that will end: `print` holds the first while it asks a
/// value for its description. glibc only; elsewhere it does nothing.
void crt_releaseStandardStreams(uintptr_t thread);

/// The size an alternate signal stack needs on this CPU.
size_t crt_alternateStackSize(void);

/// Asks a thread for a look at it: sends it SIGURG, whose handler writes down the registers, takes the item that was next
/// away so that others can run it (unless the thread is about to exchange it), and the process that is kept, and waits. False if
/// the thread is gone.
///
/// For one thread at a time. System calls that the thread waits in go on afterwards; sleeps and polls end with EINTR.
bool crt_requestSample(crt_thread *thread);
/// Waits until it was taken. False if the thread does not react: the request is withdrawn.
bool crt_awaitSample(crt_thread *thread, uint32_t milliseconds);
/// Has the thread wait as long as it takes, or (false) for a second. Returns whether it still waited.
bool crt_holdSample(crt_thread *thread, bool held);
/// Lets the thread go on. Returns whether it still waited.
bool crt_releaseSample(crt_thread *thread);
/// Takes what was rescued, or 0.
uintptr_t crt_takeRescued(crt_thread *thread);
/// Takes the process that was kept, retained, or 0.
uintptr_t crt_takeUnkept(crt_thread *thread);
/// Whether a worker seems to have an item in `next`. Any thread.
bool crt_seemsToHaveNext(const crt_nodePool *nodes);
/// Whether the thread seems to run a process or job. Any thread.
bool crt_seemsToRun(const crt_thread *thread);
/// Installs the handler of SIGURG, once per process. Returns 0, or errno.
int crt_installSampleHandler(void);
/// How many times as long everything takes in this program: more than 1 where a sanitizer watches it.
uint32_t crt_patience(void);

/// Tells the CPU that this is a wait loop.
static inline void crt_pause(void) {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

/// Futex on a 32-bit word. Wait returns when woken, when the value differs, on a signal, or after the timeout
/// (negative: none).
void crt_futexWait(const volatile void *word, uint32_t expected, int64_t timeoutNanoseconds);
void crt_futexWake(const volatile void *word, int32_t count);

/// Gives the calling thread a name of up to 15 bytes (pthread_setname_np is hidden from Swift).
void crt_nameThread(const char *name);

/// Gives the calling thread the processors of the program's main thread and the memory policy of the system, whatever it has
/// from the thread that made it (the GNU functions of <sched.h> are hidden from Swift).
void crt_useAllProcessors(void);
