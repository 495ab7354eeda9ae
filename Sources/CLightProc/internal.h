// What the files of this target share.
#pragma once

#include <signal.h>
#include <stdint.h>
#include <ucontext.h>

#if defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define CRT_THREAD_SANITIZED 1
#endif
#endif
#ifndef CRT_THREAD_SANITIZED
#define CRT_THREAD_SANITIZED 0
#endif

// How often waits are repeated. Everything takes many times longer in a program that a sanitizer watches.
#if defined(__has_feature)
#if __has_feature(thread_sanitizer) || __has_feature(address_sanitizer)
#define CRT_SANITIZED 1
#define CRT_PATIENCE 20
#endif
#endif
#ifndef CRT_PATIENCE
#define CRT_SANITIZED 0
#define CRT_PATIENCE 1
#endif

// Ignored by programs that have no handler for it, and rarely used: Go's runtime chose it for the same purpose.
enum { crt_sampleSignal = SIGURG };

// The witness table by which a `ProcTaskExecutor` is recognised, or 0 before it is known. Async-signal-safe.
uintptr_t crt_executorWitness(void);
