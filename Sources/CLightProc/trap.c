#define _GNU_SOURCE
#include "CLightProc.h"
#include "internal.h"

#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/syscall.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

#ifndef AT_MINSIGSTKSZ
#define AT_MINSIGSTKSZ 51
#endif

__thread crt_thread *crt_currentThread __attribute__((tls_model("initial-exec")));

// ---------------------------------------------------------------------------------------------------- futex

// async-signal-safe: one system call.
void crt_futexWait(const volatile void *word, uint32_t expected, int64_t timeoutNanoseconds) {
    struct timespec timeout = {timeoutNanoseconds / 1000000000, timeoutNanoseconds % 1000000000};
    syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, expected, timeoutNanoseconds < 0 ? NULL : &timeout, NULL, 0);
}

// async-signal-safe: one system call.
void crt_futexWake(const volatile void *word, int32_t count) {
    syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, count, NULL, NULL, 0);
}

// ---------------------------------------------------------------------------------------------------- the handler

// The Swift concurrency runtime's own accessors. Both read the current thread's task; the second takes that task's
// status lock, which is recursive, so a trap below a holder on the same thread does not block.
extern void *swift_task_getCurrent(void) __attribute__((swiftcall));
typedef struct { uintptr_t identity, witness; } TaskExecutorRef;
extern TaskExecutorRef swift_task_getPreferredTaskExecutor(void) __attribute__((swiftcall));
// Where the Swift runtime keeps the text of its last fatal error.
extern _Atomic(char *) *swift_getFatalErrorMessageBuffer(void) __attribute__((weak));

static const int trapSignals[] = {SIGILL, SIGTRAP, SIGABRT, SIGFPE, SIGSEGV, SIGBUS};
enum { trapSignalCount = sizeof trapSignals / sizeof trapSignals[0] };
static struct sigaction previousActions[NSIG];

static _Atomic(crt_thread *) trappedThreads;   // a stack; pushed by handlers, taken whole by the reaper
static _Atomic(uint32_t) trapsUnderWay;        // handlers that were entered and whose trap is not reported yet
static _Atomic(uint32_t) reaperSignal;         // a futex; counts pushes

// Whether who had the signal before us has a function for it. async-signal-safe: plain loads.
static bool isHandler(const struct sigaction *former) {
    return (former->sa_flags & SA_SIGINFO) || (former->sa_handler != SIG_DFL && former->sa_handler != SIG_IGN);
}

// async-signal-safe: plain loads, sigaction, and system calls by number; and whatever the former handler does.
// Gives the signal to whoever would have got it without us. A handler is called as the kernel would call it, and we stay
// in place: it may know what to do, as one that serves the guard pages of another runtime, and then the program goes on.
// Otherwise the former action is put back and it happens again, by executing the faulting instruction once more where it
// faulted, or by sending the signal again where it was sent.
static void passOn(int signal, siginfo_t *info, void *context) {
    const struct sigaction *former = &previousActions[signal];
    bool isSigned = former->sa_flags & SA_SIGINFO;
    if (!isSigned && former->sa_handler == SIG_IGN && info->si_code <= 0) return;
    if (isHandler(former) && !(former->sa_flags & SA_RESETHAND)) {
        // Blocked meanwhile is what the interrupted code had blocked, what the handler wants, and the signal itself. The
        // kernel's set is the first word of the library's. It is put back when our handler returns.
        unsigned long mask = *(const unsigned long *)&((const ucontext_t *)context)->uc_sigmask;
        mask |= *(const unsigned long *)&former->sa_mask;
        if (!(former->sa_flags & SA_NODEFER)) mask |= 1ul << (signal - 1);
        syscall(SYS_rt_sigprocmask, SIG_SETMASK, &mask, NULL, sizeof mask);
        if (isSigned) former->sa_sigaction(signal, info, context);
        else former->sa_handler(signal);
        return;
    }
    sigaction(signal, former, NULL);
    if (info->si_code <= 0 || signal == SIGTRAP) syscall(SYS_tgkill, getpid(), syscall(SYS_gettid), signal);
}

