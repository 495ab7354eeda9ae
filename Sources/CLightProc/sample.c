#define _GNU_SOURCE
#include "CLightProc.h"
#include "internal.h"

#include <errno.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static struct sigaction previousAction;

uint32_t crt_patience(void) { return CRT_PATIENCE; }

// Everything reachable from here is async-signal-safe: atomics and plain stores on memory that was allocated before, and
// system calls, whose function is bound (`bindSymbols` in trap.c).
static void handleSample(int signal, siginfo_t *info, void *context) {
    crt_thread *self = crt_currentThread;          // an initial-exec thread-local: one load, never allocates
    uint32_t requested = crt_sampleRequested;
    // ordering: acquire and release: pairs with the request. One that was withdrawn meanwhile is none.
    if (!self || !atomic_compare_exchange_strong_explicit(&self->sample.stage, &requested, crt_sampleBegun,
                                                          memory_order_acq_rel, memory_order_acquire)) {
        if (previousAction.sa_flags & SA_SIGINFO) previousAction.sa_sigaction(signal, info, context);
        else if (previousAction.sa_handler != SIG_DFL && previousAction.sa_handler != SIG_IGN) previousAction.sa_handler(signal);
        return;
    }
    int savedErrno = errno;                        // a thread-local of libc, present since the thread began
    crt_sample *sample = &self->sample;
    const ucontext_t *registers = context;
    crt_copyRegisters(sample->registers, registers);
#if defined(__x86_64__)
    uintptr_t address = (uintptr_t)registers->uc_mcontext.gregs[REG_RIP];
#else
    uintptr_t address = registers->uc_mcontext.pc;
#endif
    sample->process = self->process;
    // `next` is this thread's own, and only what it runs puts something there, by `crt_exchangeNext`: outside of that the
    // handler may take it as the thread itself could.
    crt_nodePool *nodes = crt_currentNodes;
    if ((self->process || self->runsPlainJob) && nodes && !crt_isExchanging(address)) {
        if (nodes->next && !sample->rescued) {
            sample->rescued = nodes->next;
            nodes->next = 0;
        }
        // Likewise: nobody is to live on for as long as others take.
        if (nodes->kept && !sample->unkept) {
            sample->unkept = nodes->kept;
            nodes->kept = 0;
        }
    }
    // ordering: release: publishes the fields above.
    atomic_store_explicit(&sample->stage, crt_sampleTaken, memory_order_release);
    crt_futexWake(&sample->stage, 1);
    uint32_t stage = crt_sampleTaken;
    // Ends: who looks lets the thread go; or, unless it holds it, does not within a second.
    for (int waits = 0; stage != crt_sampleNone; waits++) {
        if (stage == crt_sampleTaken && waits >= 10 * CRT_PATIENCE) {
            if (atomic_compare_exchange_strong_explicit(&sample->stage, &stage, crt_sampleNone, memory_order_acq_rel,
                                                        memory_order_acquire))
                break;
            continue;
        }
        crt_futexWait(&sample->stage, stage, 100000000);
        stage = atomic_load_explicit(&sample->stage, memory_order_acquire);
    }
    errno = savedErrno;
}

int crt_installSampleHandler(void) {
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_sigaction = handleSample;
    // On the thread's own stack there may be no room left.
    action.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_RESTART;
    sigfillset(&action.sa_mask);
    return sigaction(crt_sampleSignal, &action, &previousAction) == 0 ? 0 : errno;
}

bool crt_requestSample(crt_thread *thread) {
    // ordering: release: pairs with the handler's load.
    atomic_store_explicit(&thread->sample.stage, crt_sampleRequested, memory_order_release);
    if (thread->number && syscall(SYS_tgkill, getpid(), thread->number, crt_sampleSignal) == 0) return true;
    atomic_store_explicit(&thread->sample.stage, crt_sampleNone, memory_order_release);
    return false;
}

bool crt_awaitSample(crt_thread *thread, uint32_t milliseconds) {
    uint32_t stage = crt_sampleRequested;
    // Ends: the time is up; or the handler has begun, and then takes no time.
    for (uint32_t waited = 0; stage == crt_sampleRequested || stage == crt_sampleBegun; waited++) {
        if (waited >= milliseconds * CRT_PATIENCE && stage == crt_sampleRequested) {
            // ordering: acquire: as below. Fails if the thread came at the last moment.
            if (atomic_compare_exchange_strong_explicit(&thread->sample.stage, &stage, crt_sampleNone, memory_order_acq_rel,
                                                        memory_order_acquire))
                return false;
            continue;
        }
        crt_futexWait(&thread->sample.stage, stage, 1000000);
        // ordering: acquire: pairs with the handler's stores.
        stage = atomic_load_explicit(&thread->sample.stage, memory_order_acquire);
    }
    return true;
}

static bool moveSample(crt_thread *thread, uint32_t from, uint32_t to) {
    // ordering: acquire and release: what was read of the thread was read before it goes on.
    bool done = atomic_compare_exchange_strong_explicit(&thread->sample.stage, &from, to, memory_order_acq_rel,
                                                        memory_order_acquire);
    if (done) crt_futexWake(&thread->sample.stage, 1);
    return done;
}

bool crt_holdSample(crt_thread *thread, bool held) {
    return held ? moveSample(thread, crt_sampleTaken, crt_sampleHeld) : moveSample(thread, crt_sampleHeld, crt_sampleTaken);
}

bool crt_releaseSample(crt_thread *thread) { return moveSample(thread, crt_sampleTaken, crt_sampleNone); }

uintptr_t crt_takeRescued(crt_thread *thread) {
    uintptr_t item = thread->sample.rescued;
    thread->sample.rescued = 0;
    return item;
}

uintptr_t crt_takeUnkept(crt_thread *thread) {
    uintptr_t process = thread->sample.unkept;
    thread->sample.unkept = 0;
    return process;
}

// Both read what another thread writes, as a hint: a word each, read at once.
__attribute__((no_sanitize("thread")))
bool crt_seemsToHaveNext(const crt_nodePool *nodes) { return *(const volatile uintptr_t *)&nodes->next != 0; }

__attribute__((no_sanitize("thread")))
bool crt_seemsToRun(const crt_thread *thread) {
    return *(void *const volatile *)&thread->process || *(const volatile uint32_t *)&thread->runsPlainJob;
}
