// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

#define _GNU_SOURCE
#include "CFort.h"
#include "CLightProc.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

// Where the Swift runtime keeps the text of its last fatal error.
extern _Atomic(char *) *swift_getFatalErrorMessageBuffer(void) __attribute__((weak));

static const int deathSignals[] = {SIGSEGV, SIGBUS, SIGILL, SIGTRAP, SIGFPE, SIGABRT};
enum { deathSignalCount = sizeof deathSignals / sizeof deathSignals[0] };
static struct sigaction formerActions[NSIG];
static _Atomic(fort_record *) ownRecord;
static fort_deathWitness witness;

// ------------------------------------------------------------------------------------------------ text in shared memory

// Texts that may be read while they are written are copied by words; each is released after what came before it.
// async-signal-safe: atomics on the caller's memory.
static void storeWords(void *to, const char *text, size_t count, size_t size) {
    _Atomic uint64_t *words = to;
    if (count >= size) {
        count = size - 1;
        while (count > 0 && ((unsigned char)text[count] & 0xc0) == 0x80) count--;      // not within a character
    }
    for (size_t i = 0; i < size / 8; i++) {
        uint64_t word = 0;
        for (size_t j = 0; j < 8 && i * 8 + j < count; j++) ((unsigned char *)&word)[j] = (unsigned char)text[i * 8 + j];
        // ordering: release: not before the place was taken.
        atomic_store_explicit(&words[i], word, memory_order_release);
    }
}

// async-signal-safe: likewise.
static void loadWords(char *to, const void *from, size_t size) {
    const _Atomic uint64_t *words = from;
    for (size_t i = 0; i < size / 8; i++) {
        // ordering: acquire: before the ticket is looked at again.
        uint64_t word = atomic_load_explicit((_Atomic uint64_t *)&words[i], memory_order_acquire);
        for (size_t j = 0; j < 8; j++) to[i * 8 + j] = ((const char *)&word)[j];
    }
    to[size - 1] = 0;
}

void fort_copyText(char *field, size_t size, const char *text, size_t count) {
    if (count >= size) {
        count = size - 1;
        while (count > 0 && ((unsigned char)text[count] & 0xc0) == 0x80) count--;
    }
    memmove(field, text, count);
    field[count] = 0;
}

_Static_assert(offsetof(fort_record, lastWords) % 8 == 0 && offsetof(fort_event, text) % 8 == 0, "copied by words");
_Static_assert(fort_lastWordsSize % 8 == 0 && fort_eventTextSize % 8 == 0 && fort_processTextSize % 8 == 0, "likewise");

// ------------------------------------------------------------------------------------------------ the flight recorder

