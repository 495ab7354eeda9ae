// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

// How a program writes down its own death, and what happened before: the handler of fatal signals and the flight recorder.
// Included by CFort.h, behind the record.
#ifndef CFORTDEATH_H
#define CFORTDEATH_H

enum {
    fort_eventTextSize = sizeof(((fort_event *)0)->text),
    fort_lastWordsSize = sizeof(((fort_record *)0)->lastWords),
    fort_rememberedProcesses = 4096,               // a power of two
    fort_processTextSize = 120,
};

/// What the handler asks of others. Called inside the handler: only what is async-signal-safe.
typedef struct {
    /// The number of the process that the calling thread runs; 0: none.
    uint64_t (*processInHand)(void);
    /// Writes addresses within the instructions that a stack stands at, innermost first; returns how many. The registers are
    /// in DWARF order, the stack is readable from `low` to `high`.
    uint32_t (*walk)(const uintptr_t *registers, uintptr_t low, uintptr_t high, uint64_t *frames, uint32_t limit);
} fort_deathWitness;

/// Installs the handler of the signals that end a program by its own fault, once. It fills the record and passes the signal on
/// to who was there before, so the program ends as it would without.
///
/// Before the handlers of containment are installed: these come first then, and pass on only what is not contained. Gives the
/// calling thread a stack for handlers if it has none.
/// Returns 0, or the errno of what failed.
int fort_installDeathHandlers(fort_record *record, const fort_deathWitness *witness);

/// Remembers what a process is called, for the handler. Any thread, no locks; the youngest of those that share a place counts.
void fort_rememberProcess(uint64_t number, const char *text, size_t count);
/// What a process is called that was remembered, ends with a zero; empty if nobody knows. Any thread, also in a handler.
void fort_recallProcess(uint64_t number, char text[fort_processTextSize]);

/// Adds an event to the flight recorder; a text that is too long is cut. Any thread, no locks: an addition and a copy.
///
/// Who takes a ticket owns the place of that number as soon as it has replaced the ticket there by 0, and gives it back with its
/// own ticket. A place that is in use (by a thread that was overtaken by all the others) or has a later ticket is left alone: that
/// event is lost. So a place holds the words of one event, or 0.
void fort_note(fort_record *record, const char *text, size_t count);
/// Copies the event at a place. Returns its ticket; 0 if there is none, it is being written, or it is older than the last
/// `fort_eventCount` ones. Also while others write.
uint64_t fort_readEvent(const fort_record *record, uint32_t place, int64_t *time, char text[fort_eventTextSize]);
/// How many events there were.
uint64_t fort_countOfEvents(const fort_record *record);

/// 0: there is no death; 1: it was being written when the program ended; 2: it is complete.
uint32_t fort_stageOfDeath(const fort_record *record);
const char *fort_processOfDeath(const fort_record *record);
const char *fort_messageOfDeath(const fort_record *record);
const char *fort_threadOfDeath(const fort_record *record);
const uint64_t *fort_framesOfDeath(const fort_record *record);
const fort_module *fort_moduleOfRecord(const fort_record *record, uint32_t index);
fort_module *fort_moduleToFill(fort_record *record, uint32_t index);
const char *fort_pathOfModule(const fort_module *module);
const char *fort_programOfRecord(const fort_record *record);
/// Copies text into a field of the record, cut at the beginning of a character, with a zero behind it.
void fort_copyText(char *field, size_t size, const char *text, size_t count);
void fort_setProgram(fort_record *record, const char *text, size_t count);
/// Any thread, also while it is read: then there may be words of both.
void fort_readLastWords(const fort_record *record, char text[fort_lastWordsSize]);
void fort_setLastWords(fort_record *record, const char *text, size_t count);
void fort_setPathOfModule(fort_module *module, const char *text, size_t count);

void fort_enterStage(fort_record *record, uint32_t stage);
uint32_t fort_stageOfRecord(const fort_record *record);
void fort_countTraps(fort_record *record, uint64_t contained, uint64_t bytesLeaked);
uint64_t fort_trapsOfRecord(const fort_record *record);
uint64_t fort_leakedOfRecord(const fort_record *record);

#endif