// async-signal-safe: plain stores to memory of this thread.
void crt_copyRegisters(uintptr_t to[crt_registerCount], const void *ucontext) {
    const ucontext_t *context = ucontext;
#if defined(__x86_64__)
    static const int order[] = {REG_RAX, REG_RDX, REG_RCX, REG_RBX, REG_RSI, REG_RDI, REG_RBP, REG_RSP, REG_R8,
                                REG_R9,  REG_R10, REG_R11, REG_R12, REG_R13, REG_R14, REG_R15, REG_RIP};
    for (unsigned i = 0; i < sizeof order / sizeof order[0]; i++) to[i] = (uintptr_t)context->uc_mcontext.gregs[order[i]];
#elif defined(__aarch64__)
    for (unsigned i = 0; i < 31; i++) to[i] = context->uc_mcontext.regs[i];
    to[31] = context->uc_mcontext.sp;
    to[32] = context->uc_mcontext.pc;
#else
#error "trap containment knows x86-64 and arm64"
#endif
}

// async-signal-safe: atomics on memory that was allocated before, and system calls.
// Tells whoever decides: the heir, which sleeps on the same PU and goes on in this thread's place, or else the reaper.
static void callForVerdict(crt_thread *self) {
    // ordering: acquire: publishes the heir's record to us; whoever takes the heir out owns it.
    crt_thread *heir = atomic_exchange_explicit(&self->heir, NULL, memory_order_acquire);
    if (heir) {
        heir->predecessor = self;
        // ordering: release: publishes our record to the heir.
        atomic_store_explicit(&heir->call, crt_callInherit, memory_order_release);
        crt_futexWake(&heir->call, 1);
        return;
    }
    crt_thread *head = atomic_load_explicit(&trappedThreads, memory_order_relaxed);
    do self->nextTrapped = head;                   // retried only when another thread trapped at the same instant
    // ordering: release: publishes the record to the reaper's acquiring exchange.
    while (!atomic_compare_exchange_weak_explicit(&trappedThreads, &head, self, memory_order_release, memory_order_relaxed));
    atomic_fetch_add_explicit(&reaperSignal, 1, memory_order_release);
    crt_futexWake(&reaperSignal, 1);
}

// async-signal-safe: an exchange with the word that the runtime itself uses.
// Puts back what the runtime said, for whoever gets the signal after us. Words that came meanwhile are another thread's, and
// stay.
static void putBack(char *message) {
    char *none = NULL;
    // ordering: release: publishes the text, as the runtime does.
    if (message)
        atomic_compare_exchange_strong_explicit(swift_getFatalErrorMessageBuffer(), &none, message, memory_order_release,
                                                memory_order_relaxed);
}

// Not by the handler. Where symbols are bound lazily the first call of a function in another object goes through the dynamic
// loader, which takes locks: each function that the handlers call is called once from here, or by who installs them
// (sigaction, sigfillset).
static void bindSymbols(void) {
    errno = errno;                                 // is a call, too
    syscall(SYS_tgkill, getpid(), syscall(SYS_gettid), 0);
    if (swift_getFatalErrorMessageBuffer) swift_getFatalErrorMessageBuffer();
    swift_task_getCurrent();
    swift_task_getPreferredTaskExecutor();         // none, if there is no task
    sigjmp_buf here;
    if (sigsetjmp(here, 0) == 0) siglongjmp(here, 1);
}