// async-signal-safe: the clock, and atomics.
static int64_t wallClock(void) {
    struct timespec now = {0, 0};
    clock_gettime(CLOCK_REALTIME, &now);           // fails for an unknown clock or a bad address only
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

void fort_note(fort_record *record, const char *text, size_t count) {
    // ordering: relaxed: the ticket is ours alone; what it stands for is published with the place.
    uint64_t ticket = atomic_fetch_add_explicit(&record->eventCount, 1, memory_order_relaxed) + 1;
    fort_event *event = &record->events[(ticket - 1) % fort_eventCount];
    uint64_t before = atomic_load_explicit(&event->ticket, memory_order_relaxed);
    // In use, or overtaken: this one is lost.
    if ((before == 0 && ticket > fort_eventCount) || before > ticket) return;
    // ordering: acquire and release: the words of the event before were written before, ours are after.
    if (before != 0 && !atomic_compare_exchange_strong_explicit(&event->ticket, &before, 0, memory_order_acq_rel, memory_order_relaxed))
        return;
    atomic_store_explicit((_Atomic int64_t *)&event->time, wallClock(), memory_order_release);
    storeWords(event->text, text, count, sizeof event->text);
    // ordering: release: publishes the words.
    atomic_store_explicit(&event->ticket, ticket, memory_order_release);
}

uint64_t fort_readEvent(const fort_record *record, uint32_t place, int64_t *time, char text[fort_eventTextSize]) {
    fort_event *event = (fort_event *)&record->events[place % fort_eventCount];
    // ordering: acquire: pairs with the writer's release.
    uint64_t ticket = atomic_load_explicit(&event->ticket, memory_order_acquire);
    *time = atomic_load_explicit((_Atomic int64_t *)&event->time, memory_order_acquire);
    loadWords(text, event->text, fort_eventTextSize);
    uint64_t after = atomic_load_explicit(&event->ticket, memory_order_acquire);
    uint64_t count = fort_countOfEvents(record);
    bool isRecent = ticket <= count && count - ticket < fort_eventCount;
    return ticket == after && ticket != 0 && (ticket - 1) % fort_eventCount == place && isRecent ? ticket : 0;
}

uint64_t fort_countOfEvents(const fort_record *record) {
    return atomic_load_explicit((_Atomic uint64_t *)&record->eventCount, memory_order_acquire);
}

// ------------------------------------------------------------------------------------------------ names of processes

// Of the program's own memory: pages that are not used are none.
static struct { _Atomic uint64_t number; char text[fort_processTextSize]; } processes[fort_rememberedProcesses];
static const uint64_t beingWritten = UINT64_MAX;

void fort_rememberProcess(uint64_t number, const char *text, size_t count) {
    _Atomic uint64_t *place = &processes[number % fort_rememberedProcesses].number;
    uint64_t before = atomic_load_explicit(place, memory_order_relaxed);
    if (before == number || before == beingWritten) return;
    // ordering: acquire and release: as in `fort_note`. Fails if another takes the place: that one stays.
    if (!atomic_compare_exchange_strong_explicit(place, &before, beingWritten, memory_order_acq_rel, memory_order_relaxed)) return;
    storeWords(processes[number % fort_rememberedProcesses].text, text, count, fort_processTextSize);
    atomic_store_explicit(place, number, memory_order_release);
}

void fort_recallProcess(uint64_t number, char text[fort_processTextSize]) {
    _Atomic uint64_t *place = &processes[number % fort_rememberedProcesses].number;
    // ordering: acquire: as in `fort_readEvent`.
    bool isThere = atomic_load_explicit(place, memory_order_acquire) == number;
    loadWords(text, processes[number % fort_rememberedProcesses].text, fort_processTextSize);
    if (!isThere || atomic_load_explicit(place, memory_order_acquire) != number) text[0] = 0;
}

// ------------------------------------------------------------------------------------------------ the handler

// async-signal-safe: system calls, and stores to memory that nobody else uses: one thread gets here at a time.
// The readable memory that a stack pointer is in, as the kernel has it; what is above it, if it stands in the guard below.
static void findStack(uintptr_t stackPointer, uintptr_t *low, uintptr_t *high) {
    static char buffer[4096];
    *low = *high = 0;
    int file = (int)syscall(SYS_openat, AT_FDCWD, "/proc/self/maps", O_RDONLY | O_CLOEXEC);
    if (file < 0) return;                          // no /proc: then there is the first frame only
    // A line: two addresses, and what may be done there. What follows is skipped.
    uintptr_t bounds[2] = {0, 0};
    unsigned field = 0;
    bool isFound = false;
    long count;
    while (!isFound && (count = syscall(SYS_read, file, buffer, sizeof buffer)) > 0) {
        for (long i = 0; i < count && !isFound; i++) {
            char c = buffer[i];
            if (c == '\n') {
                field = 0;
                bounds[0] = bounds[1] = 0;
            } else if (field < 2) {
                if (c == (field == 0 ? '-' : ' ')) field++;
                else bounds[field] = bounds[field] << 4 | (uintptr_t)(c <= '9' ? c - '0' : c - 'a' + 10);
            } else if (field == 2) {
                field = 3;
                // Of what lies above, only what comes right after: a guard is not larger than that.
                bool isAbove = bounds[0] > stackPointer && bounds[0] - stackPointer < (64u << 20);
                if (c == 'r' && ((bounds[0] <= stackPointer && stackPointer < bounds[1]) || isAbove)) {
                    *low = bounds[0];
                    *high = bounds[1];
                    isFound = true;
                }
            }
        }
    }
    syscall(SYS_close, file);
}

// In the order of `crt_copyRegisters`.
#if defined(__x86_64__)
enum { stackPointerNumber = 7, programCounterNumber = 16 };
#else
enum { stackPointerNumber = 31, programCounterNumber = 32 };
#endif

// async-signal-safe: stores to the record, system calls, and what the witness does. What is most certain comes first: should
// one of the later steps fault, the rest is there.
static void fillDeath(fort_death *death, int signal, const siginfo_t *info, const ucontext_t *context) {
    static uintptr_t registers[crt_registerCount];
    death->signal = signal;
    death->code = info->si_code;
    death->thread = (int32_t)syscall(SYS_gettid);
    // A signal that was sent has no address: the words there are who sent it.
    death->address = info->si_code > 0 ? (uint64_t)(uintptr_t)info->si_addr : 0;
    death->time = wallClock();
    syscall(SYS_prctl, PR_GET_NAME, death->threadName, 0, 0, 0);
    crt_copyRegisters(registers, context);
    death->frames[0] = registers[programCounterNumber];
    death->frameCount = 1;
    // ordering: acquire: publishes the text. It stays where it is, for whoever comes after us.
    const char *message = swift_getFatalErrorMessageBuffer
        ? atomic_load_explicit(swift_getFatalErrorMessageBuffer(), memory_order_acquire) : NULL;
    if (message) {
        size_t count = 0;
        while (count < sizeof death->message && message[count]) count++;
        fort_copyText(death->message, sizeof death->message, message, count);
    }
    uint64_t process = witness.processInHand ? witness.processInHand() : 0;
    if (process) {
        fort_recallProcess(process, death->process);
        // Its number behind it, as it is printed elsewhere.
        char digits[24];
        int length = 0;
        for (uint64_t rest = process; rest || length == 0; rest /= 10) digits[length++] = (char)('0' + rest % 10);
        size_t end = strlen(death->process);
        if (end > sizeof death->process - 30) end = sizeof death->process - 30;
        death->process[end++] = '<';
        death->process[end++] = '0';
        death->process[end++] = '.';
        while (length > 0) death->process[end++] = digits[--length];
        death->process[end++] = '>';
        death->process[end] = 0;
    }
    uintptr_t low, high;
    findStack(registers[stackPointerNumber], &low, &high);
    if (witness.walk && high > low) {
        uint32_t count = witness.walk(registers, low, high, death->frames, fort_frameLimit);
        if (count > 0) death->frameCount = count;
    }
}

// async-signal-safe: plain loads, sigaction, and system calls by number; and whatever the former handler does.
// As containment passes on. Returns whether the former handler has dealt with it, so that the program goes on.
static bool passOn(int signal, siginfo_t *info, void *context) {
    const struct sigaction *former = &formerActions[signal];
    bool isSigned = former->sa_flags & SA_SIGINFO;
    if ((isSigned || (former->sa_handler != SIG_DFL && former->sa_handler != SIG_IGN)) && !(former->sa_flags & SA_RESETHAND)) {
        struct sigaction before, now;
        sigaction(signal, NULL, &before);
        unsigned long mask = *(const unsigned long *)&((const ucontext_t *)context)->uc_sigmask;
        mask |= *(const unsigned long *)&former->sa_mask;
        if (!(former->sa_flags & SA_NODEFER)) mask |= 1ul << (signal - 1);
        syscall(SYS_rt_sigprocmask, SIG_SETMASK, &mask, NULL, sizeof mask);
        if (isSigned) former->sa_sigaction(signal, info, context);
        else former->sa_handler(signal);
        // One that ends the program by the signal has put the default back.
        sigaction(signal, NULL, &now);
        return now.sa_sigaction == before.sa_sigaction;
    }
    sigaction(signal, former, NULL);
    if (info->si_code <= 0 || signal == SIGTRAP) syscall(SYS_tgkill, getpid(), syscall(SYS_gettid), signal);
    return false;
}

// Everything reachable from here is async-signal-safe; functions of other objects are bound, see `rehearse`.
static void handleDeath(int signal, siginfo_t *info, void *context) {
    const struct sigaction *former = &formerActions[signal];
    // Somebody wants it to be ignored, and it can be.
    if (!(former->sa_flags & SA_SIGINFO) && former->sa_handler == SIG_IGN && info->si_code <= 0) return;
    int savedErrno = errno;
    // ordering: acquire: publishes the record.
    fort_record *record = atomic_load_explicit(&ownRecord, memory_order_acquire);
    _Atomic uint32_t *stage = &record->death.stage;
    uint32_t none = 0;
    // A copy that `fork` made shares the memory, but is not the program.
    bool isOwn = record->pid == getpid();
    bool isFirst = isOwn && atomic_compare_exchange_strong(stage, &none, 1);
    if (isFirst) {
        fillDeath(&record->death, signal, info, context);
        // ordering: release: publishes the fields to threads that wait below; the dead are read in any order.
        atomic_store_explicit(stage, 2, memory_order_release);
    } else if (isOwn) {
        // Another thread writes: it is not to be ended in the middle of it. Ends: after a second in any case.
        struct timespec moment = {0, 1000000};
        for (int waits = 0; waits < 1000 && atomic_load_explicit(stage, memory_order_acquire) == 1; waits++)
            syscall(SYS_nanosleep, &moment, NULL);
    }
    errno = savedErrno;
    // The program goes on: this was not its death.
    if (passOn(signal, info, context) && isFirst) atomic_store_explicit(stage, 0, memory_order_release);
}

// Not by the handler: does once what it will do. Where symbols are bound lazily the first call of a function in another object
// goes through the dynamic loader, which takes locks; and what the Swift runtime makes at a first use is made now.
static void rehearse(void) {
    static fort_death scratch;
    ucontext_t context;
    siginfo_t info;
    memset(&info, 0, sizeof info);
    if (getcontext(&context) != 0) return;         // cannot fail on Linux
    char text[8];
    fort_copyText(text, sizeof text, "text", strlen("text"));
    fillDeath(&scratch, 0, &info, &context);
    memset(&scratch, 0, sizeof scratch);
    errno = errno;
    (void)getpid();
    syscall(SYS_tgkill, getpid(), syscall(SYS_gettid), 0);
}

int fort_installDeathHandlers(fort_record *record, const fort_deathWitness *who) {
    witness = *who;
    // ordering: release: publishes the record to handlers.
    atomic_store_explicit(&ownRecord, record, memory_order_release);
    rehearse();
    stack_t present;
    if (sigaltstack(NULL, &present) != 0) return errno;
    if (present.ss_flags & SS_DISABLE) {
        // Never freed: the thread that starts the program ends with it.
        size_t size = 256 * 1024;
        void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0);
        if (memory == MAP_FAILED) return errno;
        stack_t alternate = {.ss_sp = memory, .ss_size = size, .ss_flags = 0};
        if (sigaltstack(&alternate, NULL) != 0) return errno;
    }
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_sigaction = handleDeath;
    action.sa_flags = SA_SIGINFO | SA_ONSTACK;
    sigfillset(&action.sa_mask);
    for (int i = 0; i < deathSignalCount; i++) {
        struct sigaction former;
        if (sigaction(deathSignals[i], NULL, &former) != 0) return errno;
        // Installed before.
        if ((former.sa_flags & SA_SIGINFO) && former.sa_sigaction == handleDeath) continue;
        formerActions[deathSignals[i]] = former;
        if (sigaction(deathSignals[i], &action, NULL) != 0) return errno;
    }
    return 0;
}

