// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

// What the program boundary needs from C: the record that a program shares with whoever looks at it after its death, the
// handler that fills it, and system calls that Swift does not see.
#ifndef CFORT_H
#define CFORT_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "CFortGuard.h"

// ------------------------------------------------------------------------------------------------------ the record

enum {
    fort_recordMagic = 0x54524f46,                 // "FORT"
    fort_recordVersion = 2,
    fort_frameLimit = 64,
    fort_moduleLimit = 64,
    fort_eventCount = 256,                         // a power of two
};

// How far a program has come: `fort_record.stage`.
enum { fort_starting = 0, fort_ready = 1, fort_reloading = 2, fort_stopping = 3 };

// Where a file with instructions is mapped. Filled before there is a need, read after the program's death.
typedef struct {
    uint64_t start, end;
    uint64_t bias;                                 // what to subtract from an address to get one of the file
    char path[232];
} fort_module;

// Something that happened, as text. Written by any thread, the oldest are overwritten.
typedef struct {
    _Atomic uint64_t ticket;                       // which event of all it is, counted from 1; 0 while it is written
    int64_t time;                                  // nanoseconds since 1970
    char text[112];                                // UTF-8, ends with a zero
} fort_event;

// How the program died, as far as it could tell: by a signal that could not be contained.
typedef struct {
    _Atomic uint32_t stage;                        // 0: nothing; 1: is being written; 2: complete
    int32_t signal;
    int32_t code;                                  // si_code
    int32_t thread;                                // the thread's number for the kernel
    uint64_t address;                              // si_addr
    int64_t time;                                  // nanoseconds since 1970
    char threadName[16];
    char process[128];                             // path and name of the process that the thread ran; empty: none
    char message[512];                             // what the Swift runtime said
    uint32_t frameCount;
    uint64_t frames[fort_frameLimit];              // addresses within the instructions, innermost first
} fort_death;

// Memory that the program and whoever looks after it share; zero at first. It outlives the program.
typedef struct {
    uint32_t magic;
    uint32_t version;
    uint64_t byteCount;                            // of the whole record
    int32_t pid;
    uint32_t incarnation;                          // counted from 1 by who starts it
    int64_t startTime;                             // nanoseconds since 1970
    _Atomic uint32_t stage;
    _Atomic uint64_t beats;                        // grows as long as the program's executor gets on
    _Atomic uint64_t hangTime;                     // nanoseconds without a beat after which it hangs; 0: nobody looks
    _Atomic uint64_t trapsContained;
    _Atomic uint64_t bytesLeaked;
    char program[64];                              // its name
    char lastWords[256];                           // why it ends, if it ends by itself
    fort_death death;
    uint32_t moduleCount;
    fort_module modules[fort_moduleLimit];
    _Atomic uint64_t eventCount;                   // how many there were; the last of them are in `events`
    fort_event events[fort_eventCount];
} fort_record;

// ------------------------------------------------------------------------------------------------- the environment

/// The environment as `name=value`, ends with NULL; Swift takes `environ` for a variable that anybody might change. Before there are
/// other threads.
char **fort_environment(void);

#include "CFortDeath.h"
#include "CFortHost.h"

#endif