// Everything reachable from here is async-signal-safe: what is called in other objects is bound, see `bindSymbols`. Line by
// line; what has no comment is arithmetic, or loads and stores of locals:
static void handleTrap(int signal, siginfo_t *info, void *context) {
    crt_thread *self = crt_currentThread;          // an initial-exec thread-local: one load, never allocates
    // Not a worker that runs something, or one inside a lock of ours: not contained. A job of no process may be an actor's
    // turn, in which a task of a process is the current one.
    // A signal that was sent counts only if the thread aborted itself (abort() raises by tgkill, hence SI_TKILL). Loads of
    // the thread's own record and of the kernel's frame; `getpid` is a system call.
    if (!self || !(self->process || self->runsPlainJob) || !self->stackHigh || self->criticalDepth
        || (info->si_code <= 0
            && !(signal == SIGABRT && info->si_code == SI_TKILL && info->si_pid == getpid()))) {
        passOn(signal, info, context);             // safe, see there
        return;
    }
    int savedErrno = errno;                        // a thread-local of libc, present since the thread began
    crt_trap *trap = &self->trap;                  // memory of this thread's record, allocated before it started
    trap->signal = signal;                         // plain stores to it, down to the registers
    trap->code = info->si_code;
    trap->address = (uintptr_t)info->si_addr;
    crt_copyRegisters(trap->registers, context);   // likewise, see there
    trap->taskExecutor = trap->taskExecutorWitness = 0;
    // ordering: sequentially consistent: counted before the words are taken, so that who misses its words knows of us.
    atomic_fetch_add(&trapsUnderWay, 1);
    // What the Swift runtime said: the first returns the address of an atomic pointer and allocates nothing.
    trap->message = NULL;
    if (swift_getFatalErrorMessageBuffer)
        // ordering: acquire: publishes the text to us.
        trap->message = atomic_exchange_explicit(swift_getFatalErrorMessageBuffer(), NULL, memory_order_acquire);
    trap->task = swift_task_getCurrent();          // reads a thread-local that `crt_runThread` has used before
    // Mostly it is the one whose job this thread runs: then there is no need to ask. Loads of the thread's own record and
    // of the task, which is alive, as it is current.
    bool isAsked = trap->task && !(trap->task == self->job && crt_taskNumber(trap->task) == self->jobNumber);
    if (trap->task && !isAsked) {
        trap->taskExecutor = (uintptr_t)self->jobExecutor;
        trap->taskExecutorWitness = crt_executorWitness();   // a load
    }
    // ordering: release: pairs with the acquire loads of who decides; publishes the fields above.
    atomic_store_explicit(&trap->stage, isAsked ? 1 : 2, memory_order_release);
    // ordering: relaxed: this word is written by who decides only after it was given the record, below.
    atomic_store_explicit(&self->verdict, crt_verdictPending, memory_order_relaxed);
    callForVerdict(self);                          // stores and system calls, see there
    if (isAsked) {
        // Called after others know of the trap, for it may wait for a lock of the task: who cancels the task holds that
        // while handlers run, and those may wait for what this thread holds. Then their wait for stage 2 times out, and
        // they end the program.
        TaskExecutorRef executor = swift_task_getPreferredTaskExecutor();
        trap->taskExecutor = executor.identity;    // plain stores to the record
        trap->taskExecutorWitness = executor.witness;
        // ordering: release: as above.
        atomic_store_explicit(&trap->stage, 2, memory_order_release);
        crt_futexWake(&trap->stage, 1);            // a system call
    }

    // Parked until a normal thread has decided. A verdict always comes, unless who decides waits itself for a lock that a
    // parked thread holds (the allocator's): then this thread stops waiting and the program ends, as it must.
    uint32_t verdict = crt_verdictPending;
    for (int waits = 0; (waits < 100 * CRT_PATIENCE && verdict == crt_verdictPending) || verdict == crt_verdictHeld;
         waits++) {
        crt_futexWait(&self->verdict, verdict, 100000000);   // a system call
        // ordering: acquire: pairs with `crt_deliverVerdict`.
        verdict = atomic_load_explicit(&self->verdict, memory_order_acquire);
    }
    // Fails if the verdict came at the last moment: then that counts. A held one is waited for.
    if (verdict == crt_verdictPending)
        atomic_compare_exchange_strong_explicit(&self->verdict, &verdict, crt_verdictEscalate, memory_order_acq_rel,
                                                memory_order_acquire);
    if (verdict == crt_verdictContain)
        siglongjmp(self->base, 1);                 // to crt_runThread below, which only ends the thread
    putBack(trap->message);                        // ours: who decides takes it only after "held" was delivered
    errno = savedErrno;                            // as above
    passOn(signal, info, context);                 // safe, see there
}

int crt_installTrapHandlers(void) {
    bindSymbols();
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_sigaction = handleTrap;
    action.sa_flags = SA_SIGINFO | SA_ONSTACK;
    sigfillset(&action.sa_mask);
    for (int i = 0; i < trapSignalCount; i++)
        if (sigaction(trapSignals[i], &action, &previousActions[trapSignals[i]]) != 0) return errno;
    return 0;
}

// ---------------------------------------------------------------------------------------------------- the thread