// ------------------------------------------------------------------------------------------------ fields, for Swift

// The casts take away `const` only: an atomic load reads.
uint32_t fort_stageOfDeath(const fort_record *record) {
    return atomic_load_explicit((_Atomic uint32_t *)&record->death.stage, memory_order_acquire);
}
const char *fort_processOfDeath(const fort_record *record) { return record->death.process; }
const char *fort_messageOfDeath(const fort_record *record) { return record->death.message; }
const char *fort_threadOfDeath(const fort_record *record) { return record->death.threadName; }
const uint64_t *fort_framesOfDeath(const fort_record *record) { return record->death.frames; }
const fort_module *fort_moduleOfRecord(const fort_record *record, uint32_t index) { return &record->modules[index]; }
fort_module *fort_moduleToFill(fort_record *record, uint32_t index) { return &record->modules[index]; }
const char *fort_pathOfModule(const fort_module *module) { return module->path; }
const char *fort_programOfRecord(const fort_record *record) { return record->program; }

void fort_setProgram(fort_record *record, const char *text, size_t count) {
    fort_copyText(record->program, sizeof record->program, text, count);
}
void fort_setLastWords(fort_record *record, const char *text, size_t count) {
    storeWords(record->lastWords, text, count, sizeof record->lastWords);
}
void fort_readLastWords(const fort_record *record, char text[fort_lastWordsSize]) {
    loadWords(text, record->lastWords, fort_lastWordsSize);
}
void fort_setPathOfModule(fort_module *module, const char *text, size_t count) {
    fort_copyText(module->path, sizeof module->path, text, count);
}

