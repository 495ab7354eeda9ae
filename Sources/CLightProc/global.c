// The hooks of the global executor: see crt_global.h. They are variables of the runtime (its Concurrency.h), looked up by
// weak references, so that a runtime without them is no error when the program is linked.
#include "crt_global.h"

#include <stddef.h>

#define SWIFT __attribute__((swiftcall))

typedef SWIFT void Enqueue(void *job);
typedef SWIFT void EnqueueHook(void *job, Enqueue *original);
typedef SWIFT void EnqueueAfter(unsigned long long nanoseconds, void *job);
typedef SWIFT void EnqueueAfterHook(unsigned long long nanoseconds, void *job, EnqueueAfter *original);
typedef SWIFT void EnqueueAt(long long seconds, long long nanoseconds, long long toleranceSeconds,
                             long long toleranceNanoseconds, int clock, void *job);
typedef SWIFT void EnqueueAtHook(long long seconds, long long nanoseconds, long long toleranceSeconds,
                                 long long toleranceNanoseconds, int clock, void *job, EnqueueAt *original);

extern EnqueueHook *swift_task_enqueueGlobal_hook __attribute__((weak));
extern EnqueueAfterHook *swift_task_enqueueGlobalWithDelay_hook __attribute__((weak));
extern EnqueueAtHook *swift_task_enqueueGlobalWithDeadline_hook __attribute__((weak));
extern SWIFT void swift_task_enqueueGlobal(void *job);
extern SWIFT void swift_task_enqueueGlobalWithDelay(unsigned long long nanoseconds, void *job);
extern SWIFT void swift_get_time(long long *seconds, long long *nanoseconds, int clock) __attribute__((weak));

static crt_globalExecutor global;               // written before the hooks are set

static SWIFT void enqueue(void *job, Enqueue *original) {
    if (!global.enqueue(job)) original(job);
}

static SWIFT void enqueueAfter(unsigned long long nanoseconds, void *job, EnqueueAfter *original) {
    if (!global.enqueueAfter(job, nanoseconds)) original(nanoseconds, job);
}

enum { continuousClock = 1, suspendingClock = 2 };

static SWIFT void enqueueAt(long long seconds, long long nanoseconds, long long toleranceSeconds,
                            long long toleranceNanoseconds, int clock, void *job, EnqueueAt *original) {
    if (clock == continuousClock || clock == suspendingClock) {
        long long now, part;
        swift_get_time(&now, &part, clock);
        __int128 delay = ((__int128)seconds - now) * 1000000000 + (nanoseconds - part);
        uint64_t rounded = delay < 0 ? 0 : delay > INT64_MAX ? INT64_MAX : (uint64_t)delay;
        if (global.enqueueAfter(job, rounded)) return;
    }
    original(seconds, nanoseconds, toleranceSeconds, toleranceNanoseconds, clock, job);
}

int crt_installGlobalExecutor(crt_globalExecutor executor) {
    if (!&swift_task_enqueueGlobal_hook || !&swift_task_enqueueGlobalWithDelay_hook
        || !&swift_task_enqueueGlobalWithDeadline_hook || !swift_get_time)
        return crt_globalUnsupported;
    if (swift_task_enqueueGlobal_hook || swift_task_enqueueGlobalWithDelay_hook
        || swift_task_enqueueGlobalWithDeadline_hook)
        return crt_globalTaken;
    global = executor;
    // ordering: release: who calls a hook finds the executor: the runtime's load and the call depend on each other.
    __atomic_store_n(&swift_task_enqueueGlobalWithDelay_hook, enqueueAfter, __ATOMIC_RELEASE);
    __atomic_store_n(&swift_task_enqueueGlobalWithDeadline_hook, enqueueAt, __ATOMIC_RELEASE);
    __atomic_store_n(&swift_task_enqueueGlobal_hook, enqueue, __ATOMIC_RELEASE);
    return crt_globalInstalled;
}

void crt_enqueueGlobal(void *job) { swift_task_enqueueGlobal(job); }

void crt_enqueueGlobalAfter(void *job, uint64_t nanoseconds) { swift_task_enqueueGlobalWithDelay(nanoseconds, job); }