size_t crt_alternateStackSize(void) {
    // The kernel's frame holds the whole extended register state (about 11 KiB with AVX-512 and AMX); the rest is for
    // the handler itself and for a handler that was installed before ours.
    size_t frame = getauxval(AT_MINSIGSTKSZ);
    return (frame < 16384 ? 16384 : (frame + 4095) & ~(size_t)4095) + 48 * 1024;
}

// When a thread ends, the C library calls the destructors of its thread-specific data (the keys of pthreads): code of
// others, over what may be half changed, or who does not allow the end in the middle of something, as Dispatch below
// `sync`. After a trap none of that is to run: what the thread has there leaks. A sanitizer keeps its own record of the
// thread behind such a key.
static void forgetSpecifics(void) {
#if !CRT_SANITIZED
    for (pthread_key_t key = 0; key < PTHREAD_KEYS_MAX; key++) pthread_setspecific(key, NULL);   // EINVAL if there is none
#endif
}

bool crt_runThread(crt_thread *self, void (*body)(void *context), void *context) {
    stack_t alternate = {.ss_sp = self->alternateStack, .ss_size = self->alternateStackSize, .ss_flags = 0};
    sigaltstack(&alternate, NULL);
    // The thread that made this one may have blocked them (Dispatch's workers do); blocked, a trap would end the program.
    sigset_t traps;
    sigemptyset(&traps);
    for (int i = 0; i < trapSignalCount; i++) sigaddset(&traps, trapSignals[i]);
    sigaddset(&traps, crt_sampleSignal);
    pthread_sigmask(SIG_UNBLOCK, &traps, NULL);
    self->number = (int32_t)syscall(SYS_gettid);
    crt_currentThread = self;
    swift_task_getCurrent();                       // its thread-local exists from now on, which may take an allocation
    bool returned = sigsetjmp(self->base, 0) == 0;
    if (returned) body(context);
    else forgetSpecifics();
    // Locals are not relied upon behind the jump: the thread-local says who we are.
    crt_thread *me = crt_currentThread;
    crt_currentThread = NULL;
    stack_t off = {.ss_sp = NULL, .ss_size = 0, .ss_flags = SS_DISABLE};
    sigaltstack(&off, NULL);
    me->process = NULL;
    me->runsPlainJob = 0;
    me->hasEnded = 1;
    return returned;
}

uint32_t crt_awaitCall(crt_thread *self) {
    while (true) {
        // ordering: acquire: pairs with the caller's release; publishes what it left for us.
        uint32_t call = atomic_load_explicit(&self->call, memory_order_acquire);
        if (call != crt_callNone) return call;
        crt_futexWait(&self->call, crt_callNone, -1);
    }
}

void crt_callForWork(crt_thread *thread) {
    // ordering: release: as above.
    atomic_store_explicit(&thread->call, crt_callWork, memory_order_release);
    crt_futexWake(&thread->call, 1);
}

void crt_setHeir(crt_thread *thread, crt_thread *heir) {
    // ordering: release: publishes the heir's record to the handler.
    atomic_store_explicit(&thread->heir, heir, memory_order_release);
}

bool crt_returnHeir(crt_thread *thread, crt_thread *heir) {
    // ordering: relaxed: published by the exchange.
    atomic_store_explicit(&heir->call, crt_callNone, memory_order_relaxed);
    crt_thread *none = NULL;
    // ordering: release: as above.
    return atomic_compare_exchange_strong_explicit(&thread->heir, &none, heir, memory_order_release, memory_order_relaxed);
}

bool crt_hasHeir(const crt_thread *thread) {
    // ordering: relaxed: a hint; who takes it out decides.
    return atomic_load_explicit(&thread->heir, memory_order_relaxed) != NULL;
}

crt_thread *crt_takeHeir(crt_thread *thread) {
    // ordering: acquire: as in `callForVerdict`.
    return atomic_exchange_explicit(&thread->heir, NULL, memory_order_acquire);
}

// ---------------------------------------------------------------------------------------------------- the reaper

crt_thread *crt_takeTraps(void) {
    // ordering: acquire: pairs with the handler's release; publishes the records.
    return atomic_exchange_explicit(&trappedThreads, NULL, memory_order_acquire);
}

