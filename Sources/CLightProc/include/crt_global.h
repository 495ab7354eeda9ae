// The hooks by which the Swift runtime lets a program put its own executor in the place of the global one.
#pragma once

#include <stdbool.h>
#include <stdint.h>

/// Who is asked about each job of the global executor. False: the job is left to the runtime's own executor.
typedef struct crt_globalExecutor {
    bool (*enqueue)(void *job);
    bool (*enqueueAfter)(void *job, uint64_t nanoseconds);
} crt_globalExecutor;

enum {
    crt_globalInstalled = 0,
    crt_globalUnsupported = 1,                  // the runtime has no such hooks
    crt_globalTaken = 2,                        // somebody else has set them
};

/// Puts an executor in the place of the global one, for the rest of the program. Once.
int crt_installGlobalExecutor(crt_globalExecutor executor);

/// Queues a job as if it came from the runtime: the executor is asked about it first.
void crt_enqueueGlobal(void *job);
void crt_enqueueGlobalAfter(void *job, uint64_t nanoseconds);