// ordering: release and acquire throughout: who sees a stage sees what was written before it was entered.
void fort_enterStage(fort_record *record, uint32_t stage) {
    atomic_store_explicit(&record->stage, stage, memory_order_release);
}
uint32_t fort_stageOfRecord(const fort_record *record) {
    return atomic_load_explicit((_Atomic uint32_t *)&record->stage, memory_order_acquire);
}
void fort_countTraps(fort_record *record, uint64_t contained, uint64_t bytesLeaked) {
    // Traps are counted by several threads at once: the larger counts.
    uint64_t seen = atomic_load_explicit(&record->trapsContained, memory_order_relaxed);
    while (seen < contained && !atomic_compare_exchange_weak_explicit(&record->trapsContained, &seen, contained,
                                                                      memory_order_release, memory_order_relaxed)) {}
    seen = atomic_load_explicit(&record->bytesLeaked, memory_order_relaxed);
    while (seen < bytesLeaked && !atomic_compare_exchange_weak_explicit(&record->bytesLeaked, &seen, bytesLeaked,
                                                                        memory_order_release, memory_order_relaxed)) {}
}
uint64_t fort_trapsOfRecord(const fort_record *record) {
    return atomic_load_explicit((_Atomic uint64_t *)&record->trapsContained, memory_order_acquire);
}
uint64_t fort_leakedOfRecord(const fort_record *record) {
    return atomic_load_explicit((_Atomic uint64_t *)&record->bytesLeaked, memory_order_acquire);
}
