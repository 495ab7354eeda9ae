// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

// System calls of the guard and its child that Swift does not see. Each returns -1, or what it says, and sets `errno` when it fails.
#ifndef CFORTGUARD_H
#define CFORTGUARD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/// Makes memory to be shared, of so many bytes, zero; returns a descriptor that programs started later do not get.
int fort_makeMemory(size_t byteCount);

/// A pair of connected sockets that keep messages apart, for `ends[0]` and `ends[1]`; programs started later do not get them.
int fort_makePair(int ends[2]);

/// Blocks every signal for the calling thread and returns a descriptor to read them from. Those for faults too: one that another
/// program sends is read like the others, one of our own making ends the program all the same.
int fort_takeSignals(void);

/// Whether the next signal was there, without waiting. `isFromTerminal`: the whole foreground group has got it.
bool fort_nextSignal(int descriptor, int *signal, bool *isFromTerminal);

/// Sends a message, and a descriptor with it unless that is negative.
bool fort_send(int socket, const void *bytes, size_t count, int descriptor);

/// Receives a message: its length, 0 when the other end is gone, -1 if none is there and `waits` is false. `descriptor`: the one that came with
/// it, or -1; programs started later do not get it.
ssize_t fort_receive(int socket, void *bytes, size_t count, int *descriptor, bool waits);

/// Starts an executable that gets, beside standard input, output and error, these descriptors under the same numbers. All signals have their
/// default actions there, and none is blocked but those that were when the guard was started. Returns its process number; 0 and `errno` if it
/// cannot be started.
pid_t fort_start(const char *path, char *const *arguments, char *const *environment, const int *kept, int keptCount);

/// The calling process, whose only thread this is, is to die with the one that started it. False if that is dead already.
bool fort_dieWithParent(pid_t parent);

/// Whether the calling thread is the one that the process began with.
bool fort_isMainThread(void);

/// Runs what is put into the main queue, for ever. By the main thread. Returns at once where that cannot be had.
void fort_serveMainQueue(void);

/// Tells a child to stop, as another one has taken its place: SIGTERM, with a word that `fort_awaitSignal` knows.
bool fort_retire(pid_t child);

/// Waits for one of these signals, which the calling thread has blocked. `sender`: the process that has sent it, 0: the kernel.
/// `isReplaced`: it comes of `fort_retire`, if `sender` is the guard.
int fort_awaitSignal(const int *signals, int count, pid_t *sender, bool *isReplaced);

/// Ignores SIGPIPE, if nobody has decided about it.
void fort_ignoreBrokenPipes(void);

/// Waits until the other end of a connected socket is closed.
void fort_awaitHangup(int socket);

/// Collects one child that has ended, without waiting; 0: none has.
pid_t fort_collect(int *status);

/// Waits until a descriptor can be read, or so many milliseconds; negative: for ever. `ready`: which can.
int fort_await(const int *descriptors, int count, int milliseconds, bool *ready);

#endif
