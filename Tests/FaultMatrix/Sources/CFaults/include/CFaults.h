// Misdeeds of C code, and stacks with little room left.
#pragma once

#include <stddef.h>

int faults_divide(int dividend, int divisor);
void faults_abort(void);
void faults_trap(void);
void faults_breakpoint(void);
void faults_failAssertion(void);
void faults_runOnce(void (*initialiser)(void));
/// Frees a block twice.
void faults_freeTwice(void);
/// Frees one of the blocks that were prepared; they are too large for the allocator's cache of the thread.
void faults_prepareBlocks(void);
void faults_freeBlock(void);
/// Writes behind the end of a block until the allocator notices.
void faults_damageHeap(void);
/// Reads a page of a mapped file that the file does not have. False when the file cannot be made.
int faults_readBehindFile(void);

/// Calls `body` on the calling thread with about `room` bytes of its stack left.
void faults_withRoom(size_t room, void (*body)(void));

#if defined(__x86_64__)
/// Calls `body` from code that has neither unwind tables nor a frame pointer.
void faults_loseTrail(void (*body)(void));
#endif

/// Imported as an enumeration without further cases, so a switch over it has no default.
typedef enum __attribute__((enum_extensibility(closed))) FaultsSuit : int { FaultsSuitHearts, FaultsSuitSpades } FaultsSuit;
FaultsSuit faults_suitThatIsNone(void);