uint32_t crt_reaperCalls(void) {
    // ordering: acquire: what was done before a call that is counted here is seen by who looks for it next.
    return atomic_load_explicit(&reaperSignal, memory_order_acquire);
}

void crt_awaitReaperCall(uint32_t seen) { crt_futexWait(&reaperSignal, seen, -1); }

void crt_trapReported(void) { atomic_fetch_sub(&trapsUnderWay, 1); }

bool crt_hasTrapsUnderWay(void) { return atomic_load(&trapsUnderWay) > 0; }

void crt_wakeReaper(void) {
    atomic_fetch_add_explicit(&reaperSignal, 1, memory_order_release);
    crt_futexWake(&reaperSignal, INT32_MAX);
}

void crt_releaseStandardStreams(uintptr_t thread) {
#if defined(__GLIBC__)
    // glibc's lock of a stream (its sysdeps/nptl/stdio-lock.h): recursive, and the owner is what pthread_self() returns.
    typedef struct { int lock, count; void *owner; } streamLock;
    FILE *streams[] = {stdout, stderr};
    for (unsigned i = 0; i < sizeof streams / sizeof streams[0]; i++) {
        const volatile streamLock *lock = (const volatile streamLock *)streams[i]->_lock;
        // The owner does not move: it is parked. Unlocking does not ask who does it. More than 64 levels do not occur.
        for (int level = 0; level < 64 && lock && (uintptr_t)lock->owner == thread; level++) funlockfile(streams[i]);
    }
#else
    (void)thread;
#endif
}

bool crt_awaitTrapDetails(crt_thread *thread, uint32_t milliseconds) {
    for (uint32_t waited = 0; waited < milliseconds * CRT_PATIENCE; waited++) {
        if (atomic_load_explicit(&thread->trap.stage, memory_order_acquire) == 2) return true;
        crt_futexWait(&thread->trap.stage, 1, 1000000);
    }
    return atomic_load_explicit(&thread->trap.stage, memory_order_acquire) == 2;
}

void crt_endProgram(crt_thread *thread) {
    int signal = thread->trap.signal;
    putBack(thread->trap.message);
    sigset_t only;
    sigemptyset(&only);
    sigaddset(&only, signal);
    pthread_sigmask(SIG_UNBLOCK, &only, NULL);
    // First whoever would have got it without us: it may have more to tell. If that returns, or ignores it, the kernel.
    const struct sigaction *former = &previousActions[signal];
    const struct sigaction none = {.sa_handler = SIG_DFL};
    if (isHandler(former)) {
        sigaction(signal, former, NULL);
        syscall(SYS_tgkill, getpid(), syscall(SYS_gettid), signal);
    }
    sigaction(signal, &none, NULL);
    syscall(SYS_tgkill, getpid(), syscall(SYS_gettid), signal);
    abort();                                       // not reached: these signals end a program
}

bool crt_deliverVerdict(crt_thread *thread, uint32_t verdict) {
    uint32_t known = crt_verdictPending;           // a thread that gave up waiting has decided for itself
    // ordering: release: what was done before the verdict is seen by the thread.
    // Retried once at most: the one who decides is alone, and the thread itself changes only a pending verdict.
    while (!atomic_compare_exchange_strong_explicit(&thread->verdict, &known, verdict, memory_order_acq_rel,
                                                    memory_order_relaxed))
        if (known != crt_verdictHeld) return false;
    if (verdict != crt_verdictHeld) crt_futexWake(&thread->verdict, 1);
    return true;
}

void crt_nameThread(const char *name) {
    pthread_setname_np(pthread_self(), name);   // ERANGE for a longer name: then it has none
}

void crt_useAllProcessors(void) {
    unsigned long mask[1024];                      // 65,536 processors, more than any kernel is built for
    long bytes = syscall(SYS_sched_getaffinity, getpid(), sizeof mask, mask);
    // Where a sandbox refuses either (EPERM), it stays where it is: slower at worst.
    if (bytes > 0) syscall(SYS_sched_setaffinity, 0, bytes, mask);
    syscall(SYS_set_mempolicy, 0, NULL, 0);        // MPOL_DEFAULT; ENOSYS, EPERM: likewise
}
